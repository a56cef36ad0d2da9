import { describe, expect, it } from 'vitest';
import { PLAN_DEFAULTS, type Plan } from '../shared/plan.ts';
import { KeyLimits } from './key-limits.ts';
import type { Licence } from './licence.ts';

const terms = { freeAfterMs: 300_000, trialDays: null, tokenTtlMs: 3_600_000, offlineGraceMs: 0 };
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

  it('on every other device, while one asks in a loop', async () => {
    const limits = new KeyLimits({ plan: () => team });
    const key = { id: 'key', planId: 'team', quantity: 1 };
    for (let n = 0; n < 700; n++) await limits.spend(key, 'looping').catch(() => {});
    await expect(limits.spend(key, 'looping')).rejects.toMatchObject({
      code: 'too_many_requests',
      message: expect.stringContaining('for this device'),
    });
    for (let n = 0; n < 570; n++) await limits.spend(key, `device-${n}`);
    await expect(limits.spend(key, 'one-more')).rejects.toMatchObject({ code: 'too_many_requests' });
  });
});

it('places that many asked for at once and none was given are left for the day', async () => {
  const limits = new KeyLimits({ plan: () => team });
  const licence = { key: { rootId: 'key' }, terms: { ...terms, devices: 1 } } as Pick<
    Licence,
    'key' | 'terms'
  >;
  const asked = await Promise.allSettled(Array.from({ length: 100 }, () => limits.spendPlace(licence)));
  const counted = asked.filter((each) => each.status === 'fulfilled');
  expect(counted).toHaveLength(30);
  for (const { value: takeBack } of counted) await takeBack();
  for (let n = 0; n < 30; n++) await limits.spendPlace(licence);
  await expect(limits.spendPlace(licence)).rejects.toMatchObject({ code: 'too_many_requests' });
});
