import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadPlans, PLAN_DEFAULTS, planFor } from './plans.ts';

const dir = mkdtempSync(join(tmpdir(), 'tollgate-plans-'));
let count = 0;
function load(yaml: string | null, env: Record<string, string> = {}) {
  const file = join(dir, `plans-${count++}.yaml`);
  if (yaml !== null) writeFileSync(file, yaml);
  return loadPlans(env, file, yaml !== null);
}
const PRO = `plans:
  pro:
    name: Pro
    price: { amount: 19.99, currency: usd, per: month }
    stripe_prices: { test: [price_t1, price_t2], live: [price_l1] }
    limits: [{ requests: 600, per: minute }, { requests: 20, per: second }, { requests: 50, per: 10s }]
    quota: 1000
    features: [a-b]
`;

describe('plan catalogue', () => {
  it('the file that comes with the project is valid', () => {
    const { catalogue, problems } = loadPlans({}, 'plans.yaml', true);
    expect(problems).toEqual([]);
    expect(catalogue.plans.map((plan) => [plan.id, plan.hidden])).toEqual([
      ['free', false],
      ['pro', false],
      ['team', false],
      ['internal', true],
    ]);
  });

  it('reads limits, price and quota, shortest window first', () => {
    const { catalogue, problems } = load(PRO);
    expect(problems).toEqual([]);
    expect(catalogue.plan('pro')).toMatchObject({
      price: { unitAmount: 1999, currency: 'usd', interval: 'month' },
      limits: [
        { name: 'second', requests: 20, seconds: 1 },
        { name: '10s', requests: 50, seconds: 10 },
        { name: 'minute', requests: 600, seconds: 60 },
      ],
      quota: 1000,
      hidden: false,
    });
  });

  it('reads how long a purchase lasts, what a quantity does, trials and rules of its own', () => {
    const { catalogue, problems } = load(`plans:
  plain: { name: Plain }
  pass:
    name: Day pass
    price: { amount: 5, currency: usd, per: once }
    quota: { requests: 500, per: purchase }
    access_days: 30
    per_unit: true
    access: { refund: keep, dispute: allow }
  trial: { name: Trial, trial: { days: 14, once: true }, quota: { requests: 7, per: month } }
`);
    expect(problems).toEqual([]);
    expect(catalogue.plan('plain')).toEqual({ ...PLAN_DEFAULTS, id: 'plain', name: 'Plain' });
    expect(catalogue.plan('pass')).toMatchObject({
      quota: 500,
      quotaPer: 'purchase',
      accessDays: 30,
      perUnit: true,
      access: { refund: 'keep', dispute: 'allow' },
    });
    expect(catalogue.plan('trial')).toMatchObject({
      trial: { days: 14, once: true },
      quota: 7,
      quotaPer: 'month',
    });
  });

  it('reads features with values, and what a key grants as a licence', () => {
    const { catalogue, problems } = load(`plans:
  locked: { name: Locked, devices: 3, features: { export: true, projects: 10, region: eu, none: false } }
  floating: { name: Floating, devices: { count: 5, free_after: 15m }, trial_days: 7, token_ttl: 1h, offline_grace: 0h, per_unit: true }
`);
    expect(problems).toEqual([]);
    expect(catalogue.plan('locked')).toMatchObject({
      features: ['export', 'projects', 'region'],
      featureValues: { projects: 10, region: 'eu' },
      licence: {
        devices: 3,
        freeAfterMs: null,
        trialDays: null,
        tokenTtlMs: 86_400_000,
        offlineGraceMs: 259_200_000,
      },
    });
    const floating = catalogue.plan('floating')!;
    expect(floating.licence).toEqual({
      devices: 5,
      freeAfterMs: 900_000,
      trialDays: 7,
      tokenTtlMs: 3_600_000,
      offlineGraceMs: 0,
    });
    const { catalogue: plain } = load(
      'plans:\n  seats: { name: S, devices: { count: 5, free_after: 15m } }\n',
    );
    // A token that outlasts its seat would serve two.
    expect(plain.plan('seats')?.licence).toMatchObject({ tokenTtlMs: 900_000, offlineGraceMs: 0 });
    const { catalogue: bounds } = load(`plans:
  least: { name: L, devices: { count: 5, free_after: 5m } }
  most: { name: M, devices: { count: 5, free_after: 366d } }
`);
    expect(bounds.plan('least')?.licence).toMatchObject({ freeAfterMs: 300_000, tokenTtlMs: 300_000 });
    expect(bounds.plan('most')?.licence?.tokenTtlMs).toBe(366 * 86_400_000);
    expect(planFor(floating, 4).licence).toMatchObject({ devices: 20, trialDays: 7 });
  });

  it.each([
    ['token_ttl: 1h', /plans\.p\.token_ttl: is for licences; say with `devices`/],
    ['devices: 0', /plans\.p\.devices/],
    ['devices: 3, token_ttl: 1m', /plans\.p\.token_ttl: is between 5m and 366d/],
    ['devices: 3, offline_grace: 72', /plans\.p\.offline_grace: is a time such as 30m, 72h or 7d/],
    ['devices: 3m', /plans\.p\.devices: is a number, or for floating seats \{ count: 10, free_after: 15m \}/],
    ['devices: { count: 3, free_after: 4m }', /plans\.p\.devices\.free_after: is between 5m and 366d; for/],
    ['devices: { count: 3, free_after: 367d }', /plans\.p\.devices\.free_after: is between 5m and 366d; for/],
    ['features: { Export: true }', /plans\.p\.features/],
    ['features: { export: no }', /plans\.p\.features\.export: is a text that may be meant as true or false/],
    ['features: { projects: 0 }', /plans\.p\.features\.projects: is not above 0/],
  ])('refuses what no licence can be: %s', (rest, message) => {
    const { problems } = load(`plans:\n  p: { name: P, ${rest} }\n`);
    expect(problems.map((problem) => problem.message).join()).toMatch(message);
  });

  it('a quantity multiplies limits and quota where the plan says so', () => {
    const plan = {
      ...PLAN_DEFAULTS,
      id: 'p',
      name: 'P',
      quota: 10,
      limits: [{ name: 'm', requests: 5, seconds: 60 }],
    };
    expect(planFor(plan, 3)).toBe(plan);
    expect(planFor({ ...plan, perUnit: true }, 3)).toMatchObject({ quota: 30, limits: [{ requests: 15 }] });
    expect(planFor({ ...plan, perUnit: true }, 0)).toMatchObject({ quota: 10, limits: [{ requests: 5 }] });
  });

  it.each([
    ['per: month }, access_days: 3', /plans\.p\.access_days: is for what is paid once/],
    ['per: month }, quota: { requests: 5, per: purchase }', /plans\.p\.quota: a quota per purchase/],
    ['per: once }, trial: { days: 3 }', /plans\.p\.trial: a plan that is paid once has no trial/],
    ['per: once }, access: { canceled: allow }', /plans\.p\.access: Unrecognized key: "canceled"/],
    ['per: once }, access: { paused: revoke }', /plans\.p\.access\.paused: is allow or suspend/],
  ])('refuses what cannot be meant: %s', (rest, message) => {
    const { problems } = load(`plans:\n  p: { name: P, price: { amount: 1, currency: usd, ${rest} }\n`);
    expect(problems.map((problem) => problem.message).join()).toMatch(message);
  });

  it('knows the mode of a price: the wrong one is named, an unknown price is never a plan', () => {
    const { catalogue } = load(PRO);
    expect(catalogue.planForPrice('price_t2', 'test')).toMatchObject({ id: 'pro' });
    expect(catalogue.planForPrice('price_t1', 'live')).toBe('wrong_mode');
    expect(catalogue.planForPrice('price_l1', 'live')).toMatchObject({ id: 'pro' });
    expect(catalogue.planForPrice('price_x', 'test')).toBe('unknown');
    expect(catalogue.priceForPlan('pro', 'test')).toBe('price_t1');
    expect(catalogue.priceForPlan('pro', 'live')).toBe('price_l1');
    expect(catalogue.priceForPlan('nope', 'live')).toBeUndefined();
  });

  it.each([
    ['STRIPE_PRICE_MAP', { STRIPE_PRICE_MAP: 'price_e1:pro; price_e2:pro' }, 'price_e1', 'price_e1'],
    ['JSON', { STRIPE_PRICE_MAP: '{"price_e1":"pro"}' }, 'price_e1', 'price_e1'],
    ['PRICE_ID_PRO', { PRICE_ID_PRO: 'price_e1' }, 'price_e1', 'price_e1'],
    ['PRICE_ID_TEST_PRO', { PRICE_ID_TEST_PRO: 'price_e1' }, 'price_e1', 'price_l1'],
    ['PRICE_ID_LIVE_PRO', { PRICE_ID_LIVE_PRO: 'price_e1' }, 'price_t1', 'price_e1'],
  ])('%s stands on top of the file', (_name, env, test, live) => {
    const { catalogue, problems } = load(PRO, env as unknown as Record<string, string>);
    expect(problems).toEqual([]);
    expect(catalogue.priceForPlan('pro', 'test')).toBe(test);
    expect(catalogue.priceForPlan('pro', 'live')).toBe(live);
  });

  it('needs no file: one plan from the environment', () => {
    const { catalogue, problems } = load(null, { RATE_LIMIT_PRO: '600', PRICE_ID_PRO: 'price_1' });
    expect(problems).toEqual([]);
    expect(catalogue.plans).toHaveLength(1);
    expect(catalogue.plan('pro')?.limits).toEqual([{ name: 'minute', requests: 600, seconds: 60 }]);
    expect(catalogue.planForPrice('price_1', 'live')).toMatchObject({ id: 'pro', name: 'Pro' });
  });

  it('RATE_LIMIT_<PLAN> replaces the minute window and leaves the others', () => {
    const { catalogue } = load(PRO, { RATE_LIMIT_PRO: '7' });
    expect(catalogue.plan('pro')?.limits.map((limit) => limit.requests)).toEqual([20, 50, 7]);
  });

  it.each([
    ['nothing defined', null, {}, /no plan is defined/],
    ['broken YAML', 'plans: [', {}, /cannot be read/],
    ['unknown field', 'plans: { pro: { name: Pro, limit: 3 } }', {}, /plans\.pro.*limit/],
    [
      'bad window',
      'plans: { pro: { name: Pro, limits: [{ requests: 1, per: fortnight }] } }',
      {},
      /limits\.0\.per/,
    ],
    [
      'a window that no timer can hold',
      'plans: { pro: { name: Pro, limits: [{ requests: 1, per: 25d }] } }',
      {},
      /24 days/,
    ],
    [
      'two limits for one window',
      'plans: { p: { name: P, limits: [{ requests: 1, per: minute }, { requests: 2, per: 60s }] } }',
      {},
      /two limits/,
    ],
    [
      'a price for two plans',
      'plans: { a: { name: A }, b: { name: B } }',
      { STRIPE_PRICE_MAP: 'price_1:a;price_1:b' },
      /two plans/,
    ],
    ['a plan that does not exist', PRO, { STRIPE_PRICE_MAP: 'price_1:gold' }, /"gold", which does not exist/],
    ['a price map that is not JSON', PRO, { STRIPE_PRICE_MAP: '{price_1}' }, /not valid JSON/],
    ['an id that is not a price', PRO, { PRICE_ID_PRO: 'prod_1' }, /not a Stripe price id/],
  ])('says what is wrong: %s', (_name, yaml, env, message) => {
    const { problems } = load(yaml as string | null, env as unknown as Record<string, string>);
    expect(problems.map((problem) => problem.message).join('\n')).toMatch(message as RegExp);
  });
});
