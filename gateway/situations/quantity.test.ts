import { afterEach, describe, expect, it, vi } from 'vitest';
import { PLAN_DEFAULTS, type Plan } from '../../shared/plan.ts';
import { boughtKey, closeAll, startTestGateway } from '../../test/gateways.ts';
import { EffectivePlans } from '../decision/effective-plans.ts';

afterEach(closeAll);

describe('a plan that is sold by the unit', () => {
  it('has its limits and quota times the quantity, in every place that shows them', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await boughtKey(gateway, { planId: 'seats', quantity: 3 });
    const statuses: number[] = [];
    for (let i = 0; i < 6; i++) statuses.push((await gateway.get('/', plaintext)).status);
    expect(statuses).toEqual(Array(6).fill(200));
    const refused = await gateway.get('/', plaintext);
    expect(refused.headers.get('ratelimit-policy')).toMatch(/^"hour";q=6;w=3600, "month";q=30;w=\d+$/);
    expect(refused.headers.get('ratelimit')).toMatch(/^"hour";r=0;t=\d+, "month";r=24;t=\d+$/);
    expect(refused.headers.get('x-ratelimit-limit')).toBe('6');
    expect(await refused.json()).toMatchObject({
      code: 'rate_limited',
      detail: 'The plan Seats, bought 3 times, allows 6 requests a hour.',
    });
    const multiplied = { limits: [{ name: 'hour', limit: 6 }], quota: { limit: 30, used: 6, remaining: 24 } };
    expect(await (await gateway.get('/quota', plaintext)).json()).toMatchObject(multiplied);
    expect(await (await gateway.get('/whoami', plaintext)).json()).toMatchObject({
      ...multiplied,
      quantity: 3,
    });
  });

  it('follows a change of the quantity while running, and keeps what was counted', async () => {
    const gateway = await startTestGateway();
    const { plaintext, sync } = await boughtKey(gateway, { planId: 'seats', quantity: 1 });
    const get = async () => (await gateway.get('/', plaintext)).status;
    const limits = async () => (await gateway.get('/quota', plaintext)).json();
    expect([await get(), await get(), await get()]).toEqual([200, 200, 429]);
    await sync({ quantity: 2, fetchedAt: 2000 });
    await vi.waitFor(
      async () =>
        expect(await limits()).toMatchObject({
          limits: [{ limit: 4, remaining: 2 }],
          quota: { limit: 20, used: 2 },
        }),
      1000,
    );
    expect([await get(), await get(), await get()]).toEqual([200, 200, 429]);
    await sync({ quantity: 1, fetchedAt: 3000 });
    await vi.waitFor(
      async () =>
        expect(await limits()).toMatchObject({
          limits: [{ limit: 2, remaining: 0 }],
          quota: { limit: 10, used: 4 },
        }),
      1000,
    );
    expect(await get()).toBe(429);
  });

  it('is only multiplied where the plan says so', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await boughtKey(gateway, { planId: 'both', quantity: 3 });
    expect(await (await gateway.get('/whoami', plaintext)).json()).toMatchObject({
      quantity: 3,
      limits: [{ limit: 5 }],
      quota: { limit: 3 },
    });
  });
});

describe('effective plans', () => {
  const seats: Plan = { ...PLAN_DEFAULTS, id: 'seats', name: 'Seats', quota: 10, perUnit: true };
  const plans = new EffectivePlans({ plan: (id) => (id === 'seats' ? seats : undefined) });

  it('are made once for each quantity', () => {
    const five = plans.of({ planId: 'seats', quantity: 5, override: null });
    expect(five?.quota).toBe(50);
    expect(plans.of({ planId: 'seats', quantity: 5, override: null })).toBe(five);
    expect(plans.of({ planId: 'seats', quantity: 1, override: null })).toBe(seats);
    expect(plans.of({ planId: 'gone', quantity: 5, override: null })).toBeUndefined();
  });

  it('are made once for the limits of a key, whatever they are put in the place of', () => {
    const override = { limits: [{ name: 'minute', requests: 9, seconds: 60 }], quota: null };
    const key = { planId: 'seats', quantity: 5, override };
    const own = plans.of(key);
    expect(own).toMatchObject({ limits: override.limits, quota: 50 });
    expect(plans.of(key)).toBe(own);
    expect(plans.of({ ...key, quantity: 2 })).toMatchObject({ limits: override.limits, quota: 20 });
    expect(plans.of({ ...key, planId: 'gone' })).toBeUndefined();
  });

  it('are right for any number of quantities', () => {
    for (let quantity = 1; quantity <= 5000; quantity++)
      expect(plans.of({ planId: 'seats', quantity, override: null })?.quota).toBe(10 * quantity);
    expect(plans.of({ planId: 'seats', quantity: 5, override: null })?.quota).toBe(50);
  });
});
