import type Stripe from 'stripe';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { clockFromTheTenth, closeSandboxes, refusal, type Shop, startShop } from '../test/sandboxes.ts';

const day = 86_400;
const hour = 3600;
let shop: Shop;
let stripe: Stripe;

beforeEach(async () => {
  shop = await startShop({ now: clockFromTheTenth() });
  stripe = shop.stripe;
});

afterEach(closeSandboxes);

/** A subscription whose trial has ended without a payment method, so that it is paused. */
async function pausedAfterTrial(): Promise<Stripe.Subscription> {
  const customer = await stripe.customers.create({ email: 'ada@example.com' });
  const sub = await stripe.subscriptions.create({
    customer: customer.id,
    items: [{ price: shop.monthly.id }],
    trial_period_days: 7,
    trial_settings: { end_behavior: { missing_payment_method: 'pause' } },
  });
  await shop.advance(7 * day + 60);
  return stripe.subscriptions.retrieve(sub.id);
}

test('a paused subscription has no periods and no invoices, and is credited what is left', async () => {
  const sub = await shop.subscribe();
  const paused = await stripe.subscriptions.pause(sub.id);
  expect(paused).toMatchObject({
    status: 'paused',
    status_details: { paused: { subscription: { type: 'pause_requested' }, type: 'subscription' } },
  });
  expect(await refusal(stripe.subscriptions.pause(sub.id))).toMatchObject({ statusCode: 400 });
  expect((await shop.eventTypes()).at(-1)).toBe('customer.subscription.paused');
  await shop.advance(70 * day);
  expect((await stripe.invoices.list({ subscription: sub.id })).data).toHaveLength(1);

  const resumed = await stripe.subscriptions.resume(sub.id, { expand: ['latest_invoice'] });
  expect(resumed.status).toBe('active');
  expect(resumed.status_details).toBeUndefined();
  const lines = (resumed.latest_invoice as Stripe.Invoice).lines.data.map(({ amount }) => amount);
  expect(lines).toEqual([expect.closeTo(-2000, -1), 2000]);
  expect(await shop.eventTypes()).toContain('customer.subscription.resumed');
});

test('a pause can leave what was paid for alone, or give the credit at once', async () => {
  const keeps = await shop.subscribe();
  await stripe.subscriptions.pause(keeps.id, { bill_for: { unused_time_from: { type: 'none' } } });
  const resumed = await stripe.subscriptions.resume(keeps.id, { expand: ['latest_invoice'] });
  expect(resumed.latest_invoice).toMatchObject({ amount_paid: 2000 });

  const credited = await shop.subscribe();
  const { customer } = await stripe.subscriptions.pause(credited.id, { invoicing_behavior: 'invoice' });
  expect((await stripe.customers.retrieve(customer as string)) as Stripe.Customer).toMatchObject({
    balance: expect.closeTo(-2000, -1),
  });
});

test('a trial that ends now pauses or cancels where there is no payment method', async () => {
  const customer = await stripe.customers.create();
  for (const [missing_payment_method, status, event] of [
    ['pause', 'paused', 'customer.subscription.paused'],
    ['cancel', 'canceled', 'customer.subscription.deleted'],
  ] as const) {
    const { id } = await stripe.subscriptions.create({
      customer: customer.id,
      items: [{ price: shop.monthly.id }],
      trial_period_days: 7,
      trial_settings: { end_behavior: { missing_payment_method } },
    });
    expect(await stripe.subscriptions.update(id, { trial_end: 'now' })).toMatchObject({ status });
    expect((await shop.eventTypes()).at(-1)).toBe(event);
  }
});

test('without a payment method it stays paused until its invoice is paid, or that is void', async () => {
  const sub = await pausedAfterTrial();
  expect(sub).toMatchObject({
    status: 'paused',
    status_details: { paused: { subscription: { type: 'trial_end_without_payment_method' } } },
  });
  const first = await stripe.subscriptions.resume(sub.id, { expand: ['latest_invoice'] });
  expect(first).toMatchObject({ status: 'paused', latest_invoice: { status: 'open', amount_due: 2000 } });
  await shop.advance(23 * hour + 60);
  expect(await stripe.invoices.retrieve((first.latest_invoice as Stripe.Invoice).id!)).toMatchObject({
    status: 'void',
  });

  const again = await stripe.subscriptions.resume(sub.id);
  await stripe.paymentMethods.attach('pm_card_visa', { customer: sub.customer as string });
  const method = (await stripe.paymentMethods.list({ customer: sub.customer as string })).data[0]!;
  await stripe.invoices.pay(again.latest_invoice as string, { payment_method: method.id });
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('active');
  expect((await shop.eventTypes()).at(-1)).toBe('customer.subscription.resumed');
});

test('a payment that fails resumes it past due, unless only success counts', async () => {
  const sub = await pausedAfterTrial();
  const customer = sub.customer as string;
  const { id } = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer });
  await stripe.customers.update(customer, { invoice_settings: { default_payment_method: id } });
  const waiting = await stripe.subscriptions.resume(sub.id, {
    payment_behavior: 'resume_on_payment_success',
    expand: ['latest_invoice'],
  });
  expect(waiting).toMatchObject({ status: 'paused', latest_invoice: { status: 'open', attempt_count: 1 } });
  await shop.advance(24 * hour);
  expect((await stripe.subscriptions.resume(sub.id)).status).toBe('past_due');
});
