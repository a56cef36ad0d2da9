import type Stripe from 'stripe';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { clockFromTheTenth, closeSandboxes, type Shop, startShop } from '../test/sandboxes.ts';

// Room for a machine busy with other things: nothing here waits by time.

const day = 86_400;
const hour = 3600;
let shop: Shop;
let stripe: Stripe;

beforeEach(async () => {
  shop = await startShop({ now: clockFromTheTenth() });
  stripe = shop.stripe;
});

afterEach(closeSandboxes);

const endOf = (sub: Stripe.Subscription) => sub.items.data[0]!.current_period_end;

test('a renewal is drafted at the period end and paid an hour later', async () => {
  const sub = await shop.subscribe();
  expect(new Date(endOf(sub) * 1000).toISOString().slice(0, 10)).toBe('2027-02-10');
  const { now } = (await (await fetch(`${shop.url}/_sandbox/clock`)).json()) as { now: number };
  await shop.advance(endOf(sub) - now + 60);
  const renewed = await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] });
  expect(renewed).toMatchObject({
    status: 'active',
    latest_invoice: { status: 'draft', billing_reason: 'subscription_cycle', created: endOf(sub) },
  });
  expect(new Date(endOf(renewed) * 1000).toISOString().slice(0, 10)).toBe('2027-03-10');
  await shop.advance(hour);
  expect(
    (await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] })).latest_invoice,
  ).toMatchObject({ status: 'paid', amount_paid: 2000 });
  expect(await shop.eventTypes(now + 60)).toEqual([
    'invoice.created',
    'customer.subscription.updated',
    'invoice.finalized',
    'payment_intent.created',
    'charge.succeeded',
    'payment_intent.succeeded',
    'invoice.paid',
    'invoice.payment_succeeded',
    'invoice_payment.paid',
  ]);
});

test('a year in one step renews twelve times', async () => {
  const sub = await shop.subscribe();
  await shop.advance(366 * day);
  const { data } = await stripe.invoices.list({ subscription: sub.id, status: 'paid', limit: 100 });
  expect(data).toHaveLength(13);
  expect(data.map(({ created }) => new Date(created * 1000).getUTCDate())).toEqual(Array(13).fill(10));
});

test.each([
  ['canceled', 'canceled', 'customer.subscription.deleted'],
  ['unpaid', 'unpaid', 'customer.subscription.updated'],
  ['past_due', 'past_due', 'invoice.payment_failed'],
])('a renewal that fails for good ends as %s', async (setting, status, lastEvent) => {
  await shop.control('settings', { after_final_retry: setting, retry_days: [3, 5] });
  const sub = await shop.subscribe('renewal_fails');
  await shop.advance(31 * day + 2 * hour);
  const failing = await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] });
  expect(failing).toMatchObject({
    status: 'past_due',
    latest_invoice: { status: 'open', attempt_count: 1, attempted: true },
  });
  expect((failing.latest_invoice as Stripe.Invoice).next_payment_attempt).toBe(endOf(sub) + hour + 3 * day);
  await shop.advance(3 * day);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('past_due');
  await shop.advance(5 * day);
  const ended = await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] });
  expect(ended).toMatchObject({ status, latest_invoice: { attempt_count: 3, next_payment_attempt: null } });
  expect((await shop.eventTypes(endOf(sub) + 7 * day)).at(-1)).toBe(lastEvent);
  if (status === 'canceled') expect(ended.cancellation_details?.reason).toBe('payment_failed');
});

test('a retry that succeeds makes the subscription active again', async () => {
  const sub = await shop.subscribe();
  await shop.control('charges/fail_next', {
    count: 1,
    decline_code: 'insufficient_funds',
    customer: sub.customer,
  });
  await shop.advance(31 * day + 2 * hour);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('past_due');
  const { data } = await stripe.charges.list({ customer: sub.customer as string });
  expect(data[0]).toMatchObject({
    status: 'failed',
    failure_code: 'card_declined',
    outcome: { reason: 'insufficient_funds' },
  });
  await shop.advance(3 * day);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('active');
});

test('an open invoice is paid on its page', async () => {
  const sub = await shop.subscribe('renewal_fails');
  await shop.advance(31 * day + 2 * hour);
  const { latest_invoice } = await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] });
  const invoice = latest_invoice as Stripe.Invoice;
  await expect(stripe.invoices.pay(invoice.id as string)).rejects.toMatchObject({
    type: 'StripeCardError',
    code: 'card_declined',
    statusCode: 402,
  });
  const page = await fetch(invoice.hosted_invoice_url as string, {
    method: 'POST',
    body: new URLSearchParams({ card: 'success' }),
  });
  expect(await page.text()).toContain('id="invoice-status">paid');
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('active');
});

test('cancel at the period end keeps the subscription active until then, and can be undone', async () => {
  const sub = await shop.subscribe();
  const leaving = await stripe.subscriptions.update(sub.id, { cancel_at_period_end: true });
  expect(leaving).toMatchObject({ status: 'active', cancel_at_period_end: true, cancel_at: endOf(sub) });
  const { data } = await stripe.events.list({ type: 'customer.subscription.updated' });
  expect(data[0]!.data.previous_attributes).toMatchObject({ cancel_at_period_end: false, cancel_at: null });
  expect(await stripe.subscriptions.update(sub.id, { cancel_at_period_end: false })).toMatchObject({
    cancel_at: null,
    canceled_at: null,
  });
  await stripe.subscriptions.update(sub.id, { cancel_at_period_end: true });
  await shop.advance(31 * day);
  expect(await stripe.subscriptions.retrieve(sub.id)).toMatchObject({
    status: 'canceled',
    ended_at: endOf(sub),
  });
  expect((await stripe.invoices.list({ subscription: sub.id })).data).toHaveLength(1);
});

test('cancel now ends it now, once', async () => {
  const sub = await shop.subscribe();
  expect(await stripe.subscriptions.cancel(sub.id)).toMatchObject({
    status: 'canceled',
    cancellation_details: { reason: 'cancellation_requested' },
  });
  await expect(stripe.subscriptions.cancel(sub.id)).rejects.toMatchObject({ code: 'resource_missing' });
  await expect(stripe.subscriptions.update(sub.id, { cancel_at_period_end: true })).rejects.toThrow(
    /canceled subscription/,
  );
  expect((await stripe.subscriptions.update(sub.id, { metadata: { a: 'b' } })).metadata).toEqual({ a: 'b' });
  expect((await stripe.subscriptions.list()).data).toEqual([]);
  expect((await stripe.subscriptions.list({ status: 'all' })).data).toHaveLength(1);
});

test('a change of price prorates: nothing, on the next invoice, or at once', async () => {
  const sub = await shop.subscribe();
  const item = sub.items.data[0]!.id;
  await shop.advance(Math.floor((31 * day) / 2));
  await stripe.subscriptions.update(sub.id, {
    items: [{ id: item, price: shop.dearer.id }],
    proration_behavior: 'none',
  });
  expect((await stripe.invoices.list({ subscription: sub.id })).data).toHaveLength(1);
  await stripe.subscriptions.update(sub.id, {
    items: [{ id: item, price: shop.monthly.id }],
    proration_behavior: 'none',
  });

  const upgraded = await stripe.subscriptions.update(sub.id, {
    items: [{ id: item, price: shop.dearer.id }],
    proration_behavior: 'always_invoice',
    expand: ['latest_invoice'],
  });
  const invoice = upgraded.latest_invoice as Stripe.Invoice;
  expect(invoice).toMatchObject({ status: 'paid', billing_reason: 'subscription_update' });
  expect(invoice.lines.data.map(({ amount }) => amount)).toEqual([
    expect.closeTo(-1000, -1),
    expect.closeTo(2500, -1),
  ]);
  expect(upgraded.items.data).toMatchObject([{ id: item, price: { id: shop.dearer.id } }]);

  await stripe.subscriptions.update(sub.id, { items: [{ id: item, quantity: 2 }] });
  await shop.advance(17 * day);
  const { data } = await stripe.invoices.list({ subscription: sub.id });
  expect(data[0]!.lines.data).toHaveLength(3);
  expect(data[0]!.total).toBeGreaterThan(10_000);
});

test('a change of interval begins a new period and is charged at once', async () => {
  const sub = await shop.subscribe();
  await shop.advance(5 * day);
  const changed = await stripe.subscriptions.update(sub.id, {
    items: [{ id: sub.items.data[0]!.id, price: shop.yearly.id }],
    expand: ['latest_invoice'],
  });
  expect(new Date(endOf(changed) * 1000).toISOString().slice(0, 10)).toBe('2028-01-15');
  expect(changed.latest_invoice).toMatchObject({ status: 'paid' });
  expect((changed.latest_invoice as Stripe.Invoice).amount_paid).toBeLessThan(20_000);
});

test('after a change of interval, the end of the old period brings nothing', async () => {
  const sub = await shop.subscribe();
  await stripe.subscriptions.update(sub.id, {
    items: [{ id: sub.items.data[0]!.id, price: shop.yearly.id }],
  });
  await shop.advance(60 * day);
  expect((await stripe.invoices.list({ subscription: sub.id })).data).toHaveLength(2);
});

test.each([
  ['settle', 'active'],
  ['fail', 'past_due'],
])('a renewal by bank debit stays active until told to %s', async (verb, status) => {
  const sub = await shop.subscribe('bank_debit');
  const intents = async () => (await stripe.paymentIntents.list({ customer: sub.customer as string })).data;
  await shop.control(`payment_intents/${(await intents())[0]!.id}/settle`);
  await shop.advance(31 * day + 2 * hour);
  expect(await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] })).toMatchObject({
    status: 'active',
    latest_invoice: { status: 'open' },
  });
  await shop.control(`payment_intents/${(await intents())[0]!.id}/${verb}`);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe(status);
});

test('a change that is refused changes nothing', async () => {
  const sub = await shop.subscribe();
  await expect(
    stripe.subscriptions.update(sub.id, {
      metadata: { a: 'b' },
      items: [{ id: sub.items.data[0]!.id, price: 'price_x' }],
    }),
  ).rejects.toMatchObject({ code: 'resource_missing', param: 'items[0][price]' });
  await expect(
    stripe.subscriptions.update(sub.id, { items: [{ id: 'si_x', quantity: 2 }] }),
  ).rejects.toMatchObject({ param: 'items[0][id]' });
  expect((await stripe.subscriptions.retrieve(sub.id)).metadata).toEqual({});
});

test('a trial is announced three days before its end, and then paid', async () => {
  const sub = await shop.subscribe('success', { trial_period_days: 14 });
  expect(sub).toMatchObject({ status: 'trialing', trial_end: sub.created + 14 * day });
  expect((await stripe.charges.list()).data).toEqual([]);
  await shop.advance(11 * day - 60);
  expect((await stripe.events.list({ type: 'customer.subscription.trial_will_end' })).data).toHaveLength(0);
  await shop.advance(120);
  expect((await stripe.events.list({ type: 'customer.subscription.trial_will_end' })).data).toHaveLength(1);
  await shop.advance(3 * day + hour);
  expect(await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] })).toMatchObject({
    status: 'active',
    latest_invoice: { status: 'paid', amount_paid: 2000 },
  });
});

test.each([
  ['cancel', 'canceled'],
  ['pause', 'paused'],
  ['create_invoice', 'past_due'],
] as const)('a trial without a card that ends with %s', async (missing_payment_method, status) => {
  const { id } = await stripe.checkout.sessions.create({
    mode: 'subscription',
    line_items: [{ price: shop.monthly.id, quantity: 1 }],
    success_url: 'https://shop.example/',
    payment_method_collection: 'if_required',
    subscription_data: { trial_period_days: 7, trial_settings: { end_behavior: { missing_payment_method } } },
  });
  const { url } = await stripe.checkout.sessions.retrieve(id);
  await fetch(url as string, {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ email: 'ada@example.com' }),
  });
  const { subscription } = await stripe.checkout.sessions.retrieve(id);
  await shop.advance(7 * day + 2 * hour);
  expect((await stripe.subscriptions.retrieve(subscription as string)).status).toBe(status);
});

test('paused collection voids the renewal and leaves the status', async () => {
  const sub = await shop.subscribe();
  await stripe.subscriptions.update(sub.id, { pause_collection: { behavior: 'void' } });
  await shop.advance(31 * day + 2 * hour);
  expect(await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] })).toMatchObject({
    status: 'active',
    latest_invoice: { status: 'void' },
  });
});
