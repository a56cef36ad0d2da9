import { afterAll, expect, test } from 'vitest';
import { closeSandboxes, refusal, startSandboxUnderTest, stripeAt } from '../test/sandboxes.ts';

// Room for a machine busy with other things: nothing here waits by time.

const { port, stripe, post, control } = await startSandboxUnderTest();
afterAll(closeSandboxes);

test('an idempotency key replays success and failure', async () => {
  const first = await stripe.products.create({ name: 'once' }, { idempotencyKey: 'key-1' });
  const again = await post('/v1/products', 'name=once', { 'idempotency-key': 'key-1' });
  expect(again.headers.get('idempotent-replayed')).toBe('true');
  expect(await again.json()).toMatchObject({ id: first.id });
  const missing = () =>
    post('/v1/prices', 'currency=usd&unit_amount=1&product=prod_later', { 'idempotency-key': 'key-2' });
  expect((await missing()).headers.get('idempotent-replayed')).toBeNull();
  await stripe.products.create({ id: 'prod_later', name: 'later' });
  const replayed = await missing();
  expect([replayed.status, replayed.headers.get('idempotent-replayed')]).toEqual([400, 'true']);
});

test('an idempotency key is bound to its path and parameters', async () => {
  await stripe.products.create({ name: 'bound' }, { idempotencyKey: 'key-3' });
  expect(await refusal(stripe.products.create({ name: 'other' }, { idempotencyKey: 'key-3' }))).toMatchObject(
    { statusCode: 400, type: 'StripeIdempotencyError' },
  );
  expect(
    await refusal(stripe.customers.create({ name: 'bound' }, { idempotencyKey: 'key-3' })),
  ).toMatchObject({ type: 'StripeIdempotencyError' });
});

test('parameters refused before execution leave the key free', async () => {
  expect((await post('/v1/products', 'nome=x', { 'idempotency-key': 'key-4' })).status).toBe(400);
  expect((await post('/v1/products', 'name=x', { 'idempotency-key': 'key-4' })).status).toBe(200);
});

test('a key in use answers 409', async () => {
  await control('faults', { hang_ms: 600_000, paths: ['/v1/customers'] });
  const first = post('/v1/customers', 'name=slow', { 'idempotency-key': 'key-5' });
  first.catch(() => undefined);
  await expect
    .poll(async () => (await post('/v1/customers', 'name=slow', { 'idempotency-key': 'key-5' })).status)
    .toBe(409);
});

test('a lost answer is found again under its key', async () => {
  await control('faults', { drop_connection: true, after: true, paths: ['/v1/products'] });
  const retrying = stripeAt(port, 2);
  const { id } = await retrying.products.create({ name: 'lost and found' });
  const { data } = await stripe.products.list({ limit: 100 });
  expect(data.filter((product) => product.name === 'lost and found').map((product) => product.id)).toEqual([
    id,
  ]);
});
