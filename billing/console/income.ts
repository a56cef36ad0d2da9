import type { IncomeDay, Keystore } from '../../keystore/keystore.ts';
import { currencyDecimals, moneyText } from '../../shared/currency.ts';
import type { PlanCatalogue } from '../../shared/plans.ts';
import { barChart } from './bar-chart.ts';

const DAY_MS = 86_400_000;

/** The ranges that income is shown over, in the order of the page. */
export const INCOME_RANGES = [
  { id: 'month', name: 'This month' },
  { id: '30d', name: 'Last 30 days' },
  { id: '12m', name: '12 months' },
] as const;
export type IncomeRange = (typeof INCOME_RANGES)[number]['id'];

type Sums = { amount: number; givenBack: number; payments: number };

/**
 * "Revenue by plan": what each plan brought in over a range, by currency, with a chart for each currency. What was given
 * back counts against the day on which it was paid. Currencies are never added together.
 *
 * @param now milliseconds since the epoch; days are those of UTC
 */
export async function incomeOver(
  { keystore, plans }: { keystore: Pick<Keystore, 'incomeByDay'>; plans: PlanCatalogue },
  range: IncomeRange,
  now: number,
) {
  const periods = periodsOf(range, now);
  const days = await keystore.incomeByDay({
    firstDay: Date.parse(range === '12m' ? `${periods[0]}-01` : (periods[0] as string)) / DAY_MS,
    lastDay: Math.floor(now / DAY_MS),
  });
  const length = range === '12m' ? 7 : 10;
  const places = plans.plans.map(({ id }) => id);
  const placeOf = (planId: string) => (places.includes(planId) ? places.indexOf(planId) : places.length);
  const currencies = [...Map.groupBy(days, ({ currency }) => currency)].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    range,
    periods,
    currencies: currencies.map(([currency, ofCurrency]) => {
      const byPlan = [...Map.groupBy(ofCurrency, ({ planId }) => planId)].sort(
        ([a], [b]) => placeOf(a) - placeOf(b) || (a < b ? -1 : 1),
      );
      const byPeriod = Map.groupBy(ofCurrency, ({ day }) => dateOf(day).slice(0, length));
      const net = periods.map((period) => {
        const { amount, givenBack } = sumOf(byPeriod.get(period) ?? []);
        return amount - givenBack;
      });
      const money = (units: number) => moneyText(units, currency);
      return {
        currency,
        plans: byPlan.map(([planId, rows]) => ({
          planId,
          name: plans.plan(planId)?.name ?? planId,
          ...moneyOf(sumOf(rows), currency),
        })),
        total: moneyOf(sumOf(ofCurrency), currency),
        chart: barChart({
          title: `Net revenue in ${currency.toUpperCase()} by ${range === '12m' ? 'month' : 'day'}`,
          periods: periods.map((time) => ({ label: range === '12m' ? time : time.slice(5), time })),
          series: [{ name: 'net', tone: 'passed', values: net }],
          text: money,
          tickText: money,
        }),
      };
    }),
    /** A line for each period, plan and currency that has payments, amounts as decimal numbers. */
    lines: [
      ...Map.groupBy(days, (row) => `${dateOf(row.day).slice(0, length)} ${row.currency} ${row.planId}`),
    ].map(([, rows]) => {
      const { day, currency, planId } = rows[0] as IncomeDay;
      const { amount, givenBack, payments } = sumOf(rows);
      const decimal = (units: number) =>
        (units / 10 ** currencyDecimals(currency)).toFixed(currencyDecimals(currency));
      return [
        dateOf(day).slice(0, length),
        planId,
        currency,
        decimal(amount),
        decimal(givenBack),
        decimal(amount - givenBack),
        payments,
      ];
    }),
  };
}

/** The days (`2026-11-29`) or months (`2026-11`) of a range, up to now. */
function periodsOf(range: IncomeRange, now: number): string[] {
  const at = new Date(now);
  const today = Math.floor(now / DAY_MS);
  if (range === '12m') {
    return Array.from({ length: 12 }, (_, n) =>
      new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() - 11 + n)).toISOString().slice(0, 7),
    );
  }
  const count = range === 'month' ? at.getUTCDate() : 30;
  return Array.from({ length: count }, (_, n) => dateOf(today - count + 1 + n));
}

function dateOf(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}

function sumOf(rows: readonly Sums[]): Sums {
  const sum = { amount: 0, givenBack: 0, payments: 0 };
  for (const { amount, givenBack, payments } of rows) {
    sum.amount += amount;
    sum.givenBack += givenBack;
    sum.payments += payments;
  }
  return sum;
}

function moneyOf({ amount, givenBack, payments }: Sums, currency: string) {
  return {
    gross: moneyText(amount, currency),
    givenBack: givenBack === 0 ? '' : moneyText(givenBack, currency),
    net: moneyText(amount - givenBack, currency),
    payments: payments.toLocaleString('en'),
  };
}
