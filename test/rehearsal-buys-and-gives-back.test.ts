import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type Rehearsal, STEPS } from '../billing/rehearsal/rehearsal.ts';
import type { StripeConfig } from '../shared/config.ts';
import { temporaryFolder } from './keystores.ts';
import { type PreflightRig, startPreflightRig } from './preflight.ts';
import { expectNothingLeft, rehearseOn, stepsThat } from './rehearsal.ts';

/** How long is waited for what does not come, milliseconds. */
const IN_VAIN_MS = 2000;

let rig: PreflightRig;
beforeAll(async () => {
  rig = await startPreflightRig();
});
afterAll(() => rig.close());
afterEach(async () => {
  await rig.control('/faults/clear');
  await rig.control('/delivery', { mode: 'concurrent' });
  await expectNothingLeft(rig);
});

/** As at Stripe, where nothing pays by itself. */
const atStripe = () => ({
  ...rig.context.config,
  stripe: { ...(rig.context.config.stripe as StripeConfig), apiBase: null },
});

/** From now on none arrives, and the rehearsal does not wait long for them. */
async function loseWebhooks(
  rehearsal: Rehearsal,
  delivery: object = { mode: 'dropped', drop_fraction: 1 },
): Promise<void> {
  rehearsal.followWithinMs = IN_VAIN_MS;
  await rig.control('/delivery', delivery);
}

it('goes through a whole purchase, and leaves nothing behind', async () => {
  const results = await rehearseOn(rig);
  expect(results.map(({ id }) => id)).toEqual([...STEPS.map(({ id }) => id), 'give-back']);
  expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual([]);
  // None of these plans has devices.
  expect(stepsThat('skipped', results)).toEqual(['licence']);
  const detailOf = (id: string) => results.find((result) => result.id === id)?.detail;
  expect(detailOf('limit')).toContain('429 rate_limited');
  expect(detailOf('access-ends')).toContain('402 subscription_ended');
  // What the upgrade cost, too.
  expect(detailOf('refund')).toMatch(/\$99 were given back; .*401 revoked_key/);
});

it.each([{ mode: 'dropped', drop_fraction: 1 }, { mode: 'wrong_signature' }])(
  'webhooks $mode: that is named, and the purchase given back',
  async (delivery) => {
    const results = await rehearseOn(rig, {
      followWithinMs: IN_VAIN_MS,
      after: { checkout: () => rig.control('/delivery', delivery) },
    });
    expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual(['webhook']);
    expect(results.find(({ id }) => id === 'webhook')).toMatchObject({
      detail: expect.stringMatching(/evt_\w+ has not arrived/),
      remedy: expect.stringContaining('Webhooks'),
    });
  },
);

it('a gateway that goes on admitting after the cancellation is named', async () => {
  const results = await rehearseOn(rig, {
    after: { licence: (rehearsal) => loseWebhooks(rehearsal) },
  });
  expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual(['access-ends']);
  expect(results.find(({ id }) => id === 'access-ends')).toMatchObject({
    detail: expect.stringContaining('still admits'),
    remedy: expect.stringContaining('npm run reconcile'),
  });
});

it('a portal that does not open is named, and everything after it goes on', async () => {
  const results = await rehearseOn(rig, {
    after: {
      upgrade: () =>
        rig.control('/faults', { count: 1000, status: 500, paths: ['/v1/billing_portal/sessions'] }),
    },
  });
  expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual(['portal']);
  expect(results.find(({ id }) => id === 'portal')?.detail).toContain('503 stripe_unavailable');
  expect(stepsThat('ok', results)).toContain('refund');
});

it('an upgrade that does not reach the key is named', async () => {
  const results = await rehearseOn(rig, {
    after: {
      limit: (rehearsal) => loseWebhooks(rehearsal),
      upgrade: async (rehearsal) => {
        rehearsal.followWithinMs = 20_000;
        await rig.control('/delivery', { mode: 'concurrent' });
      },
    },
  });
  expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual(['upgrade']);
});

it('a path of the API that is no use is named', async () => {
  const results = await rehearseOn(rig, { path: '/health' });
  expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual(['call']);
});

it('at Stripe it waits for a person to pay', async () => {
  let shown = '';
  const results = await rehearseOn(rig, {
    config: atStripe(),
    onCheckout: (url) => {
      shown = url;
      const [sessionId] = /cs_test_\w+/.exec(url) as RegExpExecArray;
      void rig.control(`/checkout/sessions/${sessionId}/pay`, {});
    },
  });
  expect(shown).toContain(rig.sandboxUrl);
  expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual([]);
});

it('when nobody pays in time, the checkout is closed', async () => {
  const results = await rehearseOn(rig, { config: atStripe(), payWithinMs: 100 });
  expect(stepsThat('wrong', results)).toEqual(['payment']);
  expect(results.at(-1)).toMatchObject({
    id: 'give-back',
    detail: 'Nobody paid, and the checkout is closed.',
  });
});

it.each(['payment', 'claim', 'upgrade'])(
  'interrupted after %s, what was bought is given back',
  async (step) => {
    const interrupt = new AbortController();
    const results = await rehearseOn(rig, {
      signal: interrupt.signal,
      after: { [step]: () => interrupt.abort() },
    });
    const next = STEPS[STEPS.findIndex(({ id }) => id === step) + 1]?.id;
    expect(stepsThat('wrong', results)).toEqual([next]);
    expect(results.at(-1)).toMatchObject({ id: 'give-back', verdict: 'ok' });
  },
);

it('interrupted while it waits for a person, the checkout is closed', async () => {
  const interrupt = new AbortController();
  const results = await rehearseOn(rig, {
    config: atStripe(),
    signal: interrupt.signal,
    onCheckout: () => interrupt.abort(),
  });
  expect(results.find(({ id }) => id === 'payment')?.detail).toBe('It was interrupted.');
});

it('what is bought once has nothing to cancel; the refund ends it', async () => {
  const plansFile = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(
    plansFile,
    'plans: { solo: { name: Solo, price: { amount: 49, currency: usd, per: once }, devices: 1 } }\n',
  );
  const once = await startPreflightRig({ plansFile });
  const results = await rehearseOn(once);
  await expectNothingLeft(once);
  await once.close();
  expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual([]);
  expect(stepsThat('skipped', results)).toEqual(['limit', 'upgrade', 'cancellation', 'access-ends']);
});

it('knows thin events too', async () => {
  const thin = await startPreflightRig({ thin: true });
  const results = await rehearseOn(thin);
  await thin.close();
  expect(stepsThat('wrong', results), JSON.stringify(results)).toEqual([]);
});

it('says so when something could not be given back', async () => {
  const results = await rehearseOn(rig, {
    after: {
      portal: () => rig.control('/faults', { count: 1000, status: 500, paths: ['/v1/subscriptions'] }),
    },
  });
  expect(stepsThat('wrong', results)).toEqual(['cancellation', 'give-back']);
  expect(results.at(-1)).toMatchObject({
    detail: expect.stringMatching(/sub_\w+ goes on/),
    remedy: expect.stringContaining('Stripe dashboard'),
  });
  await rig.control('/faults/clear');
  for await (const { id } of rig.stripe.subscriptions.list()) await rig.stripe.subscriptions.cancel(id);
});
