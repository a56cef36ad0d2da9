import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type Keystore, openKeystore } from '../keystore/keystore.ts';
import { freePort } from '../scripts/free-port.ts';
import { createLogger } from '../shared/log.ts';
import { PIN, run, start } from './processes.ts';
import { listed, type Outcome } from './results.ts';
import { measured } from './statistics.ts';

const ROUNDS = 3;
const CUSTOMERS = 3600;
/** Events before anything is measured: the process has just started. */
const WARM_UP = 1000;
const STEADY_RATE = 200;
const STEADY_SECONDS = 15;
const BACKLOG = 10_000;
/** An inbox that is not empty by then fails the run. */
const LIMIT_MS = 240_000;
const SECRET = 'YmVuY2htYXJrIHNlY3JldCwgbm90IHVzZWQgYW55d2hlcmUgZWxzZQ==';
const WEBHOOK_SECRET = 'whsec_benchmark';
const API_KEY = 'sk_test_bench';

type Sent = { startedAt: number; seconds: number; p50: number; p99: number };

/**
 * The event inbox of a billing process, with the sandbox for Stripe, in three rounds of fresh processes: the events of
 * 1,200 purchases, some at a steady rate and the others as fast as they are taken; then those of all their renewals,
 * of which those that make billing look at Stripe wait while Stripe hangs, until billing is killed. What it held at that
 * moment waits for its leases to run out, 20 seconds. Three rounds take some five minutes.
 */
export async function benchInbox({ quick }: { quick: boolean }): Promise<Outcome> {
  const rounds: Awaited<ReturnType<typeof round>>[] = [];
  for (let i = 0; i < (quick ? 1 : ROUNDS); i++) rounds.push(await round());
  const of = (name: keyof (typeof rounds)[0]) => rounds.map((each) => each[name]);
  const waiting = `${Math.round(measured(of('backlog')).median).toLocaleString('en')} events waiting`;
  return listed([
    {
      subject: `Events through the inbox${PIN ? ', billing on one core' : ''}`,
      unit: '/s',
      runs: of('perSecond'),
    },
    { subject: `Webhook answered, ${STEADY_RATE} events a second, p50`, unit: 'ms', runs: of('p50') },
    { subject: `Webhook answered, ${STEADY_RATE} events a second, p99`, unit: 'ms', runs: of('p99') },
    { subject: `SIGKILL with ${waiting}, to 99 % done`, unit: 's', runs: of('mostly') },
    { subject: `SIGKILL with ${waiting}, to an empty inbox`, unit: 's', runs: of('recovered') },
  ]);
}

async function round() {
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-bench-'));
  const started: ChildProcess[] = [];
  const keystoreUrl = `sqlite:${join(folder, 'keystore.sqlite')}`;
  const keystore = await openKeystore({
    url: keystoreUrl,
    serverSecret: SECRET,
    keyHash: { memoryKib: 4096, passes: 1, lanes: 1 },
    revealTtlMs: 86_400_000,
    log: createLogger({ level: 'silent' }),
  });
  try {
    // Billing must not fetch at its start what is to come through the inbox.
    await keystore.takeTurn({ task: 'reconcile', owner: 'bench', holdMs: 86_400_000, restMs: 0 });
    const { url: stripe } = await start(['sandbox/main.ts', '--port', '0'], {}, 1, started);
    const price = await createPrice(stripe);
    const plans = join(folder, 'plans.yaml');
    writeFileSync(plans, `plans: { pro: { name: Pro, stripe_prices: { test: [${price}] } } }\n`);
    const environment = {
      KEYSTORE_URL: keystoreUrl,
      TOLLGATE_SECRET: SECRET,
      BILLING_PORT: String(await freePort()),
      BILLING_INTERNAL_PORT: '0',
      STRIPE_SECRET_KEY: API_KEY,
      STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
      STRIPE_API_BASE: stripe,
      PLANS_FILE: plans,
    };
    const startBilling = () => start(['billing/main.ts'], environment, 0, started);
    const billing = await startBilling();
    /** The events of the last 30 days at Stripe, from the `first` on; all of them without a `count`. */
    const send = async (first: number, count: number | 'all', rate: number) => {
      const args = [stripe, billing.url, WEBHOOK_SECRET, String(first), String(count), String(rate)];
      return run<Sent & { sent: number }>(['bench/webhooks.ts', ...args], 1);
    };

    await buy(stripe, price, CUSTOMERS);
    const steady = STEADY_RATE * STEADY_SECONDS;
    await send(0, WARM_UP, 0);
    await waitFor(keystore, 0);
    const { p50, p99 } = await send(WARM_UP, steady, STEADY_RATE);
    await waitFor(keystore, 0);
    const rest = await send(WARM_UP + steady, 'all', 0);
    const perSecond = rest.sent / (((await waitFor(keystore, 0)) - rest.startedAt) / 1000);

    await post(`${stripe}/_sandbox/clock`, { advance_seconds: 32 * 86_400 });
    await post(`${stripe}/_sandbox/faults`, {
      count: 1_000_000,
      hang_ms: 600_000,
      paths: ['/v1/subscriptions'],
    });
    await send(0, 'all', 0);
    const killed = Date.now();
    billing.child.kill('SIGKILL');
    await once(billing.child, 'close');
    const { pending } = await keystore.inboxDepth();
    if (pending < BACKLOG) throw new Error(`Only ${pending} events were waiting`);
    await post(`${stripe}/_sandbox/faults/clear`, {});
    await startBilling();
    const mostly = ((await waitFor(keystore, pending / 100)) - killed) / 1000;
    const recovered = ((await waitFor(keystore, 0)) - killed) / 1000;
    return { perSecond, p50, p99, backlog: pending, mostly, recovered };
  } finally {
    for (const child of started) child.kill('SIGKILL');
    await keystore.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Waits until no more than this many events wait. @returns the moment, milliseconds since the epoch */
async function waitFor(keystore: Keystore, most: number): Promise<number> {
  const giveUp = Date.now() + LIMIT_MS;
  for (;;) {
    const { pending, failed } = await keystore.inboxDepth();
    const now = Date.now();
    if (failed > 0) throw new Error(`${failed} events failed`);
    if (pending <= most) return now;
    if (now > giveUp) throw new Error(`${pending} events still wait`);
    await pause(20);
  }
}

/** Paid checkouts, each of a customer of its own. */
async function buy(stripe: string, price: string, count: number): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      while (left-- > 0) {
        const { id } = await api(stripe, 'checkout/sessions', {
          mode: 'subscription',
          'line_items[0][price]': price,
          'line_items[0][quantity]': '1',
          success_url: 'http://127.0.0.1/billing/success?session_id={CHECKOUT_SESSION_ID}',
        });
        await post(`${stripe}/_sandbox/checkout/sessions/${id}/pay`, { card: 'success' });
      }
    }),
  );
}

async function createPrice(stripe: string): Promise<string> {
  const product = await api(stripe, 'products', { name: 'Pro' });
  const price = await api(stripe, 'prices', {
    product: product.id,
    currency: 'usd',
    unit_amount: '1900',
    'recurring[interval]': 'month',
  });
  return price.id;
}

async function api(stripe: string, path: string, form: Record<string, string>): Promise<{ id: string }> {
  const answer = await fetch(`${stripe}/v1/${path}`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${API_KEY}` },
    body: new URLSearchParams(form),
  });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
  return (await answer.json()) as { id: string };
}

async function post(url: string, body: object): Promise<void> {
  const answer = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${await answer.text()}`);
  await answer.arrayBuffer();
}
