import Stripe from 'stripe';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { described, startCheckedSandbox } from './conformance.ts';

// Room for a machine busy with other things: nothing here waits by time.
vi.setConfig({ testTimeout: 30_000 });

let sandbox: Awaited<ReturnType<typeof startCheckedSandbox>>;
let stripe: Stripe;

beforeAll(async () => {
  if (!described)
    console.warn('The description of Stripe is not beside the repository: answers go unchecked against it.');
  sandbox = await startCheckedSandbox();
  stripe = new Stripe('sk_test_x', {
    protocol: 'http',
    host: '127.0.0.1',
    port: sandbox.port,
    maxNetworkRetries: 0,
  });
});

afterAll(async () => {
  await sandbox.close();
  expect(sandbox.problems).toEqual([]);
});

function call(
  path: string,
  init: RequestInit & { headers?: Record<string, string> } = {},
): Promise<Response> {
  return fetch(`${sandbox.url}${path}`, {
    ...init,
    headers: { authorization: 'Bearer sk_test_x', ...init.headers },
  });
}

function post(path: string, body: string, headers: Record<string, string> = {}): Promise<Response> {
  return call(path, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
  });
}

async function refusal(
  promise: Promise<unknown>,
): Promise<{ statusCode?: number; type: string; code?: string; param?: string; message: string }> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Stripe.errors.StripeError);
  return error as never;
}

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
  await fetch(`${sandbox.url}/_sandbox/faults`, {
    method: 'POST',
    body: JSON.stringify({ hang_ms: 600_000, paths: ['/v1/customers'] }),
  });
  const first = post('/v1/customers', 'name=slow', { 'idempotency-key': 'key-5' });
  first.catch(() => undefined);
  await expect
    .poll(async () => (await post('/v1/customers', 'name=slow', { 'idempotency-key': 'key-5' })).status, {
      timeout: 10_000,
    })
    .toBe(409);
});

test('a lost answer is found again under its key', async () => {
  await fetch(`${sandbox.url}/_sandbox/faults`, {
    method: 'POST',
    body: JSON.stringify({ drop_connection: true, after: true, paths: ['/v1/products'] }),
  });
  const retrying = new Stripe('sk_test_x', {
    protocol: 'http',
    host: '127.0.0.1',
    port: sandbox.port,
    maxNetworkRetries: 2,
  });
  const { id } = await retrying.products.create({ name: 'lost and found' });
  const { data } = await stripe.products.list({ limit: 100 });
  expect(data.filter((product) => product.name === 'lost and found').map((product) => product.id)).toEqual([
    id,
  ]);
});
