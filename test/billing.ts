import { resolve } from 'node:path';
import { Registry } from 'prom-client';
import Stripe from 'stripe';
import { type BillingServer, startBilling } from '../billing/server.ts';
import { ensurePrice } from '../billing/stripe-catalogue.ts';
import type { Keystore } from '../keystore/keystore.ts';
import { licensingRoutes } from '../licensing/routes.ts';
import { type Sandbox, startSandbox } from '../sandbox/server.ts';
import { freePort } from '../scripts/free-port.ts';
import { type Config, loadConfig } from '../shared/config.ts';
import { createLogger } from '../shared/log.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET } from './keystores.ts';
import { rawQuery } from './raw-sql.ts';

/** Billing on a new keystore with a sandbox of its own, which delivers its webhooks to it. */
export type BillingUnderTest = {
  url: string;
  /** Of billing as it was started last. */
  readonly config: Config;
  readonly internalUrl: string;
  keystore: Keystore;
  keystoreUrl: string;
  sandbox: Sandbox;
  /** The official client, pointed at the sandbox. */
  stripe: Stripe;
  webhookSecret: string;
  /** Price ids by plan. */
  prices: Record<string, string>;
  /** What a billing process of its own needs to be the same one. */
  environment: Record<string, string>;
  /** Makes the leases of a killed process run out at once. */
  expireLeases(): Promise<void>;
  /** Everything logged, a line each. */
  logLines: string[];
  /** Calls the sandbox's control API. */
  control(path: string, body?: object): Promise<Record<string, unknown>>;
  /** Opens a checkout through billing; the session id as Stripe knows it. */
  openCheckout(plan: string, more?: object): Promise<{ sessionId: string; purchaseId: string; url: string }>;
  /** Pays a session at the sandbox. */
  pay(sessionId: string, card?: string): Promise<void>;
  /** A session of the plan `pro` that was opened at Stripe, as a Payment Link does it, and paid. Its id. */
  paidSession(): Promise<string>;
  /** `openCheckout` and `pay` in one. */
  buy(plan: string): Promise<string>;
  /** Stops billing and starts it again on the same keystore and sandbox. */
  restart(env?: Record<string, string>): Promise<void>;
  stopBilling(): Promise<void>;
  close(): Promise<void>;
};

export async function startBillingUnderTest(env: Record<string, string> = {}): Promise<BillingUnderTest> {
  const sandbox = await startSandbox();
  const port = await freePort();
  const secretKey = 'sk_test_billingUnderTest';
  const { secret: webhookSecret } = sandbox.listen(`http://127.0.0.1:${port}/billing/webhook`);
  const stripe = new Stripe(secretKey, {
    protocol: 'http',
    host: '127.0.0.1',
    port: sandbox.port,
    telemetry: false,
    maxNetworkRetries: 0,
  });
  const keystoreUrl = env.KEYSTORE_URL ?? newKeystoreUrl();
  const variables = {
    KEYSTORE_URL: keystoreUrl,
    TOLLGATE_SECRET: SERVER_SECRET,
    BILLING_PORT: String(port),
    BILLING_INTERNAL_PORT: '0',
    STRIPE_SECRET_KEY: secretKey,
    STRIPE_WEBHOOK_SECRET: webhookSecret,
    STRIPE_API_BASE: sandbox.url,
    PLANS_FILE: resolve('plans.yaml'),
    SUPPORT_EMAIL: 'help@example.com',
  };
  const prices: Record<string, string> = {};
  for (const plan of loadConfig({ ...variables, ...env }, 'all').plans.plans) {
    if (plan.price) prices[plan.id] = (await ensurePrice(stripe, plan)).object.id;
  }
  const priceMap = Object.entries(prices).map(([plan, price]) => `${price}:${plan}`);
  const environment = { ...variables, STRIPE_PRICE_MAP: priceMap.join(';'), ...env };
  let config = loadConfig(environment, 'all');
  const logLines: string[] = [];
  const log = createLogger({ level: 'trace', destination: { write: (line) => void logLines.push(line) } });
  const keystore = await openTestKeystore({
    url: keystoreUrl,
    log,
    revealTtlMs: config.revealTtlMs,
    mails: config.mail !== null,
  });
  const start = async () => {
    const registry = new Registry();
    const beside = await licensingRoutes({ config, keystore, log, registry });
    return startBilling({ config, keystore, log, registry, reconciles: false, ...(beside && { beside }) });
  };
  let billing: BillingServer | null = await start();

  const test: BillingUnderTest = {
    url: billing.url,
    get config() {
      return config;
    },
    get internalUrl() {
      return billing?.internalUrl ?? '';
    },
    keystore,
    keystoreUrl,
    sandbox,
    stripe,
    webhookSecret,
    prices,
    environment,
    async expireLeases() {
      await rawQuery(keystoreUrl, 'update events set leased_until = 0 where leased_until is not null');
    },
    logLines,
    async control(path, body = {}) {
      const response = await fetch(`${sandbox.url}/_sandbox${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
      });
      const answer = (await response.json()) as Record<string, unknown>;
      if (!response.ok) throw new Error(`${path}: ${response.status} ${JSON.stringify(answer)}`);
      return answer;
    },
    async openCheckout(plan, more = {}) {
      const response = await fetch(`${test.url}/billing/create-checkout-session`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
        body: JSON.stringify({ plan, ...more }),
      });
      const answer = (await response.json()) as { url: string; purchase_id: string };
      const sessionId = /cs_test_[0-9A-Za-z]+/.exec(answer.url ?? '')?.[0];
      if (!sessionId) throw new Error(`No checkout: ${JSON.stringify(answer)}`);
      return { sessionId, purchaseId: answer.purchase_id, url: answer.url };
    },
    async pay(sessionId, card = 'success') {
      await test.control(`/checkout/sessions/${sessionId}/pay`, { card });
    },
    async paidSession() {
      const session = await stripe.checkout.sessions.create({
        mode: 'subscription',
        line_items: [{ price: prices.pro as string, quantity: 1 }],
        success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
      });
      await test.pay(session.id);
      return session.id;
    },
    async buy(plan) {
      const { sessionId } = await test.openCheckout(plan);
      await test.pay(sessionId);
      return sessionId;
    },
    async restart(more = {}) {
      await billing?.close();
      config = loadConfig({ ...environment, ...more }, 'all');
      billing = await start();
      // A client that kept its connection open finds out here that it is gone.
      await fetch(`${test.url}/billing/plans`).catch(() => undefined);
    },
    async stopBilling() {
      await billing?.close();
      billing = null;
    },
    async close() {
      await billing?.close();
      await sandbox.close();
      await keystore.close();
    },
  };
  return test;
}
