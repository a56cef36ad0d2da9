import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { freePort } from '../scripts/free-port.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { type RunningProgram, runProgram, startProgramUntil } from './processes.ts';

/** Rule 9: a change reaches every gateway within a second. The answer is looked for this long before the test gives up. */
const ONE_SECOND = { timeout: 1000, interval: 20 };

let test: BillingUnderTest;
let gateway: RunningProgram;
let gatewayUrl: string;
beforeAll(async () => {
  test = await startBillingUnderTest();
  const port = await freePort();
  gatewayUrl = `http://127.0.0.1:${port}`;
  const { STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET, STRIPE_API_BASE, ...environment } = test.environment;
  gateway = await startProgramUntil(/gateway listens/, 'gateway/main.ts', {
    ...environment,
    GATEWAY_PORT: String(port),
    INTERNAL_PORT: '0',
  });
});
afterAll(async () => {
  expect(await gateway.stop()).toBe(0);
  await test.close();
});

async function newKey(plan: string) {
  const sessionId = await test.buy(plan);
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
  const claim = await fetch(`${test.url}/billing/success/claim`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ session_id: sessionId }),
  });
  const { key, key_id } = (await claim.json()) as { key: string; key_id: string };
  const { subscriptionId } = (await test.keystore.findPurchase(sessionId))!;
  return { key, keyId: key_id, sessionId, subscriptionId: subscriptionId! };
}
const whoami = async (key: string) => {
  const response = await fetch(`${gatewayUrl}/whoami`, { headers: { 'X-API-Key': key } });
  return { status: response.status, body: (await response.json()) as Record<string, never> };
};

it('a new key works at once', async () => {
  const { key } = await newKey('pro');
  expect(await whoami(key)).toMatchObject({ status: 200, body: { plan: { id: 'pro' } } });
});

it('a revocation by an operator in a third process', async () => {
  const { key, keyId, sessionId, subscriptionId } = await newKey('pro');
  expect((await whoami(key)).status).toBe(200);
  const revoked = await runProgram('scripts/keys.ts', test.environment, ['revoke', keyId]);
  expect(revoked).toMatchObject({ code: 0, output: `Key ${keyId} is revoked for good.\n` });
  await vi.waitFor(
    async () => expect(await whoami(key)).toMatchObject({ status: 401, body: { code: 'revoked_key' } }),
    ONE_SECOND,
  );
  // Rule 6: neither the success page nor a change at Stripe brings it back.
  await fetch(`${test.url}/billing/success?session_id=${sessionId}`);
  const [item] = (await test.stripe.subscriptions.retrieve(subscriptionId)).items.data;
  await test.stripe.subscriptions.update(subscriptionId, {
    items: [{ id: item!.id, price: test.prices.team! }],
  });
  await vi.waitFor(async () =>
    expect(await test.keystore.findSubscription(subscriptionId)).toMatchObject({ planId: 'team' }),
  );
  expect(await whoami(key)).toMatchObject({ status: 401, body: { code: 'revoked_key' } });
});

it('a plan change: new limits without a new key', async () => {
  const { key, subscriptionId } = await newKey('pro');
  expect((await whoami(key)).body.plan).toMatchObject({ id: 'pro' });
  const [item] = (await test.stripe.subscriptions.retrieve(subscriptionId)).items.data;
  await test.stripe.subscriptions.update(subscriptionId, {
    items: [{ id: item!.id, price: test.prices.team! }],
  });
  await vi.waitFor(
    async () => expect(await whoami(key)).toMatchObject({ body: { plan: { id: 'team' } } }),
    ONE_SECOND,
  );
});

it('a cancellation ends it, and cancel-at-period-end does not', async () => {
  const { key, subscriptionId } = await newKey('pro');
  await test.stripe.subscriptions.update(subscriptionId, { cancel_at_period_end: true });
  await vi.waitFor(async () => expect(await lastChange(key)).toContain('cancel_at_period_end'));
  expect((await whoami(key)).status).toBe(200);
  await test.stripe.subscriptions.cancel(subscriptionId);
  await vi.waitFor(
    async () =>
      expect(await whoami(key)).toMatchObject({ status: 402, body: { code: 'subscription_ended' } }),
    ONE_SECOND,
  );
});

async function lastChange(key: string): Promise<string | null | undefined> {
  const { body } = await whoami(key);
  return (await test.keystore.keyHistory(String(body.key_id))).at(-1)?.details;
}
