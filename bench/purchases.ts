import { createHmac, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTollgate, type Tollgate } from '../scripts/compose.ts';
import { freePort } from '../scripts/free-port.ts';
import { randomBase62 } from '../shared/base62.ts';
import { createLogger } from '../shared/log.ts';
import { listed, type Outcome } from './results.ts';

const WEBHOOKS = 40;
const CLAIMS_A_ROUND = 300;
const CLAIMS_AT_ONCE = 16;
const ROUNDS = 5;

/** The two figures of a purchase, on everything in one process as `npm start` runs it. */
export async function benchPurchases(): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-bench-'));
  const tollgate = await startTollgate(
    {
      KEYSTORE_URL: `sqlite:${join(folder, 'keystore.sqlite')}`,
      GATEWAY_PORT: String(await freePort()),
      BILLING_PORT: String(await freePort()),
      SANDBOX_PORT: '0',
      INTERNAL_PORT: '0',
      BILLING_INTERNAL_PORT: '0',
    },
    () => createLogger({ level: 'silent' }),
  );
  try {
    await post(`${tollgate.sandbox?.url}/_sandbox/delivery`, { mode: 'paused' });
    const waits: number[] = [];
    for (let i = 0; i < WEBHOOKS + 5; i++) waits.push(await webhookToUsableKey(tollgate));
    const rates: number[] = [];
    for (let round = 0; round < ROUNDS + 1; round++) rates.push(await claimsPerSecond(tollgate));
    // The first of each warm up the process.
    return listed([
      { subject: 'Webhook received to key usable at the gateway', unit: 'ms', runs: waits.slice(5) },
      { subject: `Claims a second, ${CLAIMS_AT_ONCE} at once`, unit: '/s', runs: rates.slice(1) },
    ]);
  } finally {
    await tollgate.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function webhookToUsableKey({
  billing,
  gateway,
  sandbox,
  keystore,
  config,
}: Tollgate): Promise<number> {
  const opened = await post(`${billing.url}/billing/create-checkout-session`, { plan: 'team' });
  const sessionId = /cs_test_[0-9A-Za-z]+/.exec(String(opened.url))?.[0] as string;
  await post(`${sandbox?.url}/_sandbox/checkout/sessions/${sessionId}/pay`, { card: 'success' });
  const body = JSON.stringify({
    id: `evt_${randomUUID()}`,
    object: 'event',
    type: 'checkout.session.completed',
    livemode: false,
    created: Math.floor(Date.now() / 1000),
    data: { object: { id: sessionId, object: 'checkout.session' } },
  });
  const timestamp = Math.floor(Date.now() / 1000);
  const signature = createHmac('sha256', config.stripe?.webhookSecret as string)
    .update(`${timestamp}.${body}`)
    .digest('hex');

  const start = performance.now();
  const answer = await fetch(`${billing.url}/billing/webhook`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Stripe-Signature': `t=${timestamp},v1=${signature}` },
    body,
  });
  if (!answer.ok) throw new Error(`The webhook was answered ${answer.status}`);
  // Read, not asked for over HTTP: the success page would settle the purchase itself.
  while ((await keystore.findReveal(sessionId))?.reveal?.state !== 'sealed') await new Promise(setImmediate);
  const { key } = await post(`${billing.url}/billing/success/claim`, { session_id: sessionId });
  const used = await fetch(`${gateway.url}/v1/time`, { headers: { 'X-API-Key': String(key) } });
  if (used.status !== 200) throw new Error(`The gateway answered ${used.status}`);
  await used.text();
  return performance.now() - start;
}

async function claimsPerSecond({ billing, keystore, config }: Tollgate): Promise<number> {
  const sessions: string[] = [];
  for (let i = 0; i < CLAIMS_A_ROUND; i++) {
    const sessionId = `cs_test_${randomBase62(58)}`;
    await keystore.provisionPurchase({
      sessionId,
      mode: 'test',
      planId: 'pro',
      priceId: 'price_bench',
      keyPrefix: config.keyPrefix,
      buyer: { stripeCustomerId: null, email: null },
      subscription: null,
      paymentIntentId: null,
      quantity: 1,
      accessMs: null,
      rulesOf: () => ({}),
      amountTotal: null,
      currency: null,
      actor: 'bench',
    });
    sessions.push(sessionId);
  }
  const start = performance.now();
  await Promise.all(
    Array.from({ length: CLAIMS_AT_ONCE }, async () => {
      for (let session = sessions.pop(); session; session = sessions.pop()) {
        const { key } = await post(`${billing.url}/billing/success/claim`, { session_id: session });
        if (typeof key !== 'string') throw new Error('A claim showed no key');
      }
    }),
  );
  return CLAIMS_A_ROUND / ((performance.now() - start) / 1000);
}

async function post(url: string, body: object): Promise<Record<string, unknown>> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = (await response.json()) as Record<string, unknown>;
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${JSON.stringify(answer)}`);
  return answer;
}
