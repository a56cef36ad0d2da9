import { describe, expect, it } from 'vitest';
import { PLAN_DEFAULTS, type Plan } from '../shared/plan.ts';
import { KeyLimits } from './key-limits.ts';

const terms = { freeAfterMs: 60_000, trialDays: null, tokenTtlMs: 3_600_000, offlineGraceMs: 0 };
const team: Plan = {
  ...PLAN_DEFAULTS,
  id: 'team',
  name: 'Team',
  perUnit: true,
  licence: { ...terms, devices: 10 },
};

/** How often a key may ask that bought so many, each time for another device. */
async function timesOf(quantity: number): Promise<number> {
  const limits = new KeyLimits({ plan: () => team });
  for (let n = 0; ; n++) {
    try {
      await limits.spend({ id: 'key', planId: 'team', quantity }, `device-${n}`);
    } catch (error) {
      expect(error).toMatchObject({ code: 'too_many_requests' });
      return n;
    }
  }
}

describe('a key may ask', () => {
  it('600 times a minute', async () => {
    expect(await timesOf(1)).toBe(600);
  });

  it('as often as all of its seats give signs of life', async () => {
    expect(await timesOf(30)).toBe(1800);
  });
});
