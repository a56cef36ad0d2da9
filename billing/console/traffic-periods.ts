import type { Traffic } from '../../keystore/keystore.ts';
import { type Bucket, bucketOf } from './latency.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** What the overview can be asked to show: so many stretches of time up to now. */
export const RANGES = {
  '24h': { by: 'hour', count: 24, text: '24 hours' },
  '48h': { by: 'hour', count: 48, text: '48 hours' },
  '30d': { by: 'day', count: 30, text: '30 days' },
  '90d': { by: 'day', count: 90, text: '90 days' },
  '12m': { by: 'month', count: 12, text: '12 months' },
} as const;
export type Range = keyof typeof RANGES;

/** What happened to requests, by what an operator wants to tell apart. */
export type Happened = {
  /** Reached the API, or a proxy was told to let it pass; and was not answered 5xx. */
  passed: number;
  refused: number;
  /** The API answered 5xx, or did not answer, or Tollgate failed. */
  failed: number;
  /** What the gateway answers itself: health, `/whoami`, `/quota`. */
  answered: number;
  /** Refusals and failures by the code of their problem. */
  codes: Map<string, number>;
  /** How long the API took to begin its answers. */
  answers: Bucket[];
};

export type Period = Happened & { label: string; time: string };

/** When the stretches of a range begin, milliseconds since the epoch; the last one is not over. */
export function startsOf(range: Range, now: number): number[] {
  const { by, count } = RANGES[range];
  const back = Array.from({ length: count }, (_, i) => count - 1 - i);
  if (by === 'month') {
    const date = new Date(now);
    return back.map((months) => Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - months));
  }
  const unitMs = by === 'hour' ? HOUR_MS : DAY_MS;
  return back.map((units) => (Math.floor(now / unitMs) - units) * unitMs);
}

/** What happened in each stretch, also in those in which nothing did. */
export function periodsOf(range: Range, starts: readonly number[], traffic: readonly Traffic[]): Period[] {
  const byStart = Map.groupBy(traffic, ({ from }) => from);
  return starts.map((start) => ({ ...namesOf(range, start), ...happened(byStart.get(start) ?? []) }));
}

/** What is counted, put together. */
export function happened(traffic: readonly Traffic[]): Happened {
  const sum: Happened = { passed: 0, refused: 0, failed: 0, answered: 0, codes: new Map(), answers: [] };
  const buckets = new Map<string, number>();
  for (const { what, name, count } of traffic) {
    if (what === 'requests') sum[kindOf(name)] += count;
    else if (what === 'refusals') sum.codes.set(name, (sum.codes.get(name) ?? 0) + count);
    else buckets.set(name, (buckets.get(name) ?? 0) + count);
  }
  sum.answers = [...buckets].flatMap(([name, count]) => bucketOf(name, count) ?? []);
  return sum;
}

function kindOf(name: string): 'passed' | 'refused' | 'failed' | 'answered' {
  const [outcome, status] = name.split(' ');
  if (outcome === 'refused' || outcome === 'answered' || outcome === 'failed') return outcome;
  return status === '5xx' ? 'failed' : 'passed';
}

function namesOf(range: Range, start: number): { label: string; time: string } {
  const time = new Date(start).toISOString();
  const written = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat('en-GB', { timeZone: 'UTC', ...options }).format(start);
  switch (RANGES[range].by) {
    case 'hour':
      return { label: time.slice(11, 16), time: `${time.slice(0, 10)} ${time.slice(11, 16)}` };
    case 'day':
      return { label: written({ day: 'numeric', month: 'short' }), time: time.slice(0, 10) };
    case 'month':
      return {
        label: written({ month: 'short' }),
        time: written({ month: 'long', year: 'numeric' }),
      };
  }
}
