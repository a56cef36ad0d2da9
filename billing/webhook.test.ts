import Stripe from 'stripe';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { besideKeystore, whenUnlocked } from '../test/beside-keystore.ts';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';

let test: BillingUnderTest;
beforeEach(async () => {
  test = await startBillingUnderTest();
  await test.control('/delivery', { mode: 'paused' });
});
afterEach(() => test.close());

let count = 0;
const event = (more: object = {}) => ({
  id: `evt_test_${++count}`,
  object: 'event',
  api_version: '2026-10-28.endive',
  created: Math.floor(Date.now() / 1000),
  livemode: false,
  type: 'checkout.session.completed',
  data: { object: { id: `cs_test_${'q'.repeat(58)}`, object: 'checkout.session' } },
  ...more,
});

function deliver(
  body: string,
  options: { path?: string; secret?: string; timestamp?: number; signature?: string } = {},
): Promise<Response> {
  const {
    path = '/billing/webhook',
    secret = test.webhookSecret,
    timestamp = Math.floor(Date.now() / 1000),
  } = options;
  const signature =
    options.signature ?? Stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp });
  return fetch(`${test.url}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Stripe-Signature': signature },
    body,
  });
}
const stored = (id: string) => test.keystore.findEvent(id);
/** Log lines of level warn and above since the test began. */
const complaints = () => test.logLines.filter((line) => /"level":"(warn|error|fatal)"/.test(line));

it('takes an event on both addresses, once', async () => {
  const first = event({ type: 'customer.created', data: { object: { id: 'cus_1' } } });
  expect(await (await deliver(JSON.stringify(first))).json()).toEqual({ received: true, duplicate: false });
  const again = await deliver(JSON.stringify(first), { path: '/stripe/webhook' });
  expect([again.status, await again.json()]).toEqual([200, { received: true, duplicate: true }]);
  await vi.waitFor(async () =>
    expect(await stored(first.id)).toMatchObject({ status: 'processed', outcome: 'unhandled' }),
  );
});

it('an unknown event type is kept, answered 200 and changes nothing', async () => {
  const odd = event({ type: 'planet.aligned', data: { object: { id: 'pl_1', object: 'planet' } } });
  expect((await deliver(JSON.stringify(odd))).status).toBe(200);
  await vi.waitFor(async () =>
    expect(await stored(odd.id)).toMatchObject({ status: 'processed', outcome: 'unhandled' }),
  );
  expect(test.logLines.filter((line) => line.includes(odd.id))).toHaveLength(1);
  expect(complaints()).toEqual([]);
});

it.each([
  ['a wrong secret', { secret: 'whsec_someone_elses_secret' }, 'invalid_signature'],
  ['no signature', { signature: '' }, 'invalid_signature'],
  ['garbage for a signature', { signature: 't=x,v1=y' }, 'invalid_signature'],
  ['a signature of an hour ago', { timestamp: Math.floor(Date.now() / 1000) - 3600 }, 'stale_signature'],
  ['a signature of 301 seconds ago', { timestamp: Math.floor(Date.now() / 1000) - 302 }, 'stale_signature'],
])('%s: 400, logged once, nothing kept', async (_name, options, code) => {
  const forged = event();
  const response = await deliver(JSON.stringify(forged), options);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ code });
  expect(await stored(forged.id)).toBeUndefined();
  expect(complaints()).toHaveLength(1);
  expect(complaints().join('')).not.toContain('whsec_someone');
});

it('a body changed on the way: 400', async () => {
  const body = JSON.stringify(event());
  const signature = Stripe.webhooks.generateTestHeaderString({ payload: body, secret: test.webhookSecret });
  const response = await deliver(body.replace('false', 'true '), { signature });
  expect(await response.json()).toMatchObject({ status: 400, code: 'invalid_signature' });
});

it('an event of the other mode: 400 by name, logged once, nothing kept', async () => {
  const live = event({ livemode: true });
  const response = await deliver(JSON.stringify(live));
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({
    code: 'wrong_mode_event',
    detail: 'This is an event in live mode, and this server is in test mode.',
  });
  expect(await stored(live.id)).toBeUndefined();
  expect(complaints()).toHaveLength(1);
});

it('a body of 1 MB: 413, logged once, nothing kept', async () => {
  const huge = event({ data: { object: { id: 'x', padding: 'x'.repeat(1_000_000) } } });
  const response = await deliver(JSON.stringify(huge));
  expect(response.status).toBe(413);
  expect(await response.json()).toMatchObject({ code: 'payload_too_large' });
  expect(await stored(huge.id)).toBeUndefined();
  expect(complaints()).toHaveLength(1);
});

it.each([
  ['no JSON', '{"id":'],
  ['a list', '[]'],
  ['null', 'null'],
  [
    'an event without a type',
    JSON.stringify({ id: 'evt_x', object: 'event', livemode: false, created: 1, data: { object: {} } }),
  ],
  ['nothing', ''],
])('signed, but %s: 400', async (_name, body) => {
  expect(await (await deliver(body)).json()).toMatchObject({ status: 400 });
});

it('other methods: 405', async () => {
  const response = await fetch(`${test.url}/billing/webhook`);
  expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST']);
});

it('without a webhook secret nothing is trusted: 503, so that nothing is lost once it is set', async () => {
  await test.restart({ STRIPE_WEBHOOK_SECRET: '' });
  const early = event();
  const response = await deliver(JSON.stringify(early));
  expect([response.status, await response.json()]).toMatchObject([503, { code: 'webhook_not_configured' }]);
  expect(await stored(early.id)).toBeUndefined();
});

it('a keystore that cannot be written: 503, so that Stripe sends the event again', async () => {
  const raw = besideKeystore(test.keystoreUrl);
  await whenUnlocked(() => raw.exec('alter table events rename to events_away'));
  const event1 = event({ type: 'customer.created', data: { object: { id: 'cus_1' } } });
  const response = await deliver(JSON.stringify(event1));
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({ code: 'keystore_unavailable' });
  await whenUnlocked(() => raw.exec('alter table events_away rename to events'));
  raw.close();
  expect((await deliver(JSON.stringify(event1))).status).toBe(200);
});

it('Stripe away: the event waits in the inbox and is worked off when Stripe is back', async () => {
  const sessionId = await test.buy('pro');
  await test.control('/faults', { status: 500, count: 1000 });
  const completed = event({ data: { object: { id: sessionId, object: 'checkout.session' } } });
  expect((await deliver(JSON.stringify(completed))).status).toBe(200);
  await vi.waitFor(async () =>
    expect(await stored(completed.id)).toMatchObject({ status: 'pending', outcome: 'stripe_unavailable' }),
  );
  const page = await fetch(`${test.url}/billing/success?session_id=${sessionId}`, {
    headers: { Accept: 'text/html' },
  });
  expect([page.status, page.headers.get('refresh')]).toEqual([503, '5']);
  const text = await page.text();
  expect(text).toContain('This page tries again by itself');
  const claim = await fetch(`${test.url}/billing/success/claim`, {
    method: 'POST',
    headers: { Accept: 'text/html' },
    body: new URLSearchParams({ session_id: sessionId }),
  });
  expect([claim.status, claim.headers.get('refresh')]).toEqual([503, null]);
  expect(await claim.text()).not.toContain('tries again by itself');
  expect(text).toContain('Stripe cannot be reached');
  expect(text).not.toMatch(/at .*\.ts:/);
  await test.control('/faults/clear');
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
  await vi.waitFor(async () => expect(await stored(completed.id)).toMatchObject({ status: 'processed' }));
});

it('an event left in the inbox by a stop is worked off after the start, by asking Stripe what it was about', async () => {
  const sessionId = await test.buy('pro');
  await test.stopBilling();
  const [left] = (await test.stripe.events.list({ type: 'checkout.session.completed', limit: 1 })).data;
  await test.keystore.receiveEvent({
    id: left!.id,
    type: left!.type,
    mode: 'test',
    apiVersion: null,
    object: { kind: 'session', id: sessionId },
    customer: null,
    outcome: null,
    payload: JSON.stringify(left),
    createdAt: Date.now(),
  });
  await test.restart();
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
});

it('an event that Stripe no longer knows fails for good, and is kept', async () => {
  await test.stopBilling();
  const lost = event();
  await test.keystore.receiveEvent({
    id: lost.id,
    type: lost.type,
    mode: 'test',
    apiVersion: null,
    object: { kind: 'session', id: lost.data.object.id },
    customer: null,
    outcome: null,
    payload: JSON.stringify(lost),
    createdAt: Date.now(),
  });
  await test.restart();
  await vi.waitFor(async () =>
    expect(await stored(lost.id)).toMatchObject({ status: 'failed', outcome: 'not_found' }),
  );
});

it('a stop in the middle of the work gives it back: the next process need not wait for the lease', async () => {
  const sessionId = await test.buy('pro');
  await test.control('/faults', { hang_ms: 60_000, count: 1000, paths: ['/v1/checkout/sessions'] });
  const [completed] = (await test.stripe.events.list({ type: 'checkout.session.completed', limit: 1 })).data;
  await test.control(`/events/${completed!.id}/deliver`);
  await vi.waitFor(async () => expect((await stored(completed!.id))?.attempts).toBe(1));
  await test.stopBilling();
  await test.control('/faults/clear');
  await test.restart();
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
});

it('events in any order, each many times, make one key', async () => {
  const sessionId = await test.buy('pro');
  await test.control('/delivery', { mode: 'duplicated', copies: 5 });
  for (const order of ['reversed', 'shuffled', 'concurrent'] as const)
    await test.control('/delivery/flush', { order });
  const events = await test.stripe.events.list({ limit: 100 });
  for (const each of events.data) await test.control(`/events/${each.id}/deliver`);
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
  await vi.waitFor(async () => expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }));
  expect(await test.keystore.listKeys({ limit: 10 })).toHaveLength(1);
});

it('thin events alone do it: a purchase, its renewal that fails, its end', async () => {
  const { secret } = test.sandbox.listen(`${test.url}/billing/webhook`, { thin: true });
  await test.restart({ STRIPE_WEBHOOK_SECRET: secret });
  const sessionId = await test.buy('pro');
  await test.control('/delivery', { mode: 'concurrent' });
  const subscription = async () => {
    const { keyId } = (await test.keystore.findPurchase(sessionId))!;
    return (await test.keystore.findKeyFacts(keyId ?? ''))?.subscription;
  };
  await vi.waitFor(async () => expect(await subscription()).toMatchObject({ status: 'active' }));
  const { id } = (await subscription())!;
  await test.control('/charges/fail_next', { count: 1 });
  await test.control('/clock', { advance_seconds: 32 * 86_400 });
  await vi.waitFor(async () => expect(await subscription()).toMatchObject({ status: 'past_due' }));
  await test.stripe.subscriptions.cancel(id);
  await vi.waitFor(async () => expect(await subscription()).toMatchObject({ status: 'canceled' }));
  const kept = await test.keystore.listEvents({ limit: 500 });
  expect(kept.map(({ type }) => type)).toEqual(
    expect.arrayContaining(['v1.checkout.session.completed', 'v1.invoice.payment_failed']),
  );
  expect(kept.filter(({ type }) => !type.startsWith('v1.'))).toEqual([]);
  expect(JSON.stringify(kept)).not.toContain(sessionId);
});

it('a thin event of something else is kept, and one that is malformed refused', async () => {
  const thin = {
    id: 'evt_thin_1',
    object: 'v2.core.event',
    type: 'v2.money_management.transaction.created',
    livemode: false,
    created: new Date().toISOString(),
    related_object: { id: 'trxn_1', type: 'transaction', url: '/v2/transactions/trxn_1' },
  };
  expect((await deliver(JSON.stringify(thin))).status).toBe(200);
  await vi.waitFor(async () => expect(await stored('evt_thin_1')).toMatchObject({ outcome: 'unhandled' }));
  const { created: _created, ...malformed } = { ...thin, id: 'evt_thin_2' };
  expect((await deliver(JSON.stringify(malformed))).status).toBe(400);
  expect((await deliver(JSON.stringify({ ...thin, id: 'evt_thin_3', livemode: true }))).status).toBe(400);
});
