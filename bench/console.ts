import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Keystore, openKeystore, type TrafficCount } from '../keystore/keystore.ts';
import { freePort } from '../scripts/free-port.ts';
import { createLogger } from '../shared/log.ts';
import { PLAN, SERVER_SECRET, seedKeys } from './keys.ts';
import { MANY } from './known-keys.ts';
import { start, stop, temporaryFolder } from './processes.ts';
import { listed, type Outcome } from './results.ts';

const CUSTOMERS = 20_000;
const PASSWORD = 'a password for the benchmark';
/** How often each page is asked for, after some times to warm up. */
const TIMES = 50;
const WARM_UP = 5;

/** What is asked for, as it stands in the table. */
export const PAGES = {
  overview: 'Overview over 12 months',
  first: 'First page',
  middle: 'Page in the middle',
  byId: 'Found by key id',
  byLastFour: 'Found by last four',
  byEmail: 'Found by e-mail',
  byCustomer: 'Found by customer at Stripe',
  byNothing: 'Found by nothing',
  byPlan: 'Filtered by plan',
  byState: 'Filtered by a state that none has',
} as const;

export function pageAmong(page: string, count: number): string {
  return `${page}, ${count.toLocaleString('en')} keys`;
}

/**
 * Pages of the console over a million keys, 20,000 of them bought, as whole answers of a billing process on SQLite. Making the keys
 * takes some minutes.
 */
export async function benchConsole({ quick }: { quick: boolean }): Promise<Outcome> {
  const folder = temporaryFolder();
  const started: ChildProcess[] = [];
  const count = quick ? 100_000 : MANY;
  const customers = quick ? CUSTOMERS / 10 : CUSTOMERS;
  try {
    const { keystoreUrl, keys } = await seedKeys(folder, count - customers);
    const keystore = await openKeystore({
      url: keystoreUrl,
      serverSecret: SERVER_SECRET,
      keyHash: { memoryKib: 8, passes: 1, lanes: 1 },
      revealTtlMs: 86_400_000,
      log: createLogger({ level: 'silent' }),
    });
    for (let i = 0; i < customers; i++) await buy(keystore, i);
    for (let day = 0; day < 365; day++) await keystore.recordTraffic(trafficOf(day));
    await keystore.createConsoleUser({ name: 'bench', password: PASSWORD, actor: 'bench' });
    const middle = keys[keys.length >> 1] as { id: string };
    const { createdAt, lastFour } = (await keystore.findKey(middle.id)) as {
      createdAt: number;
      lastFour: string;
    };
    // Only what is asked of the console: billing has nothing to fetch from Stripe.
    await keystore.takeTurn({ task: 'reconcile', owner: 'bench', holdMs: 86_400_000, restMs: 0 });
    await keystore.close();

    const { url: stripe } = await start(['sandbox/main.ts', '--port', '0'], {}, 1, started);
    const plans = join(folder, 'plans.yaml');
    writeFileSync(plans, `plans: { ${PLAN}: { name: Bench }, pro: { name: Pro } }\n`);
    const billing = await start(
      ['billing/main.ts'],
      {
        KEYSTORE_URL: keystoreUrl,
        TOLLGATE_SECRET: SERVER_SECRET,
        BILLING_PORT: String(await freePort()),
        STRIPE_SECRET_KEY: 'sk_test_bench',
        STRIPE_WEBHOOK_SECRET: 'whsec_benchmark',
        STRIPE_API_BASE: stripe,
        PLANS_FILE: plans,
      },
      0,
      started,
    );
    const cookie = await signIn(billing.url);
    const page = async (subject: string, query: string) => ({
      subject: pageAmong(subject, count),
      unit: 'ms',
      runs: await timesOf(`${billing.url}${query}`, cookie),
    });
    const keysPage = (subject: string, query: string) => page(subject, `/console/keys${query}`);
    return listed([
      await page(PAGES.overview, '/console?range=12m'),
      await keysPage(PAGES.first, ''),
      await keysPage(PAGES.middle, `?before=${createdAt}.${middle.id}`),
      await keysPage(PAGES.byId, `?q=${middle.id}`),
      await keysPage(PAGES.byLastFour, `?q=${lastFour}`),
      await keysPage(PAGES.byEmail, '?q=buyer77%40example.com'),
      await keysPage(PAGES.byCustomer, '?q=cus_77'),
      await keysPage(PAGES.byNothing, '?q=nothing-like-it'),
      await keysPage(PAGES.byPlan, `?plan=${PLAN}`),
      await keysPage(PAGES.byState, '?state=suspended'),
    ]);
  } finally {
    await Promise.all(started.map(stop));
  }
}

/** What gateways did in an hour of a day of the past: as much as there is to tell apart. */
function trafficOf(daysAgo: number): TrafficCount[] {
  const hour = Math.floor(Date.now() / 3_600_000) - daysAgo * 24;
  const counts = (what: TrafficCount['what'], names: readonly string[]) =>
    names.map((name) => ({ hour, what, name, count: 1000 }));
  return [
    ...counts('requests', ['forwarded 2xx', 'forwarded 4xx', 'forwarded 5xx', 'refused 4xx', 'failed 5xx']),
    ...counts(
      'refusals',
      Array.from({ length: 10 }, (_, i) => `code_${i}`),
    ),
    ...counts(
      'answers',
      Array.from({ length: 12 }, (_, i) => `${i / 100}-${(i + 1) / 100}`),
    ),
  ];
}

async function buy(keystore: Keystore, i: number): Promise<void> {
  await keystore.provisionPurchase({
    sessionId: `cs_test_${String(i).padStart(58, '0')}`,
    mode: 'test',
    planId: 'pro',
    priceId: 'price_pro',
    keyPrefix: 'tg',
    buyer: { stripeCustomerId: `cus_${i}`, email: `buyer${i}@example.com` },
    subscription: null,
    paymentIntentId: null,
    quantity: 1,
    accessMs: null,
    rulesOf: () => ({}),
    amountTotal: 1900,
    currency: 'usd',
    actor: 'bench',
  });
}

async function signIn(url: string): Promise<string> {
  const answer = await fetch(`${url}/console/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ name: 'bench', password: PASSWORD }),
  });
  const [cookie] = answer.headers.getSetCookie();
  if (cookie === undefined) throw new Error(`Signing in answered ${answer.status}`);
  return cookie.split(';')[0] as string;
}

/** How long a page takes, in milliseconds, each time. */
async function timesOf(url: string, cookie: string): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < WARM_UP + TIMES; i++) {
    const begun = performance.now();
    const answer = await fetch(url, { headers: { Cookie: cookie, Accept: 'text/html' }, redirect: 'manual' });
    await answer.text();
    if (answer.status !== 200) throw new Error(`${url} answered ${answer.status}`);
    if (i >= WARM_UP) times.push(performance.now() - begun);
  }
  return times;
}
