import { randomBytes } from 'node:crypto';
import { Registry } from 'prom-client';
import { type BillingServer, startBilling } from '../billing/server.ts';
import { ensurePrice } from '../billing/stripe-catalogue.ts';
import { createStripe, type StripeClient } from '../billing/stripe-client.ts';
import { startDemoUpstream } from '../gateway/demo-upstream.ts';
import type { RouteSpec } from '../gateway/routes/route-spec.ts';
import { configuredRoutes } from '../gateway/routes/routes-file.ts';
import { type Gateway, startGateway } from '../gateway/server.ts';
import { type Keystore, openKeystore } from '../keystore/keystore.ts';
import { licensingRoutes } from '../licensing/routes.ts';
import { type Sandbox, startSandbox } from '../sandbox/server.ts';
import { type Config, loadConfig } from '../shared/config.ts';
import type { Logger } from '../shared/log.ts';
import { planVariable } from '../shared/plan-variables.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Everything that `npm start` runs, in one process. */
export type Tollgate = {
  config: Config;
  keystore: Keystore;
  billing: BillingServer;
  gateway: Gateway;
  /** `null` with a Stripe key of one's own. */
  sandbox: Sandbox | null;
  /** Where requests go; `null`: where the routes file says. */
  upstreamUrl: string | null;
  /** Those of the routes file; `null`: there is none. */
  routes: readonly RouteSpec[] | null;
  /** Stops everything in order; nothing counted is lost. */
  close(): Promise<void>;
};

/** After how long a delayed payment of the sandbox settles by itself, milliseconds. */
const SETTLE_DELAYED_AFTER_MS = 15_000;

/**
 * Starts gateway and billing on one keystore, and in place of what is not configured the sandbox and the demo API. When
 * a part cannot start, those started before it are stopped again.
 *
 * @param createLog makes the logger once the configuration is known to be good
 * @throws ConfigError, KeystoreOpenError, or the listen error of a port that is taken
 */
export async function startTollgate(env: Env, createLog: (config: Config) => Logger): Promise<Tollgate> {
  const started: { close(): Promise<void> }[] = [];
  const closeAll = async () => {
    for (const part of started.splice(0).reverse()) await part.close();
  };
  try {
    const wanted = loadConfig(env, 'all');
    // Mistakes in it are found before anything is started.
    const routes = wanted.routesFile === null ? null : configuredRoutes(wanted, env);
    const log = createLog(wanted);
    const sandbox = wanted.stripe
      ? null
      : await startSandbox({
          host: wanted.host,
          port: wanted.sandboxPort,
          settleDelayedAfterMs: SETTLE_DELAYED_AFTER_MS,
        });
    if (sandbox) started.push(sandbox);
    const config = sandbox
      ? loadConfig({ ...env, ...(await sandboxVariables(wanted, sandbox)) }, 'all')
      : wanted;
    const upstream =
      routes === null && config.upstreamUrl === null
        ? await startDemoUpstream({ host: config.host, port: 0 })
        : null;
    if (upstream) started.push(upstream);
    const upstreamUrl = config.upstreamUrl ?? upstream?.url ?? null;

    const keystore = await openKeystore({
      ...config,
      url: config.keystoreUrl,
      log,
      mails: config.mail !== null,
    });
    started.push(keystore);
    const registry = new Registry();
    const beside = await licensingRoutes({ config, keystore, log, registry });
    const billing = await startBilling({ config, keystore, log, registry, ...(beside && { beside }) });
    started.push(billing);
    const gateway = await startGateway({
      config: { ...config, upstreamUrl },
      ...(routes === null ? {} : { routes }),
      env,
      keystore,
      log,
    });
    started.push(gateway);
    return { config, keystore, billing, gateway, sandbox, upstreamUrl, routes, close: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** What the sandbox stands in for: a key, a webhook secret, and a price for each plan that has one. */
async function sandboxVariables(config: Config, sandbox: Sandbox): Promise<Env> {
  const secretKey = `sk_test_${randomBytes(24).toString('hex')}`;
  const { secret } = sandbox.listen(`${config.localBillingUrl}/billing/webhook`);
  const stripe = createStripe({ secretKey, apiBase: sandbox.url, requestsPerSecond: null });
  return {
    ...(await sandboxPrices(config, stripe)),
    STRIPE_SECRET_KEY: secretKey,
    STRIPE_WEBHOOK_SECRET: secret,
    STRIPE_WEBHOOK_SECRET_FILE: undefined,
    STRIPE_API_BASE: sandbox.url,
  };
}

/** Variables with a price of the sandbox for each plan that has one; those that it has not are made. */
export async function sandboxPrices(config: Config, stripe: StripeClient): Promise<Env> {
  const prices: Record<string, string> = {};
  for (const plan of config.plans.plans) {
    if (plan.price)
      prices[`PRICE_ID_TEST_${planVariable(plan.id)}`] = (await ensurePrice(stripe, plan)).object.id;
  }
  return prices;
}
