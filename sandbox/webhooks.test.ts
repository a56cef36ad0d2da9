import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import Stripe from 'stripe';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { closeSandboxes, type SandboxUnderTest, startSandboxUnderTest } from '../test/sandboxes.ts';
import { startCheckedSandbox } from './conformance.ts';

// Room for a machine busy with other things: nothing here waits by time.
const eventually = <T>(probe: () => T) => expect.poll(probe);

interface Received {
  id: string;
  type: string;
  body: string;
  signature: string;
}

let sandbox: SandboxUnderTest;
let stripe: Stripe;
let receiver: Server;
let address: string;
let received: Received[];
/** What the receiver answers: statuses in turn, then 200; 0 does not answer at all. */
let answers: number[];

beforeEach(async () => {
  received = [];
  answers = [];
  receiver = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    const { id, type } = JSON.parse(body) as Received;
    received.push({ id, type, body, signature: String(request.headers['stripe-signature']) });
    const status = answers.shift() ?? 200;
    if (status !== 0) response.writeHead(status, status === 302 ? { location: address } : {}).end();
  });
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  address = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
  sandbox = await startSandboxUnderTest({ retryMs: [20, 40], timeoutMs: 300 });
  stripe = sandbox.stripe;
});

afterEach(async () => {
  await closeSandboxes().finally(() => {
    receiver.closeAllConnections();
    receiver.close();
  });
});

interface Delivered {
  state: string;
  attempts: { status: number | null; error: string | null }[];
}

async function deliveries(): Promise<Delivered[]> {
  const response = await fetch(`${sandbox.url}/_sandbox/deliveries`);
  return ((await response.json()) as { deliveries: Delivered[] }).deliveries;
}

async function customers(count: number): Promise<void> {
  for (let index = 0; index < count; index++) await stripe.customers.create({ name: `c${index}` });
}

const endpoint = (events: Stripe.WebhookEndpointCreateParams.EnabledEvent[] = ['*']) =>
  stripe.webhookEndpoints.create({ url: address, enabled_events: events });

test('an event arrives signed so that the SDK accepts it', async () => {
  const { secret } = await endpoint();
  await customers(1);
  await eventually(() => received.length).toBe(1);
  const [{ body, signature }] = received as [Received];
  const event = stripe.webhooks.constructEvent(body, signature, secret as string);
  expect(event).toMatchObject({
    type: 'customer.created',
    data: { object: { name: 'c0' } },
    livemode: false,
    pending_webhooks: 1,
  });
  expect(() => stripe.webhooks.constructEvent(`${body} `, signature, secret as string)).toThrow(/signature/i);
  expect(signature).toMatch(/^t=\d+,v1=[0-9a-f]{64},v0=[0-9a-f]{64}$/);
});

test('the secret is shown once', async () => {
  const { id, secret } = await endpoint();
  expect(secret).toMatch(/^whsec_[A-Za-z0-9]{32}$/);
  expect((await stripe.webhookEndpoints.retrieve(id)).secret).toBeUndefined();
  expect((await stripe.webhookEndpoints.list()).data[0]!.secret).toBeUndefined();
});

test('an endpoint hears only what it asked for, while it is enabled', async () => {
  const { id } = await endpoint(['product.created']);
  await customers(1);
  await stripe.products.create({ name: 'heard' });
  await eventually(() => received.map(({ type }) => type)).toEqual(['product.created']);
  await stripe.webhookEndpoints.update(id, { disabled: true });
  await stripe.products.create({ name: 'unheard' });
  await sandbox.control('delivery/flush');
  expect(received).toHaveLength(1);
});

test.each([[500], [302], [404], [0]])(
  'an answer of %i is tried again, and pending_webhooks tells',
  async (status) => {
    await endpoint();
    answers = [status];
    await customers(1);
    await eventually(async () => (await deliveries())[0]?.state).toBe('delivered');
    expect(received.map(({ id }) => id)).toEqual([received[0]!.id, received[0]!.id]);
    const { attempts } = (await deliveries())[0]!;
    expect(attempts[0]).toMatchObject(status === 0 ? { status: null, error: 'timeout' } : { status });
    expect((await stripe.events.retrieve(received[0]!.id)).pending_webhooks).toBe(0);
  },
);

test('retries end, and the event stays listed as undelivered', async () => {
  await endpoint();
  answers = [500, 500, 500, 500];
  await customers(1);
  await eventually(async () => (await deliveries())[0]?.state).toBe('failed');
  expect(received).toHaveLength(3);
  const { data } = await stripe.events.list({ delivery_success: false });
  expect(data.map(({ id, pending_webhooks }) => [id, pending_webhooks])).toEqual([[received[0]!.id, 1]]);
  answers = [];
  await sandbox.control(`events/${data[0]!.id}/deliver`);
  expect((await stripe.events.list({ delivery_success: false })).data).toEqual([]);
});

test('paused: nothing goes out until it is flushed, in the order asked for', async () => {
  await endpoint();
  await sandbox.control('delivery', { mode: 'paused' });
  await customers(4);
  expect((await deliveries()).map(({ state }) => state)).toEqual(Array(4).fill('held'));
  expect(await sandbox.control('delivery/flush', { order: 'reversed' })).toEqual({
    attempted: 4,
    delivered: 4,
    failed: 0,
  });
  expect(received.map(({ body }) => JSON.parse(body).data.object.name)).toEqual(['c3', 'c2', 'c1', 'c0']);
});

test('in order: one after the other', async () => {
  await endpoint();
  await sandbox.control('delivery', { mode: 'in_order' });
  await customers(6);
  await eventually(() => received.length).toBe(6);
  expect(received.map(({ body }) => JSON.parse(body).data.object.name)).toEqual([
    'c0',
    'c1',
    'c2',
    'c3',
    'c4',
    'c5',
  ]);
});

test('shuffled: all, in another order, and the same order for the same seed', async () => {
  await endpoint();
  await sandbox.control('delivery', { mode: 'paused' });
  await customers(8);
  await sandbox.control('delivery/flush', { order: 'shuffled', seed: 7 });
  const names = () => received.map(({ body }) => JSON.parse(body).data.object.name as string);
  const first = names();
  expect(first).not.toEqual([...first].sort());
  expect([...first].sort()).toEqual(['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7']);
  received = [];
  await customers(8);
  await sandbox.control('delivery/flush', { order: 'shuffled', seed: 7 });
  expect(names()).toEqual(first);
  received = [];
  await sandbox.control('delivery', { mode: 'shuffled', window_ms: 100, copies: 2, seed: 3 });
  await customers(3);
  await eventually(() => received.length).toBe(6);
  expect(new Set(names())).toEqual(new Set(['c0', 'c1', 'c2']));
});

test('duplicated: the same event more than once', async () => {
  await endpoint();
  await sandbox.control('delivery', { mode: 'duplicated', copies: 3 });
  await customers(1);
  await eventually(() => received.length).toBe(3);
  expect(new Set(received.map(({ id }) => id)).size).toBe(1);
  await eventually(async () => (await stripe.events.retrieve(received[0]!.id)).pending_webhooks).toBe(0);
});

test('dropped: never sent, but listed as undelivered', async () => {
  await endpoint();
  await sandbox.control('delivery', { mode: 'dropped' });
  await customers(2);
  await sandbox.control('delivery/flush');
  expect(received).toEqual([]);
  expect((await stripe.events.list({ delivery_success: false })).data).toHaveLength(2);
});

test('wrong signature: refused by the SDK, right again on the retry after the mode is over', async () => {
  const { secret } = await endpoint();
  answers = [400];
  await sandbox.control('delivery', { mode: 'wrong_signature' });
  await customers(1);
  await eventually(() => received.length).toBeGreaterThan(0);
  await sandbox.control('delivery', { mode: 'concurrent' });
  const [{ body, signature }] = received as [Received];
  expect(() => stripe.webhooks.constructEvent(body, signature, secret as string)).toThrow(/signature/i);
});

test('delayed: held for as long as said, unless flushed', async () => {
  await endpoint();
  await sandbox.control('delivery', { mode: 'delayed', delay_ms: 600_000 });
  await customers(1);
  expect((await deliveries())[0]?.state).toBe('held');
  expect(await sandbox.control('delivery/flush')).toMatchObject({ delivered: 1 });
  expect(received).toHaveLength(1);
});

test('flush waits for what its deliveries bring about', async () => {
  // None comes while the other delivery is on its way.
  sandbox = await startSandboxUnderTest({ retryMs: [600_000] });
  stripe = sandbox.stripe;
  await endpoint();
  await sandbox.control('delivery', { mode: 'paused' });
  answers = [500];
  await customers(2);
  expect(await sandbox.control('delivery/flush', { order: 'created' })).toEqual({
    attempted: 2,
    delivered: 1,
    failed: 1,
  });
});

test('closing ends retries and hanging deliveries at once', async () => {
  const own = await startCheckedSandbox({ timeoutMs: 60_000 });
  own.listen(address);
  answers = [0];
  const seen = received.length;
  await new Stripe('sk_test_x', { protocol: 'http', host: '127.0.0.1', port: own.port }).customers.create({});
  await eventually(() => received.length).toBe(seen + 1);
  const before = performance.now();
  await own.close();
  expect(performance.now() - before).toBeLessThan(20_000);
});
