import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { reachLimit } from '../billing/rehearsal/reach-limit.ts';
import { type Answer, request } from '../billing/rehearsal/request.ts';
import { cancelNow, changePrice } from '../billing/stripe-changes.ts';
import { createStripe } from '../billing/stripe-client.ts';
import type { StripeConfig } from '../shared/config.ts';
import { createLogger, logFile } from '../shared/log.ts';
import type { Plan } from '../shared/plans.ts';
import { startFailure } from '../shared/service.ts';
import { startTollgate, type Tollgate } from './compose.ts';
import { freePort } from './free-port.ts';

const { values } = parseArgs({ options: { keep: { type: 'string' } } });
const folder = values.keep ? resolve(values.keep) : mkdtempSync(join(tmpdir(), 'tollgate-demo-'));
let step = 0;

try {
  process.exitCode = await demo();
} catch (error) {
  console.error(`\n✗ ${startFailure(error)}`);
  process.exitCode = 1;
} finally {
  if (values.keep) console.log(`\nKept in ${folder}: keystore.sqlite and tollgate.log.`);
  else rmSync(folder, { recursive: true, force: true });
}

/** Everything a seller and a buyer do, with what was really answered. The exit code: 0 when each step was as it should be. */
async function demo(): Promise<number> {
  mkdirSync(folder, { recursive: true });
  const destination = logFile(join(folder, 'tollgate.log'));
  const started = performance.now();
  const [gatewayPort, billingPort] = [await freePort(), await freePort()];
  const tollgate = await startTollgate(
    {
      KEYSTORE_URL: `sqlite:${join(folder, 'keystore.sqlite')}`,
      GATEWAY_PORT: String(gatewayPort),
      BILLING_PORT: String(billingPort),
      SANDBOX_PORT: '0',
      INTERNAL_PORT: '0',
      BILLING_INTERNAL_PORT: '0',
      // It calls the demo API.
      ROUTES_FILE: 'off',
      LOG_LEVEL: 'debug',
      ...(process.env.PLANS_FILE ? { PLANS_FILE: process.env.PLANS_FILE } : {}),
    },
    (config) => createLogger({ level: config.logLevel, destination }),
  );
  try {
    say(
      `Started: billing ${tollgate.billing.url}, gateway ${tollgate.gateway.url}, sandbox ${tollgate.sandbox?.url}`,
    );
    const sold = tollgate.config.plans.plans.filter((plan) => !plan.hidden && plan.price);
    check(sold.length > 0, 'the catalogue sells at least one plan');
    for (const plan of sold) await buyUseAndCancel(tollgate, plan);
    await payLater(tollgate, sold.at(-1) as Plan);
    const renewing = sold.filter((plan) => plan.price?.interval && plan.price.unitAmount > 0);
    const [small, large] = [renewing[0], renewing.at(-1)];
    if (small && large && small !== large) await liveThrough(tollgate, small, large);
    console.log(
      `\n✓ All ${step} steps were as they should be (${Math.round(performance.now() - started)} ms).`,
    );
    return 0;
  } finally {
    await tollgate.close();
  }
}

async function buyUseAndCancel(tollgate: Tollgate, plan: Plan): Promise<void> {
  console.log(`\n${plan.name}`);
  const sessionId = await openCheckout(tollgate, plan);
  await pay(tollgate, sessionId, '4242 4242 4242 4242');
  await waitUntil(
    `the key of ${plan.id} is ready`,
    async () => (await successState(tollgate, sessionId)).status === 'ready',
  );
  say('success page: {"status":"ready"}');

  const claim = () =>
    request(`${tollgate.billing.url}/billing/success/claim`, { json: { session_id: sessionId } });
  const first = await claim();
  const key = String(first.body.key);
  check(
    first.status === 200 && /^[a-z0-9]+_test_[0-9A-Za-z]{50}$/.test(key),
    'the claim shows the key',
    first,
  );
  say(
    `claim → 200 key ${key.slice(0, 12)}…${key.slice(-4)} (shown in full to the buyer), plan ${first.body.plan}`,
  );
  const second = await claim();
  check(second.status === 410 && !second.text.includes(key), 'a second claim shows nothing', second);
  say(`claim again → 410 ${second.body.code}`);

  const call = (path: string) => request(`${tollgate.gateway.url}${path}`, { headers: { 'X-API-Key': key } });
  const who = await call('/whoami');
  check(who.status === 200 && (who.body.plan as { id: string }).id === plan.id, 'whoami knows the plan', who);
  say(`GET /whoami → 200 ${who.text}`);
  const echo = await call('/v1/echo');
  check(
    echo.status === 200 && !echo.text.includes(key) && echo.text.includes(String(first.body.key_id)),
    'the upstream sees who it is and not the key',
    echo,
  );
  say(`GET /v1/echo → 200 from the upstream; RateLimit: ${echo.headers.get('ratelimit')}`);
  if (plan.limits.length > 0) await hitTheLimit(plan, call);

  await cancelSubscription(tollgate, sessionId);
  const canceledAt = performance.now();
  let refused = await call('/v1/echo');
  await waitUntil(`the key of ${plan.id} is refused`, async () => {
    refused = await call('/v1/echo');
    return refused.status === 402;
  });
  say(
    `subscription canceled at Stripe; ${Math.round(performance.now() - canceledAt)} ms later GET /v1/echo → 402 ${refused.body.code}: ${refused.body.remedy}`,
  );
}

async function hitTheLimit(plan: Plan, call: (path: string) => Promise<Answer>): Promise<void> {
  const most = Math.max(...plan.limits.map((limit) => limit.requests));
  const { admitted, refused } = await reachLimit(() => call('/v1/time'), most * 2);
  check(refused !== null, `the limit of ${plan.id} holds`);
  const retryAfter = Number(refused.headers.get('retry-after'));
  check(
    refused.status === 429 && retryAfter >= 1,
    'past the limit comes a 429 that says when to retry',
    refused,
  );
  say(`${admitted} more requests, then 429 ${refused.body.code}, Retry-After: ${retryAfter} s`);
}

async function payLater(tollgate: Tollgate, plan: Plan): Promise<void> {
  console.log(`\n${plan.name}, by a bank debit that takes its time`);
  const sessionId = await openCheckout(tollgate, plan);
  await pay(tollgate, sessionId, 'bank_debit');
  const before = await successState(tollgate, sessionId);
  check(before.status === 'pending', 'no key before the money', {
    status: 200,
    body: before,
    text: JSON.stringify(before),
  });
  say(`success page before the money: ${JSON.stringify(before)}`);
  await control(tollgate, `checkout/sessions/${sessionId}/settle`, {});
  await waitUntil(
    'the key is ready once the debit settles',
    async () => (await successState(tollgate, sessionId)).status === 'ready',
  );
  say(`the debit settles; success page: ${JSON.stringify(await successState(tollgate, sessionId))}`);
}

async function openCheckout({ billing }: Tollgate, plan: Plan): Promise<string> {
  const opened = await request(`${billing.url}/billing/create-checkout-session`, { json: { plan: plan.id } });
  const sessionId = /cs_test_[0-9A-Za-z]+/.exec(String(opened.body.url))?.[0];
  check(opened.status === 200 && sessionId !== undefined, 'a checkout opens', opened);
  const page = await request(String(opened.body.url), { headers: { Accept: 'text/html' } });
  check(
    page.status === 200 && /sandbox/i.test(page.text),
    'the checkout page says that it is a sandbox',
    page,
  );
  say(`checkout for ${plan.id} → ${opened.body.purchase_id}, page answers ${page.status}`);
  return sessionId as string;
}

async function pay(tollgate: Tollgate, sessionId: string, card: string): Promise<void> {
  const session = await control(tollgate, `checkout/sessions/${sessionId}/pay`, {
    card,
    email: 'buyer@example.com',
  });
  say(`paid with ${card} → session ${session.status}, payment_status ${session.payment_status}`);
}

/** What comes after the purchase: a new key, an upgrade, a failed card, a dispute, a refund. */
async function liveThrough(tollgate: Tollgate, small: Plan, large: Plan): Promise<void> {
  console.log(`\nA customer's life, from ${small.name} to ${large.name}`);
  const { billing, gateway, config } = tollgate;
  const stripe = createStripe(config.stripe as StripeConfig);
  const sessionId = await openCheckout(tollgate, small);
  await pay(tollgate, sessionId, 'renewal_fails');
  const claimed = await request(`${billing.url}/billing/success/claim`, { json: { session_id: sessionId } });
  const old = String(claimed.body.key);
  const call = (key: string, path = '/v1/echo') =>
    request(`${gateway.url}${path}`, { headers: { 'X-API-Key': key } });
  const answers = (key: string, status: number, what: string) =>
    waitUntil(what, async () => (await call(key)).status === status);

  const rotated = await request(`${billing.url}/billing/rotate-key`, {
    json: { overlap_hours: 1 },
    headers: { 'X-API-Key': old },
  });
  const key = String(rotated.body.key);
  check(rotated.status === 200 && key !== old, 'the key is replaced', rotated);
  check((await call(old)).status === 200 && (await call(key)).status === 200, 'both keys work meanwhile');
  say(
    `key replaced; the old one ${old.slice(0, 12)}… works until ${(rotated.body.replaces as { works_until: string }).works_until}`,
  );

  const { subscription } = await stripe.checkout.sessions.retrieve(sessionId);
  const price = config.plans.priceForPlan(large.id, 'test') as string;
  await changePrice(stripe, subscription as string, price, 'none');
  await waitUntil(`the key has the limits of ${large.id}`, async () => {
    const who = await call(key, '/whoami');
    return (who.body.plan as { id: string } | undefined)?.id === large.id;
  });
  say(`upgraded to ${large.name} at Stripe: the same key has its limits at once`);

  await control(tollgate, 'clock', { advance_seconds: 32 * 86_400 });
  let who = await call(key, '/whoami');
  await waitUntil('the failed renewal is known', async () => {
    who = await call(key, '/whoami');
    return (who.body.subscription as { status: string } | undefined)?.status === 'past_due';
  });
  check((await call(key)).status === 200, 'a failed renewal does not cut off at once');
  say(`a month later the card is declined: past_due, and access goes on until ${who.body.access_until}`);
  const [invoice] = (await stripe.invoices.list({ subscription: subscription as string, status: 'open' }))
    .data;
  await fetch(String(invoice?.hosted_invoice_url), {
    method: 'POST',
    body: new URLSearchParams({ card: 'success' }),
  });
  await waitUntil('the payment is known', async () => {
    who = await call(key, '/whoami');
    return (who.body.subscription as { status: string } | undefined)?.status === 'active';
  });
  say('paid with another card: active');

  const paid = (await stripe.invoicePayments.list({ invoice: String(invoice?.id) })).data[0]?.payment;
  const [charge] = (await stripe.charges.list({ payment_intent: String(paid?.payment_intent) })).data.filter(
    ({ status }) => status === 'succeeded',
  );
  const dispute = await control(tollgate, 'disputes', { charge: charge?.id });
  await answers(key, 402, 'a disputed payment suspends');
  say(`payment disputed: GET /v1/echo → 402 ${(await call(key)).body.code}`);
  await control(tollgate, `disputes/${dispute.id}/close`, { outcome: 'won' });
  await answers(key, 200, 'a dispute that is won brings access back');
  say('dispute won: GET /v1/echo → 200');
  await stripe.refunds.create({ charge: String(charge?.id) });
  await answers(key, 401, 'a full refund revokes');
  const refused = await call(key);
  check((await call(old)).status === 401, 'the key before it too');
  say(`payment refunded in full: GET /v1/echo → 401 ${refused.body.code}: ${refused.body.detail}`);
}

async function cancelSubscription({ config }: Tollgate, sessionId: string): Promise<void> {
  const stripe = createStripe(config.stripe as StripeConfig);
  const { subscription } = await stripe.checkout.sessions.retrieve(sessionId);
  const status = await cancelNow(stripe, subscription as string);
  check(status === 'canceled', 'Stripe cancels the subscription');
}

async function successState({ billing }: Tollgate, sessionId: string): Promise<Record<string, unknown>> {
  return (await request(`${billing.url}/billing/success?session_id=${sessionId}`)).body;
}

async function control({ sandbox }: Tollgate, path: string, body: object): Promise<Record<string, unknown>> {
  const answer = await request(`${sandbox?.url}/_sandbox/${path}`, { json: body });
  check(answer.status === 200, `the sandbox does ${path.replace(/cs_test_\w+/, '…')}`, answer);
  return answer.body;
}

function say(line: string): void {
  step += 1;
  console.log(`  ✓ ${line}`);
}

function check(
  holds: boolean,
  what: string,
  answer?: { status: number; text: string; body?: object },
): asserts holds {
  if (holds) return;
  throw Object.assign(
    new Error(`Not so: ${what}.${answer ? ` Answered ${answer.status}: ${answer.text.slice(0, 500)}` : ''}`),
    { exitCode: 1 },
  );
}

async function waitUntil(what: string, condition: () => Promise<boolean>): Promise<void> {
  const giveUp = performance.now() + 10_000;
  while (!(await condition())) {
    check(performance.now() < giveUp, `${what} within 10 s`);
    await new Promise((next) => setTimeout(next, 20));
  }
}
