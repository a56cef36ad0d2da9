import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
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
  let admitted = 0;
  for (;;) {
    check(admitted <= most * 2, `the limit of ${plan.id} holds`);
    const answers = await Promise.all(Array.from({ length: 20 }, () => call('/v1/time')));
    admitted += answers.filter((answer) => answer.status === 200).length;
    const refused = answers.find((answer) => answer.status !== 200);
    if (!refused) continue;
    const retryAfter = Number(refused.headers.get('retry-after'));
    check(
      refused.status === 429 && retryAfter >= 1,
      'past the limit comes a 429 that says when to retry',
      refused,
    );
    say(`${admitted} more requests, then 429 ${refused.body.code}, Retry-After: ${retryAfter} s`);
    return;
  }
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

async function cancelSubscription({ sandbox, config }: Tollgate, sessionId: string): Promise<void> {
  const headers = { Authorization: `Bearer ${config.stripe?.secretKey}` };
  const session = await request(`${sandbox?.url}/v1/checkout/sessions/${sessionId}`, { headers });
  const canceled = await request(`${sandbox?.url}/v1/subscriptions/${session.body.subscription}`, {
    method: 'DELETE',
    headers,
  });
  check(
    canceled.status === 200 && canceled.body.status === 'canceled',
    'Stripe cancels the subscription',
    canceled,
  );
}

async function successState({ billing }: Tollgate, sessionId: string): Promise<Record<string, unknown>> {
  return (await request(`${billing.url}/billing/success?session_id=${sessionId}`)).body;
}

async function control({ sandbox }: Tollgate, path: string, body: object): Promise<Record<string, unknown>> {
  const answer = await request(`${sandbox?.url}/_sandbox/${path}`, { json: body });
  check(answer.status === 200, `the sandbox does ${path.replace(/cs_test_\w+/, '…')}`, answer);
  return answer.body;
}

type Answer = { status: number; headers: Headers; body: Record<string, unknown>; text: string };

async function request(
  url: string,
  options: { method?: string; headers?: Record<string, string>; json?: object } = {},
): Promise<Answer> {
  const response = await fetch(url, {
    method: options.method ?? (options.json ? 'POST' : 'GET'),
    headers: { ...(options.json ? { 'Content-Type': 'application/json' } : {}), ...options.headers },
    ...(options.json ? { body: JSON.stringify(options.json) } : {}),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    body: isJson ? JSON.parse(text) : {},
    text: text.trim(),
  };
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
