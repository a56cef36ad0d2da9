import Stripe from 'stripe';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { startCheckedSandbox } from './conformance.ts';

// Room for a machine busy with other things: nothing here waits by time.
vi.setConfig({ testTimeout: 30_000 });

const day = 86_400;
const hour = 3600;
let sandbox: Awaited<ReturnType<typeof startCheckedSandbox>>;
let stripe: Stripe;
let monthly: Stripe.Price;
let dearer: Stripe.Price;
let yearly: Stripe.Price;

beforeEach(async () => {
  // A day that every month has, so that a month is a month from it.
  const start = Date.UTC(2027, 0, 10, 12);
  const began = Date.now();
  sandbox = await startCheckedSandbox({ now: () => start + (Date.now() - began) });
  stripe = new Stripe('sk_test_x', {
    protocol: 'http',
    host: '127.0.0.1',
    port: sandbox.port,
    maxNetworkRetries: 0,
  });
  const product = await stripe.products.create({ name: 'Pro' });
  const price = (unit_amount: number, interval: 'month' | 'year') =>
    stripe.prices.create({ product: product.id, currency: 'usd', unit_amount, recurring: { interval } });
  [monthly, dearer, yearly] = [
    await price(2000, 'month'),
    await price(5000, 'month'),
    await price(20_000, 'year'),
  ];
});

afterEach(async () => {
  await sandbox.close();
  expect(sandbox.problems).toEqual([]);
});

async function control(path: string, body: object = {}): Promise<Record<string, unknown>> {
  const response = await fetch(`${sandbox.url}/_sandbox/${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(200);
  return (await response.json()) as Record<string, unknown>;
}

const advance = (seconds: number) => control('clock', { advance_seconds: seconds });

async function subscribe(
  card = 'success',
  data: Stripe.Checkout.SessionCreateParams.SubscriptionData = {},
): Promise<Stripe.Subscription> {
  const { id } = await stripe.checkout.sessions.create({
    mode: 'subscription',
    line_items: [{ price: monthly.id, quantity: 1 }],
    success_url: 'https://shop.example/',
    subscription_data: data,
  });
  await control(`checkout/sessions/${id}/pay`, { card });
  const { subscription } = await stripe.checkout.sessions.retrieve(id, { expand: ['subscription'] });
  return subscription as Stripe.Subscription;
}

async function eventsSince(mark: number): Promise<string[]> {
  const types: string[] = [];
  for await (const { type } of stripe.events.list({ limit: 100, created: { gt: mark } })) types.unshift(type);
  return types;
}

const endOf = (sub: Stripe.Subscription) => sub.items.data[0]!.current_period_end;

test('a renewal is drafted at the period end and paid an hour later', async () => {
  const sub = await subscribe();
  expect(new Date(endOf(sub) * 1000).toISOString().slice(0, 10)).toBe('2027-02-10');
  const { now } = (await (await fetch(`${sandbox.url}/_sandbox/clock`)).json()) as { now: number };
  await advance(endOf(sub) - now + 60);
  const renewed = await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] });
  expect(renewed).toMatchObject({
    status: 'active',
    latest_invoice: { status: 'draft', billing_reason: 'subscription_cycle', created: endOf(sub) },
  });
  expect(new Date(endOf(renewed) * 1000).toISOString().slice(0, 10)).toBe('2027-03-10');
  await advance(hour);
  expect(
    (await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] })).latest_invoice,
  ).toMatchObject({ status: 'paid', amount_paid: 2000 });
  expect(await eventsSince(now + 60)).toEqual([
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
  const sub = await subscribe();
  await advance(366 * day);
  const { data } = await stripe.invoices.list({ subscription: sub.id, status: 'paid', limit: 100 });
  expect(data).toHaveLength(13);
  expect(data.map(({ created }) => new Date(created * 1000).getUTCDate())).toEqual(Array(13).fill(10));
});

test.each([
  ['canceled', 'canceled', 'customer.subscription.deleted'],
  ['unpaid', 'unpaid', 'customer.subscription.updated'],
  ['past_due', 'past_due', 'invoice.payment_failed'],
])('a renewal that fails for good ends as %s', async (setting, status, lastEvent) => {
  await control('settings', { after_final_retry: setting, retry_days: [3, 5] });
  const sub = await subscribe('renewal_fails');
  await advance(31 * day + 2 * hour);
  const failing = await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] });
  expect(failing).toMatchObject({
    status: 'past_due',
    latest_invoice: { status: 'open', attempt_count: 1, attempted: true },
  });
  expect((failing.latest_invoice as Stripe.Invoice).next_payment_attempt).toBe(endOf(sub) + hour + 3 * day);
  await advance(3 * day);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('past_due');
  await advance(5 * day);
  const ended = await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] });
  expect(ended).toMatchObject({ status, latest_invoice: { attempt_count: 3, next_payment_attempt: null } });
  expect((await eventsSince(endOf(sub) + 7 * day)).at(-1)).toBe(lastEvent);
  if (status === 'canceled') expect(ended.cancellation_details?.reason).toBe('payment_failed');
});

test('a retry that succeeds makes the subscription active again', async () => {
  const sub = await subscribe();
  await control('charges/fail_next', {
    count: 1,
    decline_code: 'insufficient_funds',
    customer: sub.customer,
  });
  await advance(31 * day + 2 * hour);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('past_due');
  const { data } = await stripe.charges.list({ customer: sub.customer as string });
  expect(data[0]).toMatchObject({
    status: 'failed',
    failure_code: 'card_declined',
    outcome: { reason: 'insufficient_funds' },
  });
  await advance(3 * day);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('active');
});

test('an open invoice is paid on its page', async () => {
  const sub = await subscribe('renewal_fails');
  await advance(31 * day + 2 * hour);
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
  const sub = await subscribe();
  const leaving = await stripe.subscriptions.update(sub.id, { cancel_at_period_end: true });
  expect(leaving).toMatchObject({ status: 'active', cancel_at_period_end: true, cancel_at: endOf(sub) });
  const { data } = await stripe.events.list({ type: 'customer.subscription.updated' });
  expect(data[0]!.data.previous_attributes).toMatchObject({ cancel_at_period_end: false, cancel_at: null });
  expect(await stripe.subscriptions.update(sub.id, { cancel_at_period_end: false })).toMatchObject({
    cancel_at: null,
    canceled_at: null,
  });
  await stripe.subscriptions.update(sub.id, { cancel_at_period_end: true });
  await advance(31 * day);
  expect(await stripe.subscriptions.retrieve(sub.id)).toMatchObject({
    status: 'canceled',
    ended_at: endOf(sub),
  });
  expect((await stripe.invoices.list({ subscription: sub.id })).data).toHaveLength(1);
});

test('cancel now ends it now, once', async () => {
  const sub = await subscribe();
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
  const sub = await subscribe();
  const item = sub.items.data[0]!.id;
  await advance(Math.floor((31 * day) / 2));
  await stripe.subscriptions.update(sub.id, {
    items: [{ id: item, price: dearer.id }],
    proration_behavior: 'none',
  });
  expect((await stripe.invoices.list({ subscription: sub.id })).data).toHaveLength(1);
  await stripe.subscriptions.update(sub.id, {
    items: [{ id: item, price: monthly.id }],
    proration_behavior: 'none',
  });

  const upgraded = await stripe.subscriptions.update(sub.id, {
    items: [{ id: item, price: dearer.id }],
    proration_behavior: 'always_invoice',
    expand: ['latest_invoice'],
  });
  const invoice = upgraded.latest_invoice as Stripe.Invoice;
  expect(invoice).toMatchObject({ status: 'paid', billing_reason: 'subscription_update' });
  expect(invoice.lines.data.map(({ amount }) => amount)).toEqual([
    expect.closeTo(-1000, -1),
    expect.closeTo(2500, -1),
  ]);
  expect(upgraded.items.data).toMatchObject([{ id: item, price: { id: dearer.id } }]);

  await stripe.subscriptions.update(sub.id, { items: [{ id: item, quantity: 2 }] });
  await advance(17 * day);
  const { data } = await stripe.invoices.list({ subscription: sub.id });
  expect(data[0]!.lines.data).toHaveLength(3);
  expect(data[0]!.total).toBeGreaterThan(10_000);
});

test('a change of interval begins a new period and is charged at once', async () => {
  const sub = await subscribe();
  await advance(5 * day);
  const changed = await stripe.subscriptions.update(sub.id, {
    items: [{ id: sub.items.data[0]!.id, price: yearly.id }],
    expand: ['latest_invoice'],
  });
  expect(new Date(endOf(changed) * 1000).toISOString().slice(0, 10)).toBe('2028-01-15');
  expect(changed.latest_invoice).toMatchObject({ status: 'paid' });
  expect((changed.latest_invoice as Stripe.Invoice).amount_paid).toBeLessThan(20_000);
});

test('after a change of interval, the end of the old period brings nothing', async () => {
  const sub = await subscribe();
  await stripe.subscriptions.update(sub.id, { items: [{ id: sub.items.data[0]!.id, price: yearly.id }] });
  await advance(60 * day);
  expect((await stripe.invoices.list({ subscription: sub.id })).data).toHaveLength(2);
});

test.each([
  ['settle', 'active'],
  ['fail', 'past_due'],
])('a renewal by bank debit stays active until told to %s', async (verb, status) => {
  const sub = await subscribe('bank_debit');
  const intents = async () => (await stripe.paymentIntents.list({ customer: sub.customer as string })).data;
  await control(`payment_intents/${(await intents())[0]!.id}/settle`);
  await advance(31 * day + 2 * hour);
  expect(await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] })).toMatchObject({
    status: 'active',
    latest_invoice: { status: 'open' },
  });
  await control(`payment_intents/${(await intents())[0]!.id}/${verb}`);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe(status);
});

test('a change that is refused changes nothing', async () => {
  const sub = await subscribe();
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
  const sub = await subscribe('success', { trial_period_days: 14 });
  expect(sub).toMatchObject({ status: 'trialing', trial_end: sub.created + 14 * day });
  expect((await stripe.charges.list()).data).toEqual([]);
  await advance(11 * day - 60);
  expect((await stripe.events.list({ type: 'customer.subscription.trial_will_end' })).data).toHaveLength(0);
  await advance(120);
  expect((await stripe.events.list({ type: 'customer.subscription.trial_will_end' })).data).toHaveLength(1);
  await advance(3 * day + hour);
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
    line_items: [{ price: monthly.id, quantity: 1 }],
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
  await advance(7 * day + 2 * hour);
  expect((await stripe.subscriptions.retrieve(subscription as string)).status).toBe(status);
});

test('paused collection voids the renewal and leaves the status', async () => {
  const sub = await subscribe();
  await stripe.subscriptions.update(sub.id, { pause_collection: { behavior: 'void' } });
  await advance(31 * day + 2 * hour);
  expect(await stripe.subscriptions.retrieve(sub.id, { expand: ['latest_invoice'] })).toMatchObject({
    status: 'active',
    latest_invoice: { status: 'void' },
  });
});
