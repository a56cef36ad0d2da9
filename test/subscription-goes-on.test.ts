import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { accessOf } from '../shared/access.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';

const DAY = 86_400;

let test: BillingUnderTest;
beforeEach(async () => {
  test = await startBillingUnderTest();
});
afterEach(() => test.close());

async function subscribe(card = 'success') {
  const { sessionId } = await test.openCheckout('pro');
  await test.pay(sessionId, card);
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
  const { keyId, subscriptionId } = (await test.keystore.findPurchase(sessionId))!;
  return {
    sessionId,
    subscriptionId: subscriptionId!,
    facts: async () => (await test.keystore.findKeyFacts(keyId!))!,
  };
}
const advance = (seconds: number) => test.control('/clock', { advance_seconds: seconds });

it('a renewal extends', async () => {
  const { facts } = await subscribe();
  const before = (await facts()).subscription!.currentPeriodEnd!;
  await advance(32 * DAY);
  await vi.waitFor(async () =>
    expect((await facts()).subscription!.currentPeriodEnd!).toBeGreaterThan(before),
  );
  expect((await facts()).subscription).toMatchObject({ status: 'active', pastDueSince: null });
});

it('a failed renewal keeps access for the grace, and a payment in it brings all back', async () => {
  const { facts, subscriptionId } = await subscribe('renewal_fails');
  await advance(32 * DAY);
  await vi.waitFor(async () => expect((await facts()).subscription).toMatchObject({ status: 'past_due' }));
  const failing = await facts();
  const since = failing.subscription!.pastDueSince!;
  const accessAt = (ms: number) =>
    accessOf(failing, failing.subscription, test.config.plans.plan('pro')!, ms).state;
  expect(accessAt(since)).toBe('active');
  expect(accessAt(since + 14 * DAY * 1000 - 1)).toBe('active');
  expect(accessAt(since + 14 * DAY * 1000)).toBe('suspended');

  const { latest_invoice } = await test.stripe.subscriptions.retrieve(subscriptionId);
  const page = (await test.stripe.invoices.retrieve(latest_invoice as string)).hosted_invoice_url!;
  expect((await fetch(page, { method: 'POST', body: new URLSearchParams({ card: 'success' }) })).ok).toBe(
    true,
  );
  await vi.waitFor(async () =>
    expect((await facts()).subscription).toMatchObject({ status: 'active', pastDueSince: null }),
  );
});

it('cancel at the period end keeps access to the end, then ends it', async () => {
  const { facts, subscriptionId } = await subscribe();
  await test.stripe.subscriptions.update(subscriptionId, { cancel_at_period_end: true });
  await advance(20 * DAY);
  expect((await facts()).subscription).toMatchObject({ status: 'active' });
  await advance(15 * DAY);
  await vi.waitFor(async () => expect((await facts()).subscription).toMatchObject({ status: 'canceled' }));
  expect(accessOf(await facts(), (await facts()).subscription, {}, Date.now())).toEqual({
    state: 'expired',
    code: 'subscription_ended',
  });
});

it('a delayed first payment that fails never gave access', async () => {
  const { sessionId } = await test.openCheckout('pro');
  await test.pay(sessionId, 'bank_debit');
  await test.control(`/checkout/sessions/${sessionId}/fail`);
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'failed', keyId: null }),
  );
  expect(await test.keystore.listKeys({ limit: 10 })).toEqual([]);
});
