import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addInterval, periodEnd } from './billing-periods.ts';

test('a month from the 31st is the last day of a shorter month, and the 31st again after it', () => {
  const anchor = Date.UTC(2027, 0, 31, 10) / 1000;
  const month = {
    interval: 'month',
    interval_count: 1,
    meter: null,
    trial_period_days: null,
    usage_type: 'licensed',
  } as const;
  const dates = [1, 2, 3].map((count) =>
    new Date(addInterval(anchor, month, count) * 1000).toISOString().slice(0, 10),
  );
  expect(dates).toEqual(['2027-02-28', '2027-03-31', '2027-04-30']);
});

test('a period ends after it starts, and periods follow each other without gaps', () => {
  const interval = fc.constantFrom('day', 'week', 'month', 'year');
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 4e9 }),
      interval,
      fc.integer({ min: 1, max: 6 }),
      (anchor, unit, interval_count) => {
        const recurring = {
          interval: unit,
          interval_count,
          meter: null,
          trial_period_days: null,
          usage_type: 'licensed',
        } as const;
        const end = periodEnd(anchor, recurring, anchor);
        expect(end).toBeGreaterThan(anchor);
        expect(periodEnd(anchor, recurring, end - 1)).toBe(end);
        expect(periodEnd(anchor, recurring, end)).toBeGreaterThan(end);
      },
    ),
  );
});
