import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';
import { temporaryFolder } from '../test/keystores.ts';

const DAY = 86_400;
const PLANS = `plans:
  basic: { name: Basic, price: { amount: 5, currency: usd, per: month }, limits: [{ requests: 5, per: minute }] }
  pro: { name: Pro, price: { amount: 19, currency: usd, per: month }, limits: [{ requests: 50, per: minute }] }
  seats: { name: Seats, per_unit: true, price: { amount: 3, currency: usd, per: month }, limits: [{ requests: 10, per: minute }] }
  tried: { name: Tried, trial: { days: 14, once: true }, price: { amount: 9, currency: usd, per: month } }
  week: { name: Week, access_days: 7, price: { amount: 4, currency: usd, per: once } }
  ever: { name: Ever, price: { amount: 40, currency: usd, per: once } }
`;

let test: BillingUnderTest;
afterEach(() => test?.close());

/** Billing with plans of all kinds. */
async function start(): Promise<void> {
  const file = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(file, PLANS);
  test = await startBillingUnderTest({ PLANS_FILE: file });
}
const provisioned = async (sessionId: string) => {
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
  return (await test.keystore.findPurchase(sessionId))!;
};
const factsOf = async (id: string) => (await test.keystore.findKeyFacts(id))!;
const settled = () =>
  vi.waitFor(async () => expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }));
/** Pays a session made by API: several items, quantities, a customer that exists. */
async function buyItems(
  items: { price: string; quantity: number }[],
  more: { customer?: string; mode?: 'payment' | 'subscription' } = {},
) {
  const { mode = 'subscription', ...rest } = more;
  const session = await test.stripe.checkout.sessions.create({
    mode,
    line_items: items,
    success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
    ...rest,
  });
  await test.pay(session.id);
  return provisioned(session.id);
}

describe('what was bought', () => {
  it('of several plans in one subscription the last in the plan file counts; add-ons say nothing', async () => {
    await start();
    const product = await test.stripe.products.create({ name: 'Support' });
    const addOn = await test.stripe.prices.create({
      product: product.id,
      currency: 'usd',
      unit_amount: 100,
      recurring: { interval: 'month' },
    });
    const { keyId } = await buyItems([
      { price: test.prices.pro!, quantity: 1 },
      { price: test.prices.basic!, quantity: 1 },
      { price: addOn.id, quantity: 3 },
    ]);
    expect(await factsOf(keyId!)).toMatchObject({ planId: 'pro', quantity: 1 });
  });

  it('a quantity is kept, and follows the subscription live', async () => {
    await start();
    const { keyId, subscriptionId } = await buyItems([{ price: test.prices.seats!, quantity: 3 }]);
    expect(await factsOf(keyId!)).toMatchObject({ planId: 'seats', quantity: 3 });
    const [item] = (await test.stripe.subscriptions.retrieve(subscriptionId!)).items.data;
    await test.stripe.subscriptions.update(subscriptionId!, { items: [{ id: item!.id, quantity: 7 }] });
    await vi.waitFor(async () => expect((await factsOf(keyId!)).quantity).toBe(7));
  });

  it('a one-time purchase lasts as its plan says', async () => {
    await start();
    const ever = await provisioned(await test.buy('ever'));
    expect((await factsOf(ever.keyId!)).expiresAt).toBeNull();
    const week = await provisioned(await test.buy('week'));
    expect((await factsOf(week.keyId!)).expiresAt).toBe(week.provisionedAt! + 7 * DAY * 1000);
  });
});

describe('customers', () => {
  it('a second purchase by the same customer is a second key; each has its own subscription', async () => {
    await start();
    const customer = await test.stripe.customers.create({ email: 'two@example.com' });
    const first = await buyItems([{ price: test.prices.basic!, quantity: 1 }], { customer: customer.id });
    const second = await buyItems([{ price: test.prices.pro!, quantity: 1 }], { customer: customer.id });
    expect(second.customerId).toBe(first.customerId);
    await test.stripe.subscriptions.cancel(first.subscriptionId!);
    await vi.waitFor(async () =>
      expect((await factsOf(first.keyId!)).subscription).toMatchObject({ status: 'canceled' }),
    );
    expect(await factsOf(second.keyId!)).toMatchObject({
      planId: 'pro',
      subscription: { status: 'active' },
      revokedAt: null,
    });
  });

  it('the same address twice is two customers, and a new address is taken over from Stripe', async () => {
    await start();
    const ids: { ours: string; stripe: string }[] = [];
    for (const email of ['same@example.com', 'same@example.com']) {
      const customer = await test.stripe.customers.create({ email });
      const bought = await buyItems([{ price: test.prices.pro!, quantity: 1 }], { customer: customer.id });
      ids.push({ ours: bought.customerId!, stripe: customer.id });
    }
    expect(ids[0]!.ours).not.toBe(ids[1]!.ours);
    await test.stripe.customers.update(ids[1]!.stripe, { email: 'new@example.com' });
    await vi.waitFor(async () =>
      expect(await test.keystore.findCustomer(ids[1]!.ours)).toMatchObject({ email: 'new@example.com' }),
    );
    expect(await test.keystore.findCustomer(ids[0]!.ours)).toMatchObject({ email: 'same@example.com' });
  });

  it('deleted at Stripe: the subscription ends, what was paid once stays, the address goes', async () => {
    await start();
    const customer = await test.stripe.customers.create({ email: 'gone@example.com' });
    const subscribed = await buyItems([{ price: test.prices.pro!, quantity: 1 }], { customer: customer.id });
    const once = await buyItems([{ price: test.prices.ever!, quantity: 1 }], {
      customer: customer.id,
      mode: 'payment',
    });
    // Only the customer's own event arrives.
    await test.control('/delivery', { mode: 'paused' });
    await test.stripe.customers.del(customer.id);
    const [deleted] = (await test.stripe.events.list({ type: 'customer.deleted' })).data;
    await test.control(`/events/${deleted!.id}/deliver`);
    await vi.waitFor(async () =>
      expect((await factsOf(subscribed.keyId!)).subscription).toMatchObject({ status: 'canceled' }),
    );
    expect(await factsOf(once.keyId!)).toMatchObject({ subscription: null, revokedAt: null });
    expect(await test.keystore.findCustomer(customer.id)).toMatchObject({ email: null });
  });

  it('what Stripe says a customer is entitled to is known', async () => {
    await start();
    const customer = await test.stripe.customers.create({ email: 'rights@example.com' });
    const { keyId } = await buyItems([{ price: test.prices.basic!, quantity: 1 }], { customer: customer.id });
    expect((await factsOf(keyId!)).entitlements).toEqual([]);
    const feature = await test.stripe.entitlements.features.create({
      name: 'Exports',
      lookup_key: 'exports',
    });
    const { product } = await test.stripe.prices.retrieve(test.prices.pro!);
    await test.stripe.products.createFeature(product as string, { entitlement_feature: feature.id });
    await buyItems([{ price: test.prices.pro!, quantity: 1 }], { customer: customer.id });
    await vi.waitFor(async () => expect((await factsOf(keyId!)).entitlements).toEqual(['exports']));
  });
});

describe('a trial that a person has only once', () => {
  const trial = async (email: string) => {
    const { sessionId } = await test.openCheckout('tried');
    await test.control(`/checkout/sessions/${sessionId}/pay`, { card: 'success', email });
    return sessionId;
  };

  it('is refused the second time, until the subscription is paid; nothing has to be bought again', async () => {
    await start();
    await provisioned(await trial('once@example.com'));
    await test.control('/clock', { advance_seconds: 60 });
    const again = await trial('once@example.com');
    await vi.waitFor(async () =>
      expect(await test.keystore.findPurchase(again)).toMatchObject({
        status: 'pending',
        failure: 'trial_used',
      }),
    );
    await settled();
    expect(await test.keystore.findPurchase(again)).toMatchObject({ keyId: null });
    await provisioned(await trial('other@example.com'));
    await test.control('/clock', { advance_seconds: 15 * DAY });
    const paid = await provisioned(again);
    expect((await factsOf(paid.keyId!)).subscription).toMatchObject({ status: 'active' });
  });

  it('counts the earlier one, in whichever order they are looked at', async () => {
    await start();
    await test.control('/delivery', { mode: 'paused' });
    const first = await trial('order@example.com');
    await test.control('/clock', { advance_seconds: 60 });
    const second = await trial('order@example.com');
    const status = async (id: string) =>
      ((await (await fetch(`${test.url}/billing/success?session_id=${id}`)).json()) as { status: string })
        .status;
    expect(await status(second)).not.toBe('ready');
    expect(await status(first)).toBe('ready');
    expect(await status(second)).not.toBe('ready');
  });

  it('is not offered again where the address is known beforehand', async () => {
    await start();
    await provisioned(await trial('known@example.com'));
    const trialOf = async (email: string) => {
      const { sessionId } = await test.openCheckout('tried', { customer_email: email });
      await test.pay(sessionId);
      const { subscriptionId } = await provisioned(sessionId);
      return (await test.stripe.subscriptions.retrieve(subscriptionId!)).trial_end;
    };
    expect(await trialOf('known@example.com')).toBeNull();
    expect(await trialOf('fresh@example.com')).not.toBeNull();
  });
});

describe('payments', () => {
  it('a first bank debit that fails and is paid in another way later: the key comes by itself', async () => {
    await start();
    const { sessionId } = await test.openCheckout('pro');
    await test.pay(sessionId, 'bank_debit_fails');
    const { subscription } = await test.stripe.checkout.sessions.retrieve(sessionId);
    await test.control(`/checkout/sessions/${sessionId}/fail`);
    await vi.waitFor(async () =>
      expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'failed' }),
    );
    const { latest_invoice } = await test.stripe.subscriptions.retrieve(subscription as string);
    const page = (await test.stripe.invoices.retrieve(latest_invoice as string)).hosted_invoice_url!;
    expect((await fetch(page, { method: 'POST', body: new URLSearchParams({ card: 'success' }) })).ok).toBe(
      true,
    );
    await provisioned(sessionId);
  });

  it('grace is counted from the first failure, whatever was seen of it and when', async () => {
    await start();
    const { sessionId } = await test.openCheckout('pro');
    await test.pay(sessionId, 'renewal_fails');
    const { keyId, subscriptionId } = await provisioned(sessionId);
    await settled();
    await test.control('/delivery', { mode: 'paused' });
    await test.control('/clock', { advance_seconds: 40 * DAY });
    const [open] = (await test.stripe.invoices.list({ subscription: subscriptionId!, status: 'open' })).data;
    await test.control('/delivery', { mode: 'concurrent' });
    await test.control('/delivery/flush');
    await vi.waitFor(async () =>
      expect((await factsOf(keyId!)).subscription).toMatchObject({
        status: 'past_due',
        pastDueSince: open!.status_transitions.finalized_at! * 1000,
      }),
    );
  });
});

describe('a price that left the catalogue', () => {
  it('goes on working for those who have it, without a failed event, and warns the operator', async () => {
    await start();
    const { keyId, subscriptionId } = await provisioned(await test.buy('basic'));
    await settled();
    const { basic, ...others } = test.prices;
    await test.restart({
      STRIPE_PRICE_MAP: Object.entries(others)
        .map(([plan, price]) => `${price}:${plan}`)
        .join(';'),
    });
    await test.stripe.subscriptions.update(subscriptionId!, { cancel_at_period_end: true });
    await vi.waitFor(async () =>
      expect(await test.keystore.findSubscription(subscriptionId!)).toMatchObject({
        cancelAtPeriodEnd: true,
      }),
    );
    expect(await factsOf(keyId!)).toMatchObject({ planId: 'basic' });
    await settled();
    const warning = test.logLines.find((line) => line.includes('left the plan catalogue'));
    expect(JSON.parse(warning!)).toMatchObject({ level: 'warn', prices: [basic], plan: 'basic' });
  });
});
