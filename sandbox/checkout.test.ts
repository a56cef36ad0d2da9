import type Stripe from 'stripe';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { closeSandboxes, type SandboxUnderTest, startSandboxUnderTest } from '../test/sandboxes.ts';

// Room for a machine busy with other things: nothing here waits by time.

let sandbox: SandboxUnderTest;
let stripe: Stripe;
let monthly: Stripe.Price;
let once: Stripe.Price;

beforeEach(async () => {
  sandbox = await startSandboxUnderTest();
  stripe = sandbox.stripe;
  monthly = await sandbox.price(2000, 'month');
  once = await sandbox.price(500);
});

afterEach(closeSandboxes);

function subscriptionSession(
  extra: Partial<Stripe.Checkout.SessionCreateParams> = {},
): Promise<Stripe.Checkout.Session> {
  return stripe.checkout.sessions.create({
    mode: 'subscription',
    line_items: [{ price: monthly.id, quantity: 1 }],
    success_url: 'https://shop.example/done?session={CHECKOUT_SESSION_ID}',
    cancel_url: 'https://shop.example/plans',
    ...extra,
  });
}

function submit(url: string, fields: Record<string, string>): Promise<Response> {
  return fetch(url, { method: 'POST', redirect: 'manual', body: new URLSearchParams(fields) });
}

test('a subscription checkout paid on its page', async () => {
  const session = await subscriptionSession({
    client_reference_id: 'ref_1',
    metadata: { from: 'session' },
    subscription_data: { metadata: { from: 'subscription' } },
  });
  expect(session).toMatchObject({
    status: 'open',
    payment_status: 'unpaid',
    ui_mode: 'hosted_page',
    customer: null,
    subscription: null,
  });
  expect(session.id).toMatch(/^cs_test_[A-Za-z0-9]{58}$/);

  const page = await fetch(session.url as string);
  expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
  expect(await page.text()).toContain('No real money');

  const paid = await submit(session.url as string, { email: 'ada@example.com', card: 'success' });
  expect(paid.status).toBe(303);
  expect(paid.headers.get('location')).toBe(`https://shop.example/done?session=${session.id}`);

  const done = await stripe.checkout.sessions.retrieve(session.id, {
    expand: ['subscription.latest_invoice', 'customer', 'line_items'],
  });
  expect(done).toMatchObject({
    status: 'complete',
    payment_status: 'paid',
    url: null,
    client_reference_id: 'ref_1',
    metadata: { from: 'session' },
  });
  expect(done.customer_details?.email).toBe('ada@example.com');
  expect(done.line_items?.data).toMatchObject([
    { quantity: 1, amount_total: 2000, price: { id: monthly.id } },
  ]);
  const subscription = done.subscription as Stripe.Subscription;
  expect(subscription).toMatchObject({ status: 'active', metadata: { from: 'subscription' } });
  expect(subscription.items.data[0]!.current_period_end).toBeGreaterThan(subscription.created + 27 * 86_400);
  const invoice = subscription.latest_invoice as Stripe.Invoice;
  expect(invoice).toMatchObject({ status: 'paid', amount_paid: 2000, billing_reason: 'subscription_create' });
  expect(invoice.parent?.subscription_details?.subscription).toBe(subscription.id);
  const { data: payments } = await stripe.invoicePayments.list({
    invoice: invoice.id as string,
    expand: ['data.payment.payment_intent'],
  });
  expect(payments).toMatchObject([
    { status: 'paid', payment: { payment_intent: { status: 'succeeded', amount: 2000 } } },
  ]);
});

test('the events of a purchase come in the order observed at Stripe', async () => {
  const session = await subscriptionSession();
  await sandbox.control(`checkout/sessions/${session.id}/pay`);
  expect((await sandbox.eventTypes()).slice(3)).toEqual([
    'charge.succeeded',
    'payment_method.attached',
    'customer.created',
    'customer.updated',
    'checkout.session.completed',
    'customer.subscription.created',
    'customer.subscription.updated',
    'payment_intent.succeeded',
    'payment_intent.created',
    'invoice.created',
    'invoice.finalized',
    'invoice.paid',
    'invoice.payment_succeeded',
    'invoice_payment.paid',
  ]);
});

test('an event keeps the object as it was', async () => {
  const session = await subscriptionSession();
  await sandbox.control(`checkout/sessions/${session.id}/pay`);
  const created = (await stripe.events.list({ type: 'customer.subscription.created' })).data[0]!;
  const updated = (await stripe.events.list({ type: 'customer.subscription.updated' })).data[0]!;
  expect(created).toMatchObject({
    api_version: '2026-10-28.endive',
    data: { object: { status: 'incomplete' } },
  });
  expect(updated).toMatchObject({
    data: { object: { status: 'active' }, previous_attributes: { status: 'incomplete' } },
  });
});

test('a declined card leaves the checkout open for another', async () => {
  const session = await subscriptionSession();
  const refused = await submit(session.url as string, {
    email: 'ada@example.com',
    card: 'insufficient_funds',
  });
  expect(refused.status).toBe(402);
  expect(await refused.text()).toContain('Your card has insufficient funds. Try another card.');
  expect(await stripe.checkout.sessions.retrieve(session.id)).toMatchObject({
    status: 'open',
    subscription: null,
  });
  expect(await sandbox.eventTypes()).toContain('charge.failed');
  expect((await submit(session.url as string, { email: 'ada@example.com', card: 'success' })).status).toBe(
    303,
  );
});

test('a completed checkout cannot be paid twice', async () => {
  const session = await subscriptionSession();
  const address = session.url as string;
  await Promise.all([1, 2, 3].map(() => submit(address, { email: 'ada@example.com', card: 'success' })));
  expect((await stripe.subscriptions.list()).data).toHaveLength(1);
  expect(await (await fetch(address)).text()).toContain('this checkout is complete');
});

test.each([
  ['settle', 'bank_debit', 'async_payment_succeeded', 'paid', 'active'],
  ['fail', 'bank_debit_fails', 'async_payment_failed', 'unpaid', 'incomplete'],
])('a delayed payment told to %s', async (verb, card, event, paymentStatus, subscriptionStatus) => {
  const session = await subscriptionSession();
  await sandbox.control(`checkout/sessions/${session.id}/pay`, { card });
  const waiting = await stripe.checkout.sessions.retrieve(session.id, { expand: ['subscription'] });
  expect(waiting).toMatchObject({
    status: 'complete',
    payment_status: 'unpaid',
    subscription: { status: 'incomplete' },
  });
  await sandbox.advance(24 * 3600);
  expect(await stripe.subscriptions.retrieve((waiting.subscription as Stripe.Subscription).id)).toMatchObject(
    { status: 'incomplete' },
  );

  expect((await sandbox.requestControl(`checkout/sessions/${session.id}/${verb}`)).status).toBe(200);
  const after = await stripe.checkout.sessions.retrieve(session.id, { expand: ['subscription'] });
  expect(after.payment_status).toBe(paymentStatus);
  // The 23 hours are over: what failed now is not waited for any longer.
  const expected = subscriptionStatus === 'incomplete' ? 'incomplete_expired' : subscriptionStatus;
  expect((after.subscription as Stripe.Subscription).status).toBe(expected);
  expect(await sandbox.eventTypes()).toContain(`checkout.session.${event}`);
  expect((await sandbox.requestControl(`checkout/sessions/${session.id}/${verb}`)).status).toBe(400);
});

test('a failed first payment leaves the subscription incomplete until 23 hours have passed', async () => {
  const session = await subscriptionSession();
  await sandbox.control(`checkout/sessions/${session.id}/pay`, { card: 'bank_debit' });
  await sandbox.control(`checkout/sessions/${session.id}/fail`);
  const { subscription } = await stripe.checkout.sessions.retrieve(session.id);
  expect((await stripe.subscriptions.retrieve(subscription as string)).status).toBe('incomplete');
  await sandbox.advance(23 * 3600);
  expect((await stripe.subscriptions.retrieve(subscription as string)).status).toBe('incomplete_expired');
});

test('a delayed payment settles by itself when the settings say so', async () => {
  await sandbox.control('settings', { settle_delayed_after_ms: 15_000 });
  const session = await subscriptionSession();
  await sandbox.control(`checkout/sessions/${session.id}/pay`, { card: 'bank_debit' });
  await sandbox.advance(14);
  expect((await stripe.checkout.sessions.retrieve(session.id)).payment_status).toBe('unpaid');
  await sandbox.advance(2);
  expect((await stripe.checkout.sessions.retrieve(session.id)).payment_status).toBe('paid');
});

test('a one-time payment, for a guest and for a customer', async () => {
  const wanted: Stripe.Checkout.SessionCreateParams = {
    mode: 'payment',
    line_items: [{ price: once.id, quantity: 3 }],
    success_url: 'https://shop.example/',
  };
  const guest = await stripe.checkout.sessions.create(wanted);
  await sandbox.control(`checkout/sessions/${guest.id}/pay`);
  const paid = await stripe.checkout.sessions.retrieve(guest.id, {
    expand: ['payment_intent.latest_charge'],
  });
  expect(paid).toMatchObject({
    payment_status: 'paid',
    customer: null,
    subscription: null,
    amount_total: 1500,
    payment_intent: { latest_charge: { paid: true, amount: 1500 } },
  });
  const named = await stripe.checkout.sessions.create({ ...wanted, customer_creation: 'always' });
  await sandbox.control(`checkout/sessions/${named.id}/pay`, { email: 'ada@example.com' });
  const { customer } = await stripe.checkout.sessions.retrieve(named.id, { expand: ['customer'] });
  expect(customer).toMatchObject({ email: 'ada@example.com' });
});

test('what costs nothing needs no card and no payment', async () => {
  const free = await stripe.prices.create({
    product_data: { name: 'Free' },
    currency: 'usd',
    unit_amount: 0,
    recurring: { interval: 'month' },
  });
  const session = await subscriptionSession({ line_items: [{ price: free.id, quantity: 1 }] });
  expect(await (await fetch(session.url as string)).text()).toContain('id="no-payment"');
  expect((await submit(session.url as string, { email: 'ada@example.com' })).status).toBe(303);
  const done = await stripe.checkout.sessions.retrieve(session.id, {
    expand: ['subscription.latest_invoice'],
  });
  expect(done).toMatchObject({
    payment_status: 'no_payment_required',
    subscription: { status: 'active', latest_invoice: { status: 'paid', total: 0 } },
  });
  expect((await stripe.charges.list()).data).toEqual([]);
});

test('a session expires by the clock and by request', async () => {
  const soon = Math.floor(Date.now() / 1000) + 1900;
  const first = await subscriptionSession({ expires_at: soon });
  const second = await subscriptionSession();
  expect((await stripe.checkout.sessions.expire(second.id)).status).toBe('expired');
  await expect(stripe.checkout.sessions.expire(second.id)).rejects.toThrow(
    /Only Checkout Sessions with a status in \["open"\]/,
  );
  await sandbox.advance(1901);
  expect((await stripe.checkout.sessions.retrieve(first.id)).status).toBe('expired');
  const page = await fetch(first.url as string);
  expect(page.status).toBe(410);
  expect((await stripe.events.list({ type: 'checkout.session.expired' })).data).toHaveLength(2);
});

test('a payment link opens a session of its own for every visit', async () => {
  const link = await stripe.paymentLinks.create({
    line_items: [{ price: monthly.id, quantity: 2 }],
    after_completion: {
      type: 'redirect',
      redirect: { url: 'https://shop.example/done?s={CHECKOUT_SESSION_ID}' },
    },
    metadata: { campaign: 'spring' },
    subscription_data: { metadata: { plan: 'pro' } },
  });
  const visit = () =>
    fetch(`${link.url}?client_reference_id=ref-7&prefilled_email=ada%40example.com`, { redirect: 'manual' });
  const [one, two] = [await visit(), await visit()];
  expect(one.headers.get('location')).not.toBe(two.headers.get('location'));
  const paid = await submit(one.headers.get('location') as string, { card: 'success' });
  const { data } = await stripe.checkout.sessions.list({
    payment_link: link.id,
    status: 'complete',
    expand: ['data.subscription'],
  });
  expect(data).toMatchObject([
    {
      client_reference_id: 'ref-7',
      metadata: { campaign: 'spring' },
      amount_total: 4000,
      customer_details: { email: 'ada@example.com' },
      subscription: { metadata: { plan: 'pro' } },
    },
  ]);
  expect(paid.headers.get('location')).toBe(`https://shop.example/done?s=${data[0]!.id}`);
  await stripe.paymentLinks.update(link.id, { active: false });
  expect((await visit()).status).toBe(410);
});

test('pages escape what they show', async () => {
  const session = await sandbox.openPayment('<script>alert(1)</script>');
  const page = await (
    await submit(session.url as string, { email: '"><img src=x>', card: 'success' })
  ).text();
  expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
  expect(page).toContain('value="&quot;&gt;&lt;img src=x&gt;"');
  expect(page).not.toMatch(/<script|<img/);
});

test('a form sent from another site is refused', async () => {
  const session = await subscriptionSession();
  const response = await fetch(session.url as string, {
    method: 'POST',
    headers: { origin: 'https://evil.example' },
    body: new URLSearchParams({ email: 'a@b.co', card: 'success' }),
  });
  expect(response.status).toBe(403);
  expect((await stripe.checkout.sessions.retrieve(session.id)).status).toBe('open');
});
