import Stripe from 'stripe';
import { afterEach, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { closeAll, startTestGateway, startUpstream } from './gateways.ts';
import { LANES } from './servers.ts';

let billing: BillingUnderTest | undefined;
afterEach(async () => {
  await billing?.close();
  billing = undefined;
  await closeAll();
});

it('from the webhook to the key: in the answer, the inbox, the log lines and the audit log', async () => {
  billing = await startBillingUnderTest();
  const { keystore, logLines, stripe, url, webhookSecret } = billing;
  await billing.control('/delivery', { mode: 'paused' });
  const sessionId = await billing.buy('pro');
  const [event] = (await stripe.events.list({ type: 'checkout.session.completed', limit: 1 })).data;
  const payload = JSON.stringify(event);
  const signature = Stripe.webhooks.generateTestHeaderString({ payload, secret: webhookSecret });
  const answer = await fetch(`${url}/billing/webhook`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Stripe-Signature': signature },
    body: payload,
  });
  const id = answer.headers.get('x-request-id') as string;
  expect(id).toMatch(/^[0-9a-f-]{36}$/);
  const { keyId } = await vi.waitFor(async () => {
    const purchase = await keystore.findPurchase(sessionId);
    expect(purchase).toMatchObject({ status: 'provisioned' });
    return purchase as { keyId: string };
  });
  expect(await keystore.findEvent(event!.id)).toMatchObject({ requestId: id });
  const [made] = await keystore.keyHistory(keyId);
  expect([made?.actor, JSON.parse(made?.details ?? '{}')]).toMatchObject([
    `stripe:${event!.id}`,
    { request_id: id },
  ]);
  await vi.waitFor(() => {
    const story = logLines.map((line) => JSON.parse(line)).filter((line) => line.request_id === id);
    expect(story.map(({ msg }) => msg).sort()).toEqual([
      'Event processed',
      'Event received',
      'Purchase provisioned',
      'Request',
    ]);
  });
});

it('from the success page to the key', async () => {
  billing = await startBillingUnderTest();
  await billing.control('/delivery', { mode: 'paused' });
  const sessionId = await billing.buy('pro');
  const answer = await fetch(`${billing.url}/billing/success?session_id=${sessionId}`);
  const { key_id: keyId } = (await answer.json()) as { key_id: string };
  const [made] = await billing.keystore.keyHistory(keyId);
  expect(JSON.parse(made?.details ?? '{}')).toMatchObject({ request_id: answer.headers.get('x-request-id') });
});

it.each(LANES)(
  'from the gateway to the upstream, with the trace it belongs to (fast lane %s)',
  async (lane) => {
    const upstream = await startUpstream((_req, res) => {
      res.setHeader('Content-Length', 2);
      res.end('{}');
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url, env: { FAST_LANE: lane } });
    const { plaintext } = await gateway.key('open');
    const trace = {
      traceparent: `00-${'4bf92f3577b34da6'.repeat(2)}-00f067aa0ba902b7-01`,
      tracestate: 'a=1,b=2',
    };
    const answer = await gateway.get('/v1', plaintext, { headers: trace });
    const id = answer.headers.get('x-request-id');
    expect(upstream.requests[0]?.headers).toMatchObject({ ...trace, 'x-request-id': id });
    const refused = await gateway.get('/v1', `${plaintext}x`);
    expect(((await refused.json()) as { request_id: string }).request_id).toBe(
      refused.headers.get('x-request-id'),
    );
    expect(upstream.requests).toHaveLength(1);
  },
);
