import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type Stripe from 'stripe';
import { afterEach, expect, test } from 'vitest';
import { closeSandboxes, refusal, startShop } from '../test/sandboxes.ts';

const closing: (() => void)[] = [];

afterEach(async () => {
  await closeSandboxes();
  for (const close of closing.splice(0)) close();
});

/** Keeps what is sent to it. */
async function startReceiver() {
  const received: { body: string; signature: string }[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      received.push({ body, signature: String(request.headers['stripe-signature']) });
      response.end();
    });
  }).listen(0, '127.0.0.1');
  closing.push(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, received };
}

test('a thin event arrives signed, and leads to its object and to the whole event', async () => {
  const { stripe, control } = await startShop();
  const { url, received } = await startReceiver();
  const { secret, id } = await control('listen', { url, thin: true });
  expect(id).toMatch(/^ed_test_/);
  const customer = await stripe.customers.create({ email: 'ada@example.com' });
  await expect.poll(() => received.length).toBe(1);
  const { body, signature } = received[0]!;
  const event = stripe.parseEventNotification(body, signature, secret as string);
  if (event.type !== 'v1.customer.created') throw new Error(event.type);
  expect(event).toMatchObject({
    object: 'v2.core.event',
    livemode: false,
    created: new Date(customer.created * 1000).toISOString(),
    reason: { type: 'request', request: { id: expect.stringMatching(/^req_/) } },
    related_object: { id: customer.id, type: 'customer', url: `/v1/customers/${customer.id}` },
  });
  expect(JSON.parse(body)).not.toHaveProperty('data');
  expect(await event.fetchRelatedObject()).toMatchObject({ email: 'ada@example.com' });
  expect(await event.fetchEvent()).toMatchObject({ id: event.id, type: 'v1.customer.created' });
  const whole = await stripe.events.retrieve(event.snapshot_event as string);
  expect(whole).toMatchObject({ type: 'customer.created', data: { object: { id: customer.id } } });
  expect(event.id).not.toBe(whole.id);
  expect(() => stripe.parseEventNotification(body, signature, 'whsec_other')).toThrow(/signature/i);
});

test('an event destination gets the types it asked for, until it is disabled', async () => {
  const { stripe } = await startShop();
  const { url, received } = await startReceiver();
  const destination = await stripe.v2.core.eventDestinations.create({
    name: 'Access',
    type: 'webhook_endpoint',
    event_payload: 'thin',
    enabled_events: ['v1.customer.deleted'],
    webhook_endpoint: { url },
    include: ['webhook_endpoint.signing_secret', 'webhook_endpoint.url'],
  });
  expect(destination).toMatchObject({
    event_payload: 'thin',
    status: 'enabled',
    webhook_endpoint: { url, signing_secret: expect.stringMatching(/^whsec_/) },
  });
  const one = await stripe.customers.create();
  const two = await stripe.customers.create();
  await stripe.customers.del(one.id);
  await expect.poll(() => received.length).toBe(1);
  await stripe.v2.core.eventDestinations.disable(destination.id);
  await stripe.customers.del(two.id);
  const types = [];
  for await (const { type } of stripe.v2.core.events.list({ object_id: two.id })) types.push(type);
  expect(types).toEqual(['v1.customer.deleted', 'v1.customer.created']);
  expect(received).toHaveLength(1);
  expect((await stripe.webhookEndpoints.list()).data).toEqual([]);
  await stripe.v2.core.eventDestinations.del(destination.id);
  expect((await stripe.v2.core.eventDestinations.list()).data).toEqual([]);
});

test('types and payloads that do not fit are refused', async () => {
  const { stripe } = await startShop();
  const wanted: Stripe.V2.Core.EventDestinationCreateParams = {
    name: 'x',
    type: 'webhook_endpoint',
    event_payload: 'thin',
    enabled_events: ['customer.deleted'],
    webhook_endpoint: { url: 'http://127.0.0.1:1/' },
  };
  expect((await refusal(stripe.v2.core.eventDestinations.create(wanted))).message).toMatch(/enabled_events/);
  expect((await refusal(stripe.v2.core.events.retrieve('evt_test_x'))).statusCode).toBe(404);
});

test('what cannot be read by its id is not named', async () => {
  const { stripe, subscribe, monthly } = await startShop();
  const feature = await stripe.entitlements.features.create({ lookup_key: 'exports', name: 'Exports' });
  await stripe.products.createFeature(monthly.product as string, { entitlement_feature: feature.id });
  await subscribe();
  const type = 'v1.entitlements.active_entitlement_summary.updated';
  const { data } = await stripe.v2.core.events.list({ types: [type] });
  expect(data).toMatchObject([{ type, related_object: null }]);
});
