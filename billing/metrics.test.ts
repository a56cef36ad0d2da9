import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';
import { resourceOf } from './stripe-meter.ts';

let test: BillingUnderTest;
beforeEach(async () => {
  test = await startBillingUnderTest();
});
afterEach(() => test.close());

async function metrics(): Promise<string> {
  const response = await fetch(`${test.internalUrl}/metrics`);
  expect(response.status).toBe(200);
  return response.text();
}

/** The value of the line that begins so. */
async function figure(beginning: string): Promise<number | undefined> {
  const line = (await metrics()).split('\n').find((each) => each.startsWith(`${beginning} `));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
}

it('counts the way of a purchase, from the checkout to the claim', async () => {
  const sessionId = await test.buy('pro');
  await vi.waitFor(async () =>
    expect(await figure('tollgate_billing_purchases_total{plan="pro",by="stripe"}')).toBeGreaterThan(0),
  );
  // Whichever of the events about it was worked on first made the key.
  await vi.waitFor(async () =>
    expect(await metrics()).toMatch(/^tollgate_billing_events_total\{.*result="processed".*\} [1-9]/m),
  );
  const claim = await fetch(`${test.url}/billing/success/claim`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
    body: JSON.stringify({ session_id: sessionId }),
  });
  expect(claim.status).toBe(200);
  const text = await metrics();
  for (const line of [
    'tollgate_billing_checkouts_total{plan="pro"} 1',
    'tollgate_billing_claims_total{by="success_page"} 1',
    'tollgate_billing_events_received_total{type="checkout.session.completed",outcome="received"} 1',
    'tollgate_billing_keystore_up 1',
    'tollgate_billing_inbox_events{status="failed"} 0',
  ])
    expect(text).toContain(`${line}\n`);
  expect(text).toMatch(
    /tollgate_billing_request_seconds_count\{route="\/billing\/webhook",status="2xx"\} \d/,
  );
  expect(text).toMatch(
    /tollgate_billing_stripe_seconds_count\{resource="checkout\/sessions",status="2xx"\} \d/,
  );
  expect(text).toMatch(/tollgate_billing_event_seconds_count [1-9]/);
  // Ids and addresses of buyers are no labels.
  expect(text).not.toMatch(/cs_test|cus_|sub_|evt_|@/);
});

it('says how deep the inbox is and how old its oldest event, and what was refused', async () => {
  await test.control('/faults', { status: 500, count: 1000 });
  const bytes = { method: 'POST', headers: { 'Stripe-Signature': 't=1,v1=x' }, body: '{}' };
  expect((await fetch(`${test.url}/billing/webhook`, bytes)).status).toBe(400);
  expect((await fetch(`${test.url}/nowhere/${'x'.repeat(50)}`)).status).toBe(404);
  const event = {
    id: 'evt_waits',
    type: 'customer.subscription.updated',
    mode: 'test' as const,
    apiVersion: null,
    object: { kind: 'subscription', id: 'sub_1' },
    customer: null,
    outcome: null,
    payload: '{}',
    createdAt: Date.now(),
  };
  await test.keystore.receiveEvent(event);
  await vi.waitFor(async () =>
    expect(
      await figure(
        'tollgate_billing_events_total{type="customer.subscription.updated",result="retried",outcome="stripe_unavailable"}',
      ),
    ).toBeGreaterThan(0),
  );
  expect(await figure('tollgate_billing_inbox_events{status="pending"}')).toBe(1);
  expect(await figure('tollgate_billing_inbox_oldest_seconds')).toBeGreaterThan(0);
  expect(
    await figure('tollgate_billing_stripe_seconds_count{resource="subscriptions",status="5xx"}'),
  ).toBeGreaterThan(0);
  expect(await figure('tollgate_billing_refusals_total{code="invalid_signature"}')).toBe(1);
  expect(await figure('tollgate_billing_request_seconds_count{route="none",status="4xx"}')).toBe(1);
});

it('goes on while the keystore is away, and says so', async () => {
  await metrics();
  vi.spyOn(test.keystore, 'inboxDepth').mockRejectedValue(new Error('away'));
  const text = await metrics();
  expect(text).toContain('tollgate_billing_keystore_up 0\n');
  expect(text).not.toMatch(/^tollgate_billing_inbox_(events|oldest)/m);
});

it('is not on the port that buyers reach', async () => {
  expect((await fetch(`${test.url}/metrics`)).status).toBe(404);
  expect((await fetch(`${test.internalUrl}/metrics`, { method: 'POST' })).status).toBe(405);
  expect((await fetch(`${test.internalUrl}/billing/plans`)).status).toBe(404);
  expect((await fetch(`${test.internalUrl}/health`)).status).toBe(200);
});

it.each([
  ['/v1/checkout/sessions/cs_test_1/line_items', 'checkout/sessions'],
  ['/v1/subscriptions/sub_1?expand[]=x', 'subscriptions'],
  ['/v2/core/events/evt_1', 'core/events'],
  ['/v1/charges', 'charges'],
])('a call to %s is about %s', (path, resource) => {
  expect(resourceOf(path)).toBe(resource);
});
