import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { closeSandboxes, refusal, startSandboxUnderTest } from '../test/sandboxes.ts';

// Room for a machine busy with other things: nothing here waits by time.

const { url, stripe, call, post, control, openPayment } = await startSandboxUnderTest();
afterAll(closeSandboxes);

test.each([
  [undefined, /You did not provide an API key/],
  ['Bearer nonsense', /Invalid API Key provided/],
  ['Bearer sk_live_abcdefgh', /sandbox/],
  ['Bearer rk_live_abcdefgh', /sandbox/],
  [`Basic ${Buffer.from('sk_live_abcdefgh:').toString('base64')}`, /sandbox/],
])('the authorization %s is refused with 401', async (authorization, message) => {
  const response = await fetch(`${url}/v1/products`, authorization ? { headers: { authorization } } : {});
  expect(response.status).toBe(401);
  const { error } = (await response.json()) as { error: { type: string; message: string } };
  expect(error.type).toBe('invalid_request_error');
  expect(error.message).toMatch(message);
  expect(error.message).not.toContain('abcdefgh');
});

test('restricted test keys and basic authentication are accepted', async () => {
  for (const authorization of ['Bearer rk_test_1', `Basic ${Buffer.from('sk_test_1:').toString('base64')}`]) {
    expect((await fetch(`${url}/v1/products`, { headers: { authorization } })).status).toBe(200);
  }
});

test('every answer names its request and version', async () => {
  const response = await call('/v1/products');
  expect(response.headers.get('request-id')).toMatch(/^req_[A-Za-z0-9]{14}$/);
  expect(response.headers.get('stripe-version')).toBe('2026-10-28.endive');
});

test('another API version is refused instead of answered in the wrong shape', async () => {
  expect((await call('/v1/products', { headers: { 'stripe-version': '2020-08-27' } })).status).toBe(400);
});

test('refusals carry type, code and param as Stripe words them', async () => {
  const { prices, products, checkout } = stripe;
  expect(await refusal(products.create({ name: 'x', colour: 'red' } as never))).toMatchObject({
    statusCode: 400,
    type: 'StripeInvalidRequestError',
    code: 'parameter_unknown',
    param: 'colour',
    message: 'Received unknown parameter: colour',
  });
  expect(await refusal(products.create({} as never))).toMatchObject({
    code: 'parameter_missing',
    param: 'name',
    message: 'Missing required param: name.',
  });
  expect(await refusal(products.create({ name: '' }))).toMatchObject({
    code: 'parameter_invalid_empty',
    param: 'name',
  });
  expect(await refusal(products.retrieve('prod_x'))).toMatchObject({
    statusCode: 404,
    code: 'resource_missing',
    param: 'id',
    message: "No such product: 'prod_x'",
  });
  expect(await refusal(prices.create({ currency: 'usd', product: 'prod_x', unit_amount: 1 }))).toMatchObject({
    statusCode: 400,
    code: 'resource_missing',
    param: 'product',
  });
  expect(
    await refusal(prices.create({ currency: 'usd', product: 'prod_x', unit_amount: 1.5 })),
  ).toMatchObject({ code: 'parameter_invalid_integer', param: 'unit_amount' });
  expect(
    await refusal(
      checkout.sessions.create({
        mode: 'subscription',
        success_url: 'https://x.example',
        line_items: [{ quantity: 1 }],
      }),
    ),
  ).toMatchObject({
    code: 'parameter_missing',
    param: 'line_items[0][price]',
    message: 'Missing required param: line_items[0][price].',
  });
  expect(
    await refusal(
      checkout.sessions.create({
        mode: 'subscription',
        success_url: 'https://x.example',
        line_items: [{ price: 'price_x', quantity: 1 }],
      }),
    ),
  ).toMatchObject({
    statusCode: 400,
    code: 'resource_missing',
    param: 'line_items[0][price]',
    message: "No such price: 'price_x'",
  });
  expect(
    await refusal(checkout.sessions.create({ mode: 'payment', automatic_tax: { enabled: true } })),
  ).toMatchObject({ code: 'sandbox_unsupported', param: 'automatic_tax[enabled]' });
  expect(await refusal(checkout.sessions.retrieve('cs_x'))).toMatchObject({
    statusCode: 404,
    code: 'resource_missing',
    param: 'session',
    message: "No such checkout.session: 'cs_x'",
  });
  expect(
    await refusal(
      stripe.webhookEndpoints.create({ url: 'https://x.example', enabled_events: ['no.such' as never] }),
    ),
  ).toMatchObject({ param: 'enabled_events[0]' });
});

test('an unknown address, a JSON body and a wrong method are refused', async () => {
  expect((await call('/v1/nothing')).status).toBe(404);
  expect((await call('/v1/products', { method: 'DELETE' })).status).toBe(404);
  expect(
    (
      await call('/v1/products', {
        method: 'POST',
        body: '{}',
        headers: { 'content-type': 'application/json' },
      })
    ).status,
  ).toBe(400);
});

test.each([
  'name=x&__proto__[polluted]=1',
  'name=x&metadata[__proto__]=1',
  'name=x&constructor[prototype][polluted]=1',
  'name=x&metadata=1&metadata[a]=2',
  'name=x&a[b',
  'name=%ff',
  `name=x&${'a'.repeat(10)}${'[b]'.repeat(50)}=1`,
  Array.from({ length: 1001 }, (_, index) => `metadata[k${index}]=v`).join('&'),
])('hostile form %#', async (body) => {
  expect((await post('/v1/products', body)).status).toBe(400);
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
});

test('a body of more than a megabyte is refused', async () => {
  expect((await post('/v1/products', `name=${'x'.repeat(1_100_000)}`)).status).toBe(413);
});

test('no form makes the sandbox fail', async () => {
  const name = fc.oneof(
    fc.constantFrom('name', 'active', 'metadata', 'expand', 'images', 'id', 'url'),
    fc.string({ maxLength: 8 }),
  );
  const key = fc.tuple(
    name,
    fc.array(fc.oneof(fc.constantFrom('0', '', 'a', '__proto__'), fc.string({ maxLength: 3 })), {
      maxLength: 3,
    }),
  );
  const form = fc.array(fc.tuple(key, fc.string({ maxLength: 12 })), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(form, async (pairs) => {
      const body = pairs
        .map(
          ([[first, rest], value]) =>
            `${encodeURIComponent(first)}${rest.map((part) => `[${encodeURIComponent(part)}]`).join('')}=${encodeURIComponent(value)}`,
        )
        .join('&');
      expect((await post('/v1/products', body)).status).toBeLessThan(500);
    }),
    { numRuns: 150 },
  );
});

test('metadata merges, unsets keys and clears', async () => {
  const { id } = await stripe.products.create({ name: 'x', metadata: { a: '1', b: '2', constructor: '3' } });
  expect((await stripe.products.update(id, { metadata: { a: '', c: '4' } })).metadata).toEqual({
    b: '2',
    constructor: '3',
    c: '4',
  });
  expect((await stripe.products.update(id, { metadata: '' })).metadata).toEqual({});
});

test.each([429, 500, 503])('a fault answers %i and says to try again', async (status) => {
  await control('faults', { status, paths: ['/v1/events'] });
  const response = await call('/v1/events');
  expect([response.status, response.headers.get('stripe-should-retry')]).toEqual([status, 'true']);
  expect((await call('/v1/events')).status).toBe(200);
});

test('lists go page by page in both directions', async () => {
  const made: string[] = [];
  for (let index = 0; index < 7; index++)
    made.unshift((await stripe.customers.create({ email: 'page@example.com' })).id);
  const query = { email: 'page@example.com', limit: 3 };
  const first = await stripe.customers.list(query);
  expect([first.data.map(({ id }) => id), first.has_more]).toEqual([made.slice(0, 3), true]);
  const before = await stripe.customers.list({ ...query, ending_before: made[4] as string });
  expect(before.data.map(({ id }) => id)).toEqual(made.slice(1, 4));
  const all: string[] = [];
  for await (const { id } of stripe.customers.list(query)) all.push(id);
  expect(all).toEqual(made);
  expect(await refusal(stripe.customers.list({ limit: 101 }))).toMatchObject({ param: 'limit' });
  expect(await refusal(stripe.customers.list({ limit: 0 }))).toMatchObject({ param: 'limit' });
  expect(await refusal(stripe.customers.list({ starting_after: 'cus_x' }))).toMatchObject({
    code: 'resource_missing',
    param: 'starting_after',
  });
});

test('expand goes four levels deep and no further', async () => {
  const session = await openPayment('deep', { expand: ['line_items.data.price.product'] });
  expect(session.line_items?.data[0]?.price?.product).toMatchObject({ name: 'deep' });
  expect(
    await refusal(stripe.checkout.sessions.list({ expand: ['data.line_items.data.price.product'] })),
  ).toMatchObject({ message: expect.stringContaining('more than 4 levels') });
  expect(await refusal(stripe.checkout.sessions.retrieve(session.id, { expand: ['mode'] }))).toMatchObject({
    message: expect.stringContaining('This property cannot be expanded (mode)'),
  });
  expect(await refusal(stripe.checkout.sessions.list({ expand: ['customer'] }))).toMatchObject({
    message: expect.stringContaining("'data.customer'"),
  });
});

test('a deleted customer is still known by id, and a deleted endpoint is not', async () => {
  const { id } = await stripe.customers.create({});
  await stripe.customers.del(id);
  expect(await stripe.customers.retrieve(id)).toMatchObject({ id, deleted: true });
  const endpoint = await stripe.webhookEndpoints.create({ url: 'https://x.example', enabled_events: ['*'] });
  await stripe.webhookEndpoints.del(endpoint.id);
  expect(await refusal(stripe.webhookEndpoints.retrieve(endpoint.id))).toMatchObject({ statusCode: 404 });
});

test('a lookup key belongs to one price until it is transferred', async () => {
  const wanted = { product_data: { name: 'x' }, currency: 'usd', unit_amount: 1, lookup_key: 'pro' };
  const first = await stripe.prices.create(wanted);
  expect(await refusal(stripe.prices.create(wanted))).toMatchObject({ param: 'lookup_key' });
  const second = await stripe.prices.create({ ...wanted, transfer_lookup_key: true });
  expect((await stripe.prices.list({ lookup_keys: ['pro'] })).data.map(({ id }) => id)).toEqual([second.id]);
  expect((await stripe.prices.retrieve(first.id)).lookup_key).toBeNull();
});

test('the control API refuses pages of websites and unknown fields', async () => {
  const clock = (init: RequestInit) => fetch(`${url}/_sandbox/clock`, { method: 'POST', ...init });
  expect(
    (await clock({ headers: { origin: 'http://evil.example' }, body: '{"advance_seconds":1}' })).status,
  ).toBe(403);
  expect((await clock({ body: '{"advance_seconds":1,"x":1}' })).status).toBe(400);
  expect((await clock({ body: '{"advance_seconds":-1}' })).status).toBe(400);
  expect((await clock({ body: 'not json' })).status).toBe(400);
  expect((await fetch(`${url}/_sandbox/nothing`)).status).toBe(404);
});
