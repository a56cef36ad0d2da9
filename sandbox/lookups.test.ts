import type Stripe from 'stripe';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { clockFromTheTenth, closeSandboxes, type Shop, startShop } from '../test/sandboxes.ts';

const day = 86_400;
let shop: Shop;
let stripe: Stripe;

beforeEach(async () => {
  shop = await startShop({ now: clockFromTheTenth() });
  stripe = shop.stripe;
});

afterEach(closeSandboxes);

const idsOf = async (list: Promise<{ data: { id: string }[] }>) => (await list).data.map(({ id }) => id);

test('from a payment to its invoice, and from an invoice to its payment', async () => {
  const sub = await shop.subscribe();
  const [intent] = (await stripe.paymentIntents.list()).data as [Stripe.PaymentIntent];
  const byIntent = await stripe.invoicePayments.list({
    payment: { type: 'payment_intent', payment_intent: intent.id },
    expand: ['data.invoice'],
  });
  expect(byIntent.data).toMatchObject([
    { status: 'paid', invoice: { id: sub.latest_invoice, parent: { type: 'subscription_details' } } },
  ]);
  const byInvoice = await stripe.invoicePayments.list({ invoice: sub.latest_invoice as string });
  expect(byInvoice.data).toMatchObject([{ payment: { payment_intent: intent.id } }]);
  await shop.subscribe();
  expect(await idsOf(stripe.invoicePayments.list({ invoice: sub.latest_invoice as string }))).toHaveLength(1);
});

test('a charge with its refunds and payment, and the lists of charges, refunds and disputes', async () => {
  await shop.subscribe();
  await shop.subscribe();
  const [intent] = (await stripe.paymentIntents.list()).data as [Stripe.PaymentIntent];
  const charge = intent.latest_charge as string;
  const refund = await stripe.refunds.create({ charge, amount: 100 });
  const dispute = await shop.control('disputes', { charge });
  expect(
    await stripe.charges.retrieve(charge, { expand: ['refunds', 'payment_intent', 'customer'] }),
  ).toMatchObject({
    refunds: { data: [{ id: refund.id }] },
    payment_intent: { id: intent.id },
    disputed: true,
  });
  expect(await idsOf(stripe.charges.list({ payment_intent: intent.id }))).toEqual([charge]);
  const since = { created: { gte: refund.created - 60 } };
  const before = { created: { lt: refund.created - 60 } };
  expect(await idsOf(stripe.refunds.list({ charge, ...since }))).toEqual([refund.id]);
  expect(await idsOf(stripe.refunds.list({ payment_intent: intent.id, ...before }))).toEqual([]);
  expect(await idsOf(stripe.disputes.list({ charge, ...since }))).toEqual([dispute.id]);
  expect(await idsOf(stripe.disputes.list({ charge, ...before }))).toEqual([]);
});

test('sessions by what came of them', async () => {
  const sub = await shop.subscribe();
  await shop.openPayment('Open');
  const [session] = (await stripe.checkout.sessions.list({ subscription: sub.id })).data;
  expect(session).toMatchObject({ status: 'complete', customer: sub.customer });
  expect(await idsOf(stripe.checkout.sessions.list({ customer: sub.customer as string }))).toHaveLength(1);
  const created = { gte: sub.created - 60 };
  expect(await idsOf(stripe.checkout.sessions.list({ status: 'complete', created }))).toHaveLength(1);
  expect(await idsOf(stripe.checkout.sessions.list({ status: 'open', created }))).toHaveLength(1);
  const { id } = await shop.openPayment('Once');
  await shop.control(`checkout/sessions/${id}/pay`);
  const { payment_intent } = await stripe.checkout.sessions.retrieve(id);
  expect(await idsOf(stripe.checkout.sessions.list({ payment_intent: payment_intent as string }))).toEqual([
    id,
  ]);
});

test('events by type, time and success, page by page', async () => {
  const sub = await shop.subscribe();
  const types = ['customer.created', 'customer.subscription.created'];
  const created = { gte: sub.created - 60 };
  const first = await stripe.events.list({ types, created, delivery_success: true, limit: 1 });
  const rest = await stripe.events.list({ types, created, limit: 1, starting_after: first.data[0]!.id });
  expect([first, rest]).toMatchObject([{ has_more: true }, { has_more: false }]);
  expect([...first.data, ...rest.data].map(({ type }) => type).sort()).toEqual(types);
  expect(await idsOf(stripe.events.list({ types, created, delivery_success: false }))).toEqual([]);
});

test('subscriptions, invoices and customers by whose they are', async () => {
  const ended = await shop.subscribe();
  const customer = ended.customer as string;
  await stripe.subscriptions.cancel(ended.id);
  const created = { gte: ended.created - 60 };
  expect(await idsOf(stripe.subscriptions.list({ status: 'all', customer, created, limit: 1 }))).toEqual([
    ended.id,
  ]);
  const other = await shop.subscribe();
  const all = await stripe.subscriptions.list({ status: 'all', limit: 1 });
  expect(all).toMatchObject({ has_more: true, data: [{ id: other.id }] });
  expect(
    await idsOf(stripe.subscriptions.list({ status: 'all', limit: 1, starting_after: other.id })),
  ).toEqual([ended.id]);
  const invoices = { subscription: ended.id, status: 'paid', created } as const;
  expect(await idsOf(stripe.invoices.list(invoices))).toEqual([ended.latest_invoice]);
  const { email } = (await stripe.customers.retrieve(customer)) as Stripe.Customer;
  expect(await idsOf(stripe.customers.list({ email: email as string }))).toContain(customer);
  expect(await idsOf(stripe.customers.list({ email: 'nobody@example.com' }))).toEqual([]);
});

test('a portal is configured once and opened for a customer', async () => {
  const { customer } = await shop.subscribe();
  const made = await stripe.billingPortal.configurations.create({
    features: { invoice_history: { enabled: true } },
  });
  expect(await idsOf(stripe.billingPortal.configurations.list({ active: true }))).toContain(made.id);
  const session = await stripe.billingPortal.sessions.create({
    customer: customer as string,
    configuration: made.id,
    return_url: 'https://shop.example/account',
  });
  expect(session.url).toContain('/p/session/test_');
});

test('a deleted customer takes every subscription along, at once', async () => {
  const sub = await shop.subscribe();
  await stripe.subscriptions.create({
    customer: sub.customer as string,
    items: [{ price: shop.yearly.id }],
    trial_period_days: 7,
  });
  const before = (await shop.eventTypes()).length;
  await stripe.customers.del(sub.customer as string);
  expect((await shop.eventTypes()).slice(before)).toEqual([
    'customer.subscription.deleted',
    'customer.subscription.deleted',
    'customer.deleted',
  ]);
  expect(await stripe.subscriptions.retrieve(sub.id)).toMatchObject({ status: 'canceled' });
  expect(await stripe.customers.retrieve(sub.customer as string)).toMatchObject({ deleted: true });
  await shop.advance(400 * day);
  expect(await idsOf(stripe.charges.list({ customer: sub.customer as string }))).toHaveLength(1);
});
