import { setTimeout as pause } from 'node:timers/promises';
import Stripe from 'stripe';
import { InboxWorker } from '../billing/inbox-worker.ts';
import { type ReconcileReport, reconcile } from '../billing/reconcile.ts';
import type { SettleContext } from '../billing/settle.ts';
import { ensurePrice } from '../billing/stripe-catalogue.ts';
import { createStripe } from '../billing/stripe-client.ts';
import { EVENT_KINDS } from '../billing/stripe-events.ts';
import type { Keystore } from '../keystore/keystore.ts';
import { type Sandbox, startSandbox } from '../sandbox/server.ts';
import { freePort } from '../scripts/free-port.ts';
import { type Config, loadConfig } from '../shared/config.ts';
import { createLogger } from '../shared/log.ts';
import type { AtStripe } from './convergence-model.ts';
import { otherPrices, writePlanFile } from './convergence-plans.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET } from './keystores.ts';
import { type RunningProgram, startProgramUntil } from './processes.ts';
import { rawQuery } from './raw-sql.ts';

/** Two billing processes on one keystore, each with a webhook endpoint of its own at one sandbox. */
export type ConvergenceWorld = Awaited<ReturnType<typeof startWorld>>;

type Process = {
  url: string;
  env: Record<string, string>;
  /** `null` while it is down. */
  running: RunningProgram | null;
  starting: Promise<void>;
};

const SECRET_KEY = 'sk_test_convergence';
/** Cheap: what is tested here is not the hash. */
const KEY_HASH = { memoryKib: 8, passes: 1, lanes: 1 };

export async function startWorld() {
  const events: string[] = [];
  let exchanges = 0;
  let onExchange: (count: number) => void = () => {};
  const sandbox: Sandbox = await startSandbox({
    // Only a flush tries again: what a process that is down misses is lost, or comes late.
    retryMs: Array.from({ length: 20 }, () => 2_000_000_000),
    onEvent: ({ id, type }) => {
      if (type in EVENT_KINDS) events.push(id);
    },
    onExchange: () => {
      exchanges += 1;
      onExchange(exchanges);
    },
  });
  const stripe = new Stripe(SECRET_KEY, {
    protocol: 'http',
    host: '127.0.0.1',
    port: sandbox.port,
    telemetry: false,
    maxNetworkRetries: 0,
  });
  const keystoreUrl = newKeystoreUrl();
  const variables = {
    KEYSTORE_URL: keystoreUrl,
    TOLLGATE_SECRET: SERVER_SECRET,
    STRIPE_SECRET_KEY: SECRET_KEY,
    STRIPE_API_BASE: sandbox.url,
    BILLING_INTERNAL_PORT: '0',
    PLANS_FILE: writePlanFile(),
    PUBLIC_BILLING_URL: 'https://buy.example.com',
    KEY_HASH: `m=${KEY_HASH.memoryKib},t=${KEY_HASH.passes},p=${KEY_HASH.lanes}`,
    LOG_LEVEL: 'fatal',
  };
  const prices: Record<string, string> = {};
  for (const plan of loadConfig(variables, 'all').plans.plans)
    prices[plan.id] = (await ensurePrice(stripe, plan)).object.id;
  const planOf = new Map(Object.entries(prices).map(([plan, price]) => [price, plan]));
  const { addOn, foreign } = await otherPrices(stripe);
  const environment = {
    ...variables,
    STRIPE_PRICE_MAP: [...planOf].map(([price, plan]) => `${price}:${plan}`).join(';'),
  };
  Object.assign(prices, { add_on: addOn, foreign });
  const config: Config = loadConfig(environment, 'all');
  const keystore: Keystore = await openTestKeystore({ url: keystoreUrl, keyHash: KEY_HASH });

  const processes: Process[] = [];
  for (let n = 0; n < 2; n++) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const endpoint = await stripe.webhookEndpoints.create({
      url: `${url}/billing/webhook`,
      enabled_events: Object.keys(EVENT_KINDS) as Stripe.WebhookEndpointCreateParams.EnabledEvent[],
    });
    const env = { ...environment, BILLING_PORT: String(port), STRIPE_WEBHOOK_SECRET: endpoint.secret! };
    processes.push({ url, env, running: null, starting: Promise.resolve() });
  }
  const start = (process: Process): Promise<void> => {
    process.starting = startProgramUntil(/Billing listens/, 'billing/main.ts', process.env).then(
      (program) => {
        process.running = program;
      },
    );
    return process.starting;
  };
  await Promise.all(processes.map(start));

  const world = {
    sandbox,
    stripe,
    config,
    keystore,
    prices,
    /** Whether a price stands for a plan. */
    isOurs: (price: string) => planOf.has(price),
    /** Ids of the events so far that billing acts upon. */
    events,
    /** Refunds that have succeeded, whatever became of them later. */
    onceSucceeded: new Set<string>(),
    kills: 0,
    nowMs: () => Date.now() + offsetMs,

    /** Calls the sandbox's control API. @param fine statuses that are no failure beside 2xx; 400 never is one of the test */
    async control(
      path: string,
      body: object = {},
      fine: number[] = [],
    ): Promise<Record<string, unknown> & { id?: string }> {
      const response = await fetch(`${sandbox.url}/_sandbox${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
      });
      const answer = (await response.json()) as Record<string, unknown> & { error?: { message: string } };
      if (response.ok || fine.includes(response.status)) return answer;
      const message = answer.error?.message ?? `${response.status}`;
      throw new Stripe.errors.StripeInvalidRequestError({
        type: 'invalid_request_error',
        message,
        statusCode: response.status,
      } as never);
    },

    async advance(seconds: number): Promise<void> {
      await world.control('/clock', { advance_seconds: seconds });
      offsetMs += seconds * 1000;
    },

    /** What one of the processes answers; a process that is down is part of life. */
    async askBilling(pick: number, path: string, body?: object): Promise<string> {
      const { url } = processes[pick % processes.length]!;
      try {
        const response = await fetch(`${url}${path}`, {
          headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
          ...(body ? { method: 'POST', body: JSON.stringify(body) } : {}),
        });
        return `${response.status} ${await response.text()}`;
      } catch {
        return 'no answer';
      }
    },

    /** Opens a checkout through billing; `undefined` where it does not answer. */
    async openCheckout(pick: number, body: object): Promise<string | undefined> {
      const answer = await world.askBilling(pick, '/billing/create-checkout-session', body);
      return /cs_test_[0-9A-Za-z]+/.exec(answer)?.[0];
    },

    /** Kills processes as soon as the sandbox has answered `exchanges` more calls. */
    killAfter(exchangesMore: number, which: readonly number[], comesBack: boolean): void {
      const at = exchanges + exchangesMore;
      const before = onExchange;
      onExchange = (count) => {
        before(count);
        if (count !== at) return;
        for (const n of which) void world.kill(n, comesBack);
      };
    },

    /** Kills a process. Nobody waits two minutes for its leases to run out here. */
    async kill(n: number, comesBack: boolean): Promise<void> {
      const process = processes[n]!;
      const program = process.running;
      if (!program) return;
      process.running = null;
      world.kills += 1;
      process.starting = (async () => {
        await program.stop('SIGKILL');
        await expireLeases(keystoreUrl, program.child.pid!);
        if (comesBack) await start(process);
      })();
      await process.starting;
    },

    /** Brings back whatever is down. Kills that were to come do not. */
    bringBack(): Promise<void> {
      onExchange = () => {};
      back = Promise.all(
        processes.map(async (process) => {
          await process.starting;
          if (!process.running) await start(process);
        }),
      ).then(() => {});
      return back;
    },

    /** Waits until all that has arrived is worked off. @throws Error when nothing moves any more */
    async settled(): Promise<void> {
      let before = -1;
      let patience = 0;
      for (;;) {
        const { pending } = await keystore.inboxDepth();
        if (pending === 0) return;
        if (pending !== before) patience = performance.now() + 60_000;
        else if (performance.now() > patience)
          throw new Error(`The inbox is not worked off:\n${await waiting(keystoreUrl)}`);
        before = pending;
        await pause(10);
      }
    },

    /** @throws Error when a process ended by itself, with what it said */
    checkAlive(): void {
      for (const { running } of processes) {
        if (running && (running.child.exitCode !== null || running.child.signalCode !== null))
          throw new Error(`A billing process ended by itself:\n${running.output()}`);
      }
    },

    async killAll(): Promise<void> {
      onExchange = () => {};
      await back;
      await Promise.all(processes.map((_, n) => world.kill(n, false)));
    },

    /** Reconciles once, as `npm run reconcile` does. */
    async reconcile({ dryRun = false } = {}): Promise<ReconcileReport> {
      return reconcile(context(), { since: startedAt - 60_000, dryRun });
    },

    /** Works off the inbox. */
    async drain(): Promise<void> {
      const worker = new InboxWorker(context());
      await worker.drain();
      await worker.stop(1000);
    },

    /** Everything there is at Stripe. */
    async look(): Promise<AtStripe> {
      const all = <T>(list: { autoPagingToArray(o: { limit: number }): Promise<T[]> }) =>
        list.autoPagingToArray({ limit: 10_000 });
      const page = { limit: 100 };
      const sessions = await all(stripe.checkout.sessions.list(page));
      const lines = new Map<string, { price: string; quantity: number; total: number }[]>();
      for (const { id } of sessions) {
        const items = await stripe.checkout.sessions.listLineItems(id);
        lines.set(
          id,
          items.data.map((item) => ({
            price: item.price!.id,
            quantity: item.quantity!,
            total: item.amount_total,
          })),
        );
      }
      const clock = (await (await fetch(`${sandbox.url}/_sandbox/clock`)).json()) as { now: number };
      return {
        now: clock.now,
        sessions,
        lines,
        customers: await all(stripe.customers.list(page)),
        subscriptions: await all(stripe.subscriptions.list({ status: 'all', ...page })),
        invoices: await all(stripe.invoices.list(page)),
        invoicePayments: await all(stripe.invoicePayments.list(page)),
        intents: await all(stripe.paymentIntents.list(page)),
        charges: await all(stripe.charges.list(page)),
        refunds: await all(stripe.refunds.list(page)),
        disputes: await all(stripe.disputes.list(page)),
        planOf,
        onceSucceeded: world.onceSucceeded,
      };
    },

    /** How the deliveries went. */
    async deliveries(): Promise<{ attempts: number; dropped: number; duplicates: number }> {
      const answer = await fetch(`${sandbox.url}/_sandbox/deliveries`);
      const { deliveries } = (await answer.json()) as {
        deliveries: { state: string; attempts: { status: number | null }[] }[];
      };
      const arrived = deliveries.map(
        ({ attempts }) => attempts.filter(({ status }) => status === 200).length,
      );
      return {
        attempts: deliveries.reduce((sum, { attempts }) => sum + attempts.length, 0),
        dropped: arrived.filter((count) => count === 0).length,
        duplicates: arrived.reduce((sum, count) => sum + Math.max(0, count - 1), 0),
      };
    },

    async close(): Promise<void> {
      await world.killAll();
      await sandbox.close();
      await keystore.close();
    },
  };
  let offsetMs = 0;
  let back = Promise.resolve();
  const startedAt = Date.now();
  const context = (): SettleContext => ({
    stripe: createStripe(config.stripe!),
    mode: 'test',
    keystore,
    plans: config.plans,
    keyPrefix: config.keyPrefix,
    ownOrigins: [new URL(config.publicBillingUrl).origin],
    log: createLogger({ level: 'silent' }),
  });
  return world;
}

/** Makes the leases of a killed process run out at once; the other process keeps its own. */
async function expireLeases(keystoreUrl: string, pid: number): Promise<void> {
  await rawQuery(keystoreUrl, `update events set leased_until = 0 where leased_by like '%:${pid}:%'`);
}

/** What waits in the inbox, a line each. */
async function waiting(keystoreUrl: string): Promise<string> {
  const rows = await rawQuery(
    keystoreUrl,
    "select id, type, object_id, attempts, next_attempt_at, leased_by, leased_until, error from events where status = 'pending'",
  );
  return rows.map((row) => JSON.stringify(row)).join('\n');
}
