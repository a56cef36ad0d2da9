import type Stripe from 'stripe';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { clockFromTheTenth, closeSandboxes, refusal, type Shop, startShop } from '../test/sandboxes.ts';

const hour = 3600;
let shop: Shop;
let stripe: Stripe;

beforeEach(async () => {
  shop = await startShop({ now: clockFromTheTenth() });
  stripe = shop.stripe;
});

afterEach(closeSandboxes);

/** A customer whose invoices are paid with a test card. */
const customerWith = (card: string) =>
  stripe.customers.create({ payment_method: card, invoice_settings: { default_payment_method: card } });

test('a payment is collected at once, and its card can be declined', async () => {
  const wanted = { amount: 2000, currency: 'usd', confirm: true } as const;
  const paid = await stripe.paymentIntents.create({ ...wanted, payment_method: 'pm_card_visa' });
  expect(paid).toMatchObject({ status: 'succeeded', amount_received: 2000 });
  const declined = stripe.paymentIntents.create({ ...wanted, payment_method: 'pm_card_chargeDeclined' });
  expect(await refusal(declined)).toMatchObject({ statusCode: 402, code: 'card_declined' });
  expect(await refusal(stripe.paymentIntents.create(wanted))).toMatchObject({ statusCode: 400 });
  const unknown = stripe.paymentIntents.create({ ...wanted, payment_method: 'pm_card_gold' });
  expect(await refusal(unknown)).toMatchObject({ code: 'resource_missing', param: 'payment_method' });
});

test('a payment is confirmed later, or canceled', async () => {
  const wanted = { amount: 2000, currency: 'usd', payment_method: 'pm_card_visa' } as const;
  const waiting = await stripe.paymentIntents.create(wanted);
  expect(waiting.status).toBe('requires_confirmation');
  expect((await stripe.paymentIntents.confirm(waiting.id)).status).toBe('succeeded');
  expect((await refusal(stripe.paymentIntents.confirm(waiting.id))).code).toBe(
    'payment_intent_unexpected_state',
  );
  const { id } = await stripe.paymentIntents.create(wanted);
  expect(await stripe.paymentIntents.cancel(id, { cancellation_reason: 'abandoned' })).toMatchObject({
    status: 'canceled',
    cancellation_reason: 'abandoned',
  });
});

test('some cards are disputed as soon as they have paid', async () => {
  const { id } = await stripe.paymentIntents.create({
    amount: 2000,
    currency: 'usd',
    confirm: true,
    payment_method: 'pm_card_createDispute',
  });
  expect((await stripe.disputes.list({ payment_intent: id })).data).toMatchObject([
    { status: 'needs_response', amount: 2000, reason: 'fraudulent' },
  ]);
});

test.each([
  ['AT61 1904 3002 3457 3201', 'succeeded'],
  ['AT861904300235473202', 'requires_payment_method'],
])('the debit of %s ends as %s, by itself', async (iban, status) => {
  const method = await stripe.paymentMethods.create({
    type: 'sepa_debit',
    sepa_debit: { iban },
    billing_details: { name: 'Ada', email: 'ada@example.com' },
  });
  expect(method).toMatchObject({ type: 'sepa_debit', billing_details: { name: 'Ada' } });
  const { id } = await stripe.paymentIntents.create({
    amount: 2000,
    currency: 'eur',
    confirm: true,
    allowed_payment_method_types: ['sepa_debit'],
    payment_method: method.id,
  });
  await expect.poll(async () => (await stripe.paymentIntents.retrieve(id)).status).toBe(status);
});

test('a parameter of an earlier version is read where the client names no version', async () => {
  const body = 'amount=100&currency=usd&payment_method_types[0]=card';
  const read = await shop.post('/v1/payment_intents', body);
  expect(await read.json()).toMatchObject({ payment_method_types: ['card'] });
  const named = await shop.post('/v1/payment_intents', body, { 'stripe-version': '2026-10-28.endive' });
  expect([named.status, await named.json()]).toMatchObject([400, { error: { code: 'parameter_unknown' } }]);
  const other = await shop.post('/v1/payment_intents', body, { 'stripe-version': '2024-06-20' });
  expect(other.status).toBe(400);
});

test('an invoice by hand takes what is pending, and is paid', async () => {
  const customer = await customerWith('pm_card_visa');
  await stripe.invoiceItems.create({ customer: customer.id, amount: 1500, currency: 'usd' });
  await stripe.invoiceItems.create({ customer: customer.id, amount: 500, description: 'Extra' });
  const invoice = await stripe.invoices.create({
    customer: customer.id,
    pending_invoice_items_behavior: 'include',
  });
  expect(invoice).toMatchObject({ status: 'draft', total: 2000, parent: null, billing_reason: 'manual' });
  expect(await stripe.invoices.pay(invoice.id as string)).toMatchObject({
    status: 'paid',
    amount_paid: 2000,
  });
  expect((await stripe.invoiceItems.list({ pending: true })).data).toEqual([]);
  const { id } = await stripe.invoiceItems.create({ customer: customer.id, amount: 1 });
  expect(await stripe.invoiceItems.del(id)).toMatchObject({ deleted: true });
});

test('a subscription is started by API, and its first payment decides', async () => {
  const wanted = { items: [{ price: shop.monthly.id, quantity: 2, metadata: { seat: 'a' } }] };
  const payer = await customerWith('pm_card_visa');
  const paid = await stripe.subscriptions.create({ customer: payer.id, ...wanted });
  expect(paid).toMatchObject({
    status: 'active',
    items: { data: [{ quantity: 2, metadata: { seat: 'a' } }] },
  });
  const broke = await customerWith('pm_card_chargeCustomerFail');
  const open = await stripe.subscriptions.create({ customer: broke.id, ...wanted });
  expect(open.status).toBe('incomplete');
  await shop.advance(24 * hour);
  expect((await stripe.subscriptions.retrieve(open.id)).status).toBe('incomplete_expired');

  const strict = { payment_behavior: 'error_if_incomplete', ...wanted } as const;
  expect(await refusal(stripe.subscriptions.create({ customer: broke.id, ...strict }))).toMatchObject({
    statusCode: 402,
    code: 'card_declined',
  });
  const { id } = await stripe.customers.create();
  expect((await refusal(stripe.subscriptions.create({ customer: id, ...wanted }))).code).toBe(
    'resource_missing',
  );
  const later = await stripe.subscriptions.create({
    customer: id,
    payment_behavior: 'default_incomplete',
    ...wanted,
    expand: ['latest_invoice'],
  });
  expect(later).toMatchObject({ status: 'incomplete', latest_invoice: { status: 'open' } });
  const [intent] = (await stripe.paymentIntents.list({ customer: id })).data as [Stripe.PaymentIntent];
  await stripe.paymentIntents.confirm(intent.id, { payment_method: 'pm_card_visa' });
  expect((await stripe.subscriptions.retrieve(later.id)).status).toBe('active');
});

test('a trial by API needs no card, and is announced at once when it is short', async () => {
  const { id } = await stripe.customers.create();
  const sub = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: shop.monthly.id }],
    trial_period_days: 1,
  });
  expect(sub.status).toBe('trialing');
  await expect.poll(() => shop.eventTypes()).toContain('customer.subscription.trial_will_end');
});
