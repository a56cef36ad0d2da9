import { afterEach, beforeEach, expect, it } from 'vitest';
import { type ConvergenceWorld, startWorld } from './convergence-world.ts';

// What the convergence test has found, each as the shortest history that shows it.

const DAY = 86_400;

let world: ConvergenceWorld;
beforeEach(async () => {
  world = await startWorld();
});
afterEach(() => world.close());

async function buy(plan: string, card: string, trialDays?: number): Promise<string> {
  const { id } = await world.stripe.checkout.sessions.create({
    mode: 'subscription',
    line_items: [{ price: world.prices[plan]!, quantity: 1 }],
    customer_email: 'buyer@example.com',
    success_url: 'https://shop.example.com/done?session_id={CHECKOUT_SESSION_ID}',
    ...(trialDays ? { subscription_data: { trial_period_days: trialDays } } : {}),
  });
  await world.control(`/checkout/sessions/${id}/pay`, { card });
  return id;
}

/** What became of the purchase, once every event so far is worked off. */
async function purchaseOf(session: string) {
  await world.control('/delivery/flush');
  await world.settled();
  return world.keystore.findPurchase(session);
}

it('a first invoice that is paid outside Stripe after its bank debit failed brings the key', async () => {
  const session = await buy('basic', 'bank_debit');
  await world.control(`/checkout/sessions/${session}/fail`);
  expect(await purchaseOf(session)).toMatchObject({ status: 'failed', keyId: null });
  const { invoice } = await world.stripe.checkout.sessions.retrieve(session);
  await world.stripe.invoices.pay(invoice as string, { paid_out_of_band: true });
  expect(await purchaseOf(session)).toMatchObject({ status: 'provisioned', keyId: expect.any(String) });
});

it('a second trial whose first payment fails brings no key; a payment does', async () => {
  const first = await buy('tryout', 'success', 7);
  expect(await purchaseOf(first)).toMatchObject({ status: 'provisioned' });
  await world.advance(60);
  const second = await buy('tryout', 'renewal_fails', 7);
  expect(await purchaseOf(second)).toMatchObject({ status: 'pending', failure: 'trial_used', keyId: null });
  await world.advance(8 * DAY);
  const { subscription } = await world.stripe.checkout.sessions.retrieve(second);
  const { status, latest_invoice } = await world.stripe.subscriptions.retrieve(subscription as string);
  expect(status).toBe('past_due');
  expect(await purchaseOf(second)).toMatchObject({ failure: 'trial_used', keyId: null });
  await world.stripe.invoices.pay(latest_invoice as string, { paid_out_of_band: true });
  expect(await purchaseOf(second)).toMatchObject({ status: 'provisioned', keyId: expect.any(String) });
});

it.each(['before the trial ends', 'after it'])(
  'a second trial brings no key by way of another plan and back, %s',
  async (when) => {
    await purchaseOf(await buy('tryout', 'success', 7));
    await world.advance(60);
    const second = await buy('tryout', 'renewal_fails', 7);
    await purchaseOf(second);
    if (when === 'after it') await world.advance(8 * DAY);
    const { subscription } = await world.stripe.checkout.sessions.retrieve(second);
    const { items } = await world.stripe.subscriptions.update(subscription as string, {
      items: [{ price: world.prices.seats!, quantity: 2 }],
      proration_behavior: 'none',
    });
    expect(await purchaseOf(second)).toMatchObject({ failure: 'trial_used', keyId: null });
    await world.stripe.subscriptions.update(subscription as string, {
      items: [{ id: items.data.at(-1)!.id, deleted: true }],
      proration_behavior: 'none',
    });
    expect(await purchaseOf(second)).toMatchObject({ failure: 'trial_used', keyId: null });
  },
);

it.each(['seen at once', 'seen only later'])(
  'a refund ends a key for good, though an older invoice is paid after it: %s',
  async (when) => {
    const session = await buy('basic', 'success');
    await purchaseOf(session);
    const { subscription, invoice } = await world.stripe.checkout.sessions.retrieve(session);
    const { items, customer } = await world.stripe.subscriptions.retrieve(subscription as string);
    const card = (name: string) =>
      world.stripe.paymentMethods.attach(name, { customer: customer as string }).then(({ id }) => id);
    await world.stripe.subscriptions.update(subscription as string, {
      default_payment_method: await card('pm_card_chargeCustomerFail'),
    });
    await world.control('/delivery', { mode: 'paused' });
    await world.advance(DAY);
    const upgraded = await world.stripe.subscriptions.update(subscription as string, {
      items: [{ id: items.data[0]!.id, price: world.prices.pro! }],
      proration_behavior: 'always_invoice',
    });
    await world.advance(DAY);
    const payments = await world.stripe.invoicePayments.list({ invoice: invoice as string });
    await world.stripe.refunds.create({
      payment_intent: payments.data[0]!.payment.payment_intent as string,
    });
    if (when === 'seen at once') await purchaseOf(session);
    await world.advance(DAY);
    await world.stripe.invoices.pay(upgraded.latest_invoice as string, {
      payment_method: await card('pm_card_visa'),
    });
    const { keyId } = (await purchaseOf(session))!;
    expect(await world.keystore.findKeyFacts(keyId!)).toMatchObject({ revokedReason: 'refunded' });
  },
);
