import { type BarChart, barChart } from './bar-chart.ts';

const DAY_MS = 86_400_000;

/** A chart of what a key used by day (days since the epoch), from `firstDay` to `lastDay`. */
export function usageChart(
  days: readonly { day: number; requests: number }[],
  firstDay: number,
  lastDay: number,
): BarChart {
  const counted = new Map(days.map(({ day, requests }) => [day, requests]));
  const shown = Array.from({ length: lastDay - firstDay + 1 }, (_, i) => firstDay + i);
  return barChart({
    title: `Requests by day over the last ${shown.length} days`,
    periods: shown.map((day) => {
      const date = new Date(day * DAY_MS).toISOString().slice(0, 10);
      return { label: date.slice(5), time: date };
    }),
    series: [{ name: 'requests', tone: 'passed', values: shown.map((day) => counted.get(day) ?? 0) }],
  });
}
