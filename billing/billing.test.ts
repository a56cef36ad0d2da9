import type Stripe from 'stripe';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';

let test: BillingUnderTest;
beforeAll(async () => {
  test = await startBillingUnderTest();
});
afterAll(() => test.close());

const json = { 'Content-Type': 'application/json', Accept: 'application/json' };
const html = { Accept: 'text/html' };
const success = (sessionId: string, init: RequestInit = { headers: { Accept: 'application/json' } }) =>
  fetch(`${test.url}/billing/success?session_id=${sessionId}`, init);
const claim = (sessionId: string) =>
  fetch(`${test.url}/billing/success/claim`, {
    method: 'POST',
    headers: json,
    body: JSON.stringify({ session_id: sessionId }),
  });
const provisioned = (sessionId: string) =>
  vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );

/** A price of a product of its own, by the month unless told otherwise. */
async function newPrice(more: {
  unit_amount: number;
  currency?: string;
  recurring?: null;
}): Promise<Stripe.Price> {
  const { recurring = { interval: 'month' as const }, ...rest } = more;
  const product = await test.stripe.products.create({ name: 'Something' });
  return test.stripe.prices.create({
    product: product.id,
    currency: 'usd',
    ...(recurring ? { recurring } : {}),
    ...rest,
  });
}

describe('opening a checkout', () => {
  const post = (body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${test.url}/billing/create-checkout-session`, {
      method: 'POST',
      headers: { ...json, ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      redirect: 'manual',
    });

  it('answers with the address of the page and the purchase', async () => {
    const response = await post({ plan: 'pro', customer_email: 'buyer@example.com' });
    expect(response.status).toBe(200);
    const { url, purchase_id } = (await response.json()) as { url: string; purchase_id: string };
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:/);
    expect(purchase_id).toMatch(/^pur_[0-9A-Za-z]{20}$/);
    const [, sessionId = ''] = /(cs_test_\w+)/.exec(url) ?? [];
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({
      id: purchase_id,
      status: 'pending',
      planId: 'pro',
    });
    const session = await test.stripe.checkout.sessions.retrieve(sessionId);
    expect(session).toMatchObject({ mode: 'subscription', customer_email: 'buyer@example.com' });
    expect(session.success_url).toBe(`${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`);
  });

  it('sends a form on to the page', async () => {
    const response = await post('plan=pro', {
      'Content-Type': 'application/x-www-form-urlencoded',
      Accept: 'text/html',
    });
    expect(response.status).toBe(303);
    expect(response.headers.get('location')).toContain('cs_test_');
  });

  it.each([
    ['no plan', {}, 400, 'plan', 'invalid_request'],
    ['an unknown plan', { plan: 'gold' }, 400, 'plan', 'unknown_plan'],
    ['a hidden plan', { plan: 'internal' }, 400, 'plan', 'unknown_plan'],
    ['a bad e-mail', { plan: 'pro', customer_email: 'nobody' }, 400, 'customer_email', 'invalid_request'],
    ['a bad URL', { plan: 'pro', cancel_url: 'javascript:alert(1)' }, 400, 'cancel_url', 'invalid_request'],
    [
      'a success page elsewhere',
      { plan: 'pro', success_url: 'https://evil.example/?s={CHECKOUT_SESSION_ID}' },
      400,
      'success_url',
      'invalid_request',
    ],
    ['an unknown field', { plan: 'pro', quantity: 3 }, 400, 'quantity', 'invalid_request'],
  ])('names the field: %s', async (_name, body, status, field, code) => {
    const response = await post(body);
    expect(response.status).toBe(status);
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    const problem = (await response.json()) as {
      code: string;
      errors: { field: string }[];
      request_id: string;
    };
    expect(problem).toMatchObject({ code, errors: [{ field }] });
    expect(problem.request_id).toBe(response.headers.get('x-request-id'));
  });

  it('a success page that would never see the session is refused', async () => {
    const problem = await (await post({ plan: 'pro', success_url: `${test.url}/thanks` })).json();
    expect(problem).toMatchObject({
      errors: [{ field: 'success_url', message: expect.stringContaining('{CHECKOUT_SESSION_ID}') }],
    });
  });

  it('survives bodies that are no requests', async () => {
    expect((await post('{"plan":')).status).toBe(400);
    expect((await post('[]')).status).toBe(400);
    expect((await post('"pro"')).status).toBe(400);
    expect((await post({ plan: 'x'.repeat(20_000) })).status).toBe(413);
    expect((await post('{"__proto__":{"plan":"pro"}}')).status).toBe(400);
    expect((await post('plan=pro', { 'Content-Type': 'text/plain' })).status).toBe(415);
  });

  it('opens one checkout for one Idempotency-Key, and refuses keys that others could guess', async () => {
    const key = { 'Idempotency-Key': crypto.randomUUID() };
    const [first, second] = [
      await (await post({ plan: 'pro' }, key)).json(),
      await (await post({ plan: 'pro' }, key)).json(),
    ];
    expect(second).toEqual(first);
    expect((await post({ plan: 'team' }, key)).status).toBe(409);
    const guessable = await post({ plan: 'pro' }, { 'Idempotency-Key': 'order-1' });
    expect(await guessable.json()).toMatchObject({ status: 400, errors: [{ field: 'Idempotency-Key' }] });
  });
});

describe('the success page', () => {
  it('waits for the money, then has the key, shows it once, and says so afterwards', async () => {
    const { sessionId } = await test.openCheckout('pro');
    expect(await (await success(sessionId)).json()).toMatchObject({ status: 'open' });
    const open = await success(sessionId, { headers: html });
    expect(open.headers.get('refresh')).toBe('3');
    expect(await open.text()).toContain('Not paid yet');
    await test.pay(sessionId, 'bank_debit');
    expect(await (await success(sessionId)).json()).toMatchObject({ status: 'pending' });
    const waiting = await success(sessionId, { headers: html });
    expect(waiting.headers.get('refresh')).toBe('3');
    expect(await waiting.text()).toContain('Confirming your payment');
    expect((await claim(sessionId)).status).toBe(409);
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'pending', keyId: null });

    await test.control(`/checkout/sessions/${sessionId}/settle`);
    const ready = await success(sessionId, { headers: html });
    const page = await ready.text();
    expect(page).toContain('Reveal my API key');
    expect(page).not.toMatch(/tg_test_/);
    for (const [name, value] of [
      ['cache-control', 'no-store'],
      ['referrer-policy', 'no-referrer'],
      ['x-content-type-options', 'nosniff'],
    ] as const) {
      expect(ready.headers.get(name)).toBe(value);
    }
    expect(ready.headers.get('content-security-policy')).toBe(
      "default-src 'none';style-src 'self';script-src 'self';img-src 'self';form-action 'self';frame-ancestors 'none';base-uri 'none'",
    );

    const claimed = await claim(sessionId);
    expect(claimed.status).toBe(200);
    expect(claimed.headers.get('cache-control')).toBe('no-store');
    const body = (await claimed.json()) as { key: string; key_id: string; curl: string };
    expect(body).toMatchObject({
      plan: 'pro',
      mode: 'test',
      limits: [{ name: 'second' }, { name: 'minute' }],
      quota: 100_000,
    });
    expect(body.key).toMatch(/^tg_test_[0-9A-Za-z]{50}$/);
    expect(body.curl).toBe(`curl -H "X-API-Key: ${body.key}" http://127.0.0.1:8010/whoami`);

    const again = await claim(sessionId);
    expect(again.status).toBe(410);
    const refused = await again.text();
    expect(JSON.parse(refused)).toMatchObject({
      code: 'already_claimed',
      last_four: body.key.slice(-4),
      key_id: body.key_id,
    });
    expect(refused).not.toContain(body.key);
    const after = await (await success(sessionId, { headers: html })).text();
    expect(after).toContain('This key was already shown');
    expect(after).toContain(`…${body.key.slice(-4)}`);
    expect(after).not.toContain(body.key);
  });

  it('is not consumed by previews: any number of GET and HEAD', async () => {
    const sessionId = await test.buy('pro');
    await provisioned(sessionId);
    for (let i = 0; i < 5; i++) {
      expect((await success(sessionId, { method: 'HEAD' })).status).toBe(200);
      expect((await success(sessionId, { headers: html })).status).toBe(200);
    }
    expect((await fetch(`${test.url}/billing/success/claim?session_id=${sessionId}`)).status).toBe(405);
    expect((await claim(sessionId)).status).toBe(200);
  });

  it('is claimed once by a hundred clicks', async () => {
    const sessionId = await test.buy('team');
    await provisioned(sessionId);
    const answers = await Promise.all(Array.from({ length: 100 }, () => claim(sessionId)));
    const statuses = answers.map((answer) => answer.status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    expect(statuses.filter((status) => status === 410)).toHaveLength(99);
  });

  it('works as a form, without JavaScript', async () => {
    const sessionId = await test.buy('pro');
    const form = () =>
      fetch(`${test.url}/billing/success/claim`, {
        method: 'POST',
        headers: { ...html, 'Content-Type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ session_id: sessionId }).toString(),
      });
    const shown = await form();
    expect(await shown.text()).toMatch(/<code id="key">tg_test_[0-9A-Za-z]{50}<\/code>/);
    const second = await form();
    expect(second.status).toBe(410);
    expect(await second.text()).not.toMatch(/tg_test_[0-9A-Za-z]{50}/);
  });

  it('says what became of a payment that failed', async () => {
    const { sessionId } = await test.openCheckout('pro');
    await test.pay(sessionId, 'bank_debit');
    await test.control(`/checkout/sessions/${sessionId}/fail`);
    expect(await (await success(sessionId)).json()).toMatchObject({ status: 'payment_failed' });
    expect((await claim(sessionId)).status).toBe(402);
    await vi.waitFor(async () =>
      expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'failed', keyId: null }),
    );
  });

  it('says so when a checkout has expired', async () => {
    const { sessionId } = await test.openCheckout('pro');
    await test.stripe.checkout.sessions.expire(sessionId);
    expect(await (await success(sessionId)).json()).toMatchObject({ status: 'canceled' });
    expect((await claim(sessionId)).status).toBe(410);
  });

  it.each([
    ['nothing', ''],
    ['a made-up id', `cs_test_${'x'.repeat(58)}`],
    ['a live id', `cs_live_${'x'.repeat(58)}`],
    ['markup', '"><script>alert(1)</script>'],
    ['a list', 'cs_test_a&session_id=cs_test_b'],
  ])('has nothing for %s', async (_name, id) => {
    const page = await success(id, { headers: html });
    expect(page.status).toBe(404);
    expect(await page.text()).not.toContain('<script>alert');
    const answer = await success(id);
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({ code: 'purchase_not_found' });
  });

  it('says so when the key was switched off before it was claimed', async () => {
    const sessionId = await test.buy('pro');
    await provisioned(sessionId);
    const { keyId } = (await test.keystore.findPurchase(sessionId))!;
    await test.keystore.revokeKey({ id: keyId!, reason: 'operator', actor: 'test' });
    expect(await (await success(sessionId)).json()).toEqual({
      status: 'revoked',
      plan: 'pro',
      key_id: keyId,
      last_four: expect.any(String),
    });
    expect(await (await claim(sessionId)).json()).toMatchObject({ status: 410, code: 'reveal_revoked' });
    // Rule 6: opening the page again and again changes nothing.
    expect((await test.keystore.findKey(keyId!))?.revokedReason).toBe('operator');
  });

  it('a failed debit that is paid in another way later ends in a key', async () => {
    const { sessionId } = await test.openCheckout('pro');
    await test.pay(sessionId, 'bank_debit');
    await test.control(`/checkout/sessions/${sessionId}/fail`);
    await vi.waitFor(async () =>
      expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'failed' }),
    );
    const session = await test.stripe.checkout.sessions.retrieve(sessionId);
    const { default_payment_method } = await test.stripe.subscriptions.retrieve(
      session.subscription as string,
    );
    expect(default_payment_method).toBeDefined();
    const paid = await fetch(
      (await test.stripe.invoices.retrieve(session.invoice as string)).hosted_invoice_url!,
      {
        method: 'POST',
        body: new URLSearchParams({ card: 'success' }),
      },
    );
    expect(paid.ok).toBe(true);
    expect(await (await success(sessionId)).json()).toMatchObject({ status: 'ready', plan: 'pro' });
  });

  it('does not ask Stripe again and again for one session, however often its page is loaded', async () => {
    const { sessionId } = await test.openCheckout('pro');
    for (let load = 0; load < 60; load++) expect((await success(sessionId)).status).toBe(200);
    const refused = await success(sessionId);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    const other = await test.openCheckout('pro');
    expect((await success(other.sessionId)).status).toBe(200);
  });

  it('stops an address that tries session ids', async () => {
    const guess = () => success(`cs_test_${Math.random().toString(36).slice(2).padEnd(58, 'g')}`);
    const answers = [];
    for (let i = 0; i < 70; i++) answers.push(await guess());
    const stopped = answers.find((answer) => answer.status === 429);
    expect(Number(stopped?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await stopped?.json()).toMatchObject({ code: 'too_many_requests' });
  });

  it('a live id is refused by name', async () => {
    const answer = await (await success(`cs_live_${'x'.repeat(58)}`)).json();
    expect(answer).toMatchObject({
      detail: 'This purchase was made in live mode; this server is in test mode.',
    });
  });

  it('a free plan needs no payment', async () => {
    const sessionId = await test.buy('free');
    await provisioned(sessionId);
    expect((await claim(sessionId)).status).toBe(200);
  });
});

describe('payment links', () => {
  it('work with no prior row of ours', async () => {
    const link = await test.stripe.paymentLinks.create({
      line_items: [{ price: test.prices.pro!, quantity: 1 }],
    });
    const opened = await fetch(link.url, { redirect: 'manual' });
    const [sessionId = ''] = /cs_test_[0-9A-Za-z]+/.exec(opened.headers.get('location') ?? '') ?? [];
    await test.pay(sessionId);
    await provisioned(sessionId);
    expect(await (await success(sessionId)).json()).toMatchObject({ status: 'ready', plan: 'pro' });
  });

  it('a one-time price makes a key without a subscription', async () => {
    const price = await newPrice({ unit_amount: 500, recurring: null });
    await test.restart({ PRICE_ID_TEST_PRO: price.id });
    const session = await test.stripe.checkout.sessions.create({
      mode: 'payment',
      line_items: [{ price: price.id, quantity: 1 }],
      success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
    });
    await test.pay(session.id);
    await provisioned(session.id);
    const { keyId } = (await test.keystore.findPurchase(session.id))!;
    expect(await test.keystore.findKeyFacts(keyId!)).toMatchObject({ planId: 'pro', subscription: null });
    await test.restart();
  });
});

describe('a price that stands for no plan', () => {
  it('provisions nothing, is an error somebody sees, and is put right by mapping it', async () => {
    const price = await newPrice({ unit_amount: 700 });
    const session = await test.stripe.checkout.sessions.create({
      mode: 'subscription',
      line_items: [{ price: price.id, quantity: 1 }],
      success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
    });
    await test.pay(session.id);
    await vi.waitFor(async () => expect((await test.keystore.inboxDepth()).failed).toBe(1));
    const complaints = test.logLines.filter(
      (line) => line.includes(price.id) && line.includes('"level":"error"'),
    );
    expect(complaints).toHaveLength(1);
    expect(await (await success(session.id)).json()).toMatchObject({ status: 'unknown_price' });
    expect(await (await success(session.id, { headers: html })).text()).toContain('Your payment arrived');
    expect((await claim(session.id)).status).toBe(409);
    expect(await test.keystore.findPurchase(session.id)).toMatchObject({ status: 'paid', keyId: null });

    await test.restart({ PRICE_ID_TEST_TEAM: price.id });
    expect(await (await success(session.id)).json()).toMatchObject({ status: 'ready', plan: 'team' });
    await vi.waitFor(async () => expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }));
    await test.restart();
  });

  it('a price that is mapped for the other mode only is refused by name', async () => {
    const price = await newPrice({ unit_amount: 700 });
    await test.restart({ PRICE_ID_LIVE_PRO: price.id });
    const session = await test.stripe.checkout.sessions.create({
      mode: 'subscription',
      line_items: [{ price: price.id, quantity: 1 }],
      success_url: `${test.url}/x`,
    });
    await test.pay(session.id);
    await vi.waitFor(() => expect(test.logLines.join('')).toContain('is mapped for the other mode only'));
    expect(await test.keystore.findPurchase(session.id)).toMatchObject({ status: 'paid', keyId: null });
    await test.restart();
  });
});

describe('purchases of something else in the same Stripe account', () => {
  it('are left alone: no purchase, no failed event', async () => {
    const before = (await test.keystore.inboxDepth()).failed;
    const price = await newPrice({ unit_amount: 2500, recurring: null });
    const session = await test.stripe.checkout.sessions.create({
      mode: 'payment',
      line_items: [{ price: price.id, quantity: 1 }],
      success_url: 'https://books.example.com/thanks',
    });
    await test.pay(session.id);
    await vi.waitFor(() =>
      expect(test.logLines.some((line) => line.includes(price.id) && line.includes('another product'))).toBe(
        true,
      ),
    );
    await vi.waitFor(async () => expect((await test.keystore.inboxDepth()).pending).toBe(0));
    expect((await test.keystore.inboxDepth()).failed).toBe(before);
    expect(await test.keystore.findPurchase(session.id)).toBeUndefined();

    // The seller had only forgotten to map it: once mapped, a resend from Stripe's dashboard brings the key.
    await test.restart({ PRICE_ID_TEST_TEAM: price.id });
    const [completed] = (await test.stripe.events.list({ type: 'checkout.session.completed', limit: 1 }))
      .data;
    await test.control(`/events/${completed!.id}/deliver`);
    await vi.waitFor(async () =>
      expect(await test.keystore.findPurchase(session.id)).toMatchObject({
        status: 'provisioned',
        planId: 'team',
      }),
    );
    await test.restart();
  });
});

describe('subscriptions', () => {
  it('plan change, cancellation at the period end and cancellation reach the key', async () => {
    const sessionId = await test.buy('pro');
    await provisioned(sessionId);
    const purchase = (await test.keystore.findPurchase(sessionId))!;
    const subscriptionId = purchase.subscriptionId!;
    const facts = () => test.keystore.findKeyFacts(purchase.keyId!);
    const [item] = (await test.stripe.subscriptions.retrieve(subscriptionId)).items.data;
    await test.stripe.subscriptions.update(subscriptionId, {
      items: [{ id: item!.id, price: test.prices.team! }],
    });
    await vi.waitFor(async () =>
      expect(await facts()).toMatchObject({ planId: 'team', subscription: { status: 'active' } }),
    );

    await test.stripe.subscriptions.update(subscriptionId, { cancel_at_period_end: true });
    await vi.waitFor(async () =>
      expect((await test.keystore.keyHistory(purchase.keyId!)).at(-1)?.details).toContain(
        '"cancel_at_period_end":{"from":0,"to":1}',
      ),
    );
    expect(await facts()).toMatchObject({ subscription: { status: 'active' } });

    await test.stripe.subscriptions.cancel(subscriptionId);
    await vi.waitFor(async () =>
      expect(await facts()).toMatchObject({ subscription: { status: 'canceled' } }),
    );
  });

  it('keeps the plan of those who have it when its price leaves the catalogue, and tells the operator', async () => {
    const sessionId = await test.buy('pro');
    await provisioned(sessionId);
    const purchase = (await test.keystore.findPurchase(sessionId))!;
    const [item] = (await test.stripe.subscriptions.retrieve(purchase.subscriptionId!)).items.data;
    const odd = await newPrice({ unit_amount: 1 });
    await test.stripe.subscriptions.update(purchase.subscriptionId!, {
      items: [{ id: item!.id, price: odd.id }],
    });
    await vi.waitFor(async () => expect((await test.keystore.inboxDepth()).failed).toBeGreaterThan(0));
    expect(await test.keystore.findKeyFacts(purchase.keyId!)).toMatchObject({
      planId: 'pro',
      subscription: { status: 'active' },
    });
  });

  it("leaves other products' subscriptions alone", async () => {
    const customer = await test.stripe.customers.create({ email: 'other@example.com' });
    expect(customer.id).toMatch(/^cus_/);
    const price = await newPrice({ unit_amount: 100 });
    const session = await test.stripe.checkout.sessions.create({
      mode: 'subscription',
      customer: customer.id,
      line_items: [{ price: price.id, quantity: 1 }],
      success_url: 'https://example.com',
    });
    await test.pay(session.id);
    await vi.waitFor(() =>
      expect(test.logLines.some((line) => line.includes('"outcome":"not_ours"'))).toBe(true),
    );
  });
});

describe('the rest', () => {
  it('lists the plans that are for sale', async () => {
    const { plans } = (await (await fetch(`${test.url}/billing/plans`)).json()) as {
      plans: { id: string; purchasable: boolean }[];
    };
    expect(plans.map((plan) => [plan.id, plan.purchasable])).toEqual([
      ['free', true],
      ['pro', true],
      ['team', true],
    ]);
    const page = await fetch(`${test.url}/`, { headers: html });
    const text = await page.text();
    expect(text).toContain('20 requests a second');
    expect(text).toContain('Sandbox: no real money');
    expect(text).not.toContain('Internal');
    expect(page.headers.get('content-security-policy')).toContain(`form-action 'self' ${test.sandbox.url}`);
  });

  it('other methods: 405 with what is allowed', async () => {
    for (const [method, path, allow] of [
      ['GET', '/billing/create-checkout-session', 'POST'],
      ['PUT', '/billing/success/claim', 'POST'],
      ['POST', '/billing/success', 'GET, HEAD'],
      ['DELETE', '/stripe/webhook', 'POST'],
    ] as const) {
      const response = await fetch(test.url + path, { method });
      expect([response.status, response.headers.get('allow')], `${method} ${path}`).toEqual([405, allow]);
    }
  });

  it('tells the operator when the page shows another price than Stripe charges', async () => {
    const price = await newPrice({ currency: 'eur', unit_amount: 9900 });
    await test.restart({ PRICE_ID_TEST_PRO: price.id });
    await test.openCheckout('pro');
    await test.openCheckout('pro');
    const told = test.logLines.filter((line) => line.includes('The pricing page shows another price'));
    expect(told).toHaveLength(1);
    await test.restart();
  });

  it('says how it is', async () => {
    expect(await (await fetch(`${test.url}/health`)).json()).toEqual({ status: 'ok', keystore: 'writable' });
    expect(await (await fetch(`${test.url}/ready`)).json()).toMatchObject({ status: 'ready', mode: 'test' });
  });

  it('answers other addresses in the form the client reads', async () => {
    const page = await fetch(`${test.url}/nothing`, { headers: html });
    expect([page.status, page.headers.get('content-type')]).toEqual([404, 'text/html; charset=utf-8']);
    const answer = await fetch(`${test.url}/nothing`);
    expect(answer.status).toBe(404);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
  });
});
