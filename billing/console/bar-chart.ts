/** Of the drawing, in CSS pixels: it is as wide as there is room. */
const HEIGHT = 170;
/** Below it, for the times. */
const FOOT = 24;
const MOST_TICKS = 4;
const MOST_LABELS = 6;
/** Anything that was counted can be seen. */
const LEAST_HEIGHT = 1.5;

/** What one colour of a chart stands for, and its value in each period; `null`: there is none. */
export type Series = { name: string; tone: string; values: readonly (number | null)[] };

export type ChartInput = {
  /** What it shows, in a few words. */
  title: string;
  /** From the oldest on. `label` stands below a bar where there is room, `time` says it in full. */
  periods: readonly { label: string; time: string }[];
  series: readonly Series[];
  /** `stacked`: values add up; `levels`: each is where its part of the bar ends, so that none is below the one before. */
  as?: 'stacked' | 'levels';
  /** How a value is written, in full and at the axis. */
  text?: (value: number) => string;
  tickText?: (value: number) => string;
  /** The least step between two lines: 1 for what is counted. */
  leastStep?: number;
};

export type BarChart = ReturnType<typeof barChart>;

/**
 * Lays out a chart of bars, for `views/console/chart.eta`: across in percent, so that it fits any screen and its text keeps its
 * size; up and down in pixels.
 */
export function barChart({ title, periods, series, as = 'stacked', ...how }: ChartInput) {
  const { text = countText, tickText = compactText, leastStep = 1 } = how;
  const tops = periods.map((_, i) => topsOf(series, i, as));
  const most = Math.max(0, ...tops.map((each) => each.at(-1) ?? 0));
  const step = stepFor(most, leastStep);
  const scale = HEIGHT / (Math.max(1, Math.ceil(most / step)) * step);
  const wide = 100 / periods.length;
  const every = Math.ceil(periods.length / MOST_LABELS);
  const ticks: { y: number; text: string }[] = [];
  for (let value = 0; value * scale <= HEIGHT + 0.01; value += step)
    ticks.push({ y: round(HEIGHT - value * scale), text: tickText(value) });
  return {
    title,
    height: HEIGHT,
    wholeHeight: HEIGHT + FOOT,
    ticks,
    bars: tops.flatMap((each, i) => barsOf(each, i * wide, wide, scale, series)),
    periods: periods.map(({ time }, i) => ({
      x: round(i * wide),
      width: round(wide),
      time,
      values: series.map(({ values }) => valueText(values[i], text)),
      text: `${time}: ${series.map(({ name, values }) => `${name} ${valueText(values[i], text)}`).join(', ')}`,
    })),
    labels: periods.flatMap(({ label }, i) =>
      (periods.length - 1 - i) % every === 0 ? [{ x: round((i + 0.5) * wide), text: label }] : [],
    ),
    series: series.map(({ name, tone }) => ({ name, tone })),
    most: text(most),
    isEmpty: most === 0,
  };
}

/** Where each part of a bar ends. */
function topsOf(series: readonly Series[], i: number, as: 'stacked' | 'levels'): number[] {
  let top = 0;
  return series.map(({ values }) => {
    const value = values[i] ?? 0;
    top = as === 'stacked' ? top + value : Math.max(top, value);
    return top;
  });
}

function barsOf(tops: readonly number[], x: number, wide: number, scale: number, series: readonly Series[]) {
  let base = 0;
  return tops.flatMap((top, i) => {
    if (top === base) return [];
    const height = Math.max(LEAST_HEIGHT, (top - base) * scale);
    const y = HEIGHT - base * scale - height;
    base = top;
    return [
      {
        x: round(x + wide * 0.1),
        y: round(y),
        width: round(wide * 0.8),
        height: round(height),
        tone: series[i]?.tone,
      },
    ];
  });
}

/** A step of 1, 2 or 5, times a power of ten, that has few lines suffice. */
function stepFor(most: number, least: number): number {
  const rough = Math.max(most / MOST_TICKS, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((each) => each * power >= rough * 0.9999) ?? 10;
  return factor * power;
}

function valueText(value: number | null | undefined, text: (value: number) => string): string {
  return value === null || value === undefined ? '–' : text(value);
}

export function countText(count: number): string {
  return count.toLocaleString('en');
}

const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
function compactText(count: number): string {
  return COMPACT.format(count);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
