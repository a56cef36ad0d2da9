import type { Recurring } from './prices.ts';
import { day } from './world.ts';

/** `count` intervals after `anchor` (seconds, UTC). A day the month does not have becomes its last. */
export function addInterval(anchor: number, { interval, interval_count }: Recurring, count: number): number {
  const steps = interval_count * count;
  if (interval === 'day') return anchor + steps * day;
  if (interval === 'week') return anchor + steps * 7 * day;
  const from = new Date(anchor * 1000);
  const months = from.getUTCMonth() + (interval === 'year' ? steps * 12 : steps);
  const lastDay = new Date(Date.UTC(from.getUTCFullYear(), months + 1, 0)).getUTCDate();
  const to = new Date(from);
  to.setUTCDate(1);
  to.setUTCFullYear(from.getUTCFullYear(), months, Math.min(from.getUTCDate(), lastDay));
  return Math.floor(to.getTime() / 1000);
}

/** The end of the period that starts at `start`, counted from the billing cycle anchor so that days do not drift. */
export function periodEnd(anchor: number, recurring: Recurring, start: number): number {
  for (let count = 1; ; count++) {
    const end = addInterval(anchor, recurring, count);
    if (end > start) return end;
  }
}
