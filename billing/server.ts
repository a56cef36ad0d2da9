import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import express, { type ErrorRequestHandler, type Router } from 'express';
import { Registry } from 'prom-client';
import { type Keystore, keystoreProblem } from '../keystore/keystore.ts';
import { type Config, ConfigError, urlHost } from '../shared/config.ts';
import type { Logger } from '../shared/log.ts';
import { startMetricsListener } from '../shared/metrics-listener.ts';
import { ProblemError } from '../shared/problems.ts';
import { answerProblems, requestLog } from '../shared/request-answers.ts';
import { requestMetrics } from '../shared/request-metrics.ts';
import { securityHeaders } from '../shared/security-headers.ts';
import { checkoutRoutes } from './checkout.ts';
import { CheckoutDesk } from './checkout-desk.ts';
import { consoleRoutes } from './console/console.ts';
import { sendConsolePage } from './console/page.ts';
import type { Billing } from './context.ts';
import { healthRoutes } from './health.ts';
import { InboxWorker } from './inbox-worker.ts';
import type { MailContext } from './mail.ts';
import { Mailer } from './mailer.ts';
import { ManageDesk, manageRoutes } from './manage.ts';
import { BillingMetrics } from './metrics.ts';
import { type PageFrame, sendPage, wantsPage } from './pages.ts';
import { portalRoutes } from './portal.ts';
import type { PreflightContext } from './preflight/preflight.ts';
import { Readiness } from './preflight/readiness.ts';
import { refuseUnsafeStart } from './preflight/safe-start.ts';
import { StopConditions } from './preflight/stop-conditions.ts';
import { pricingRoutes } from './pricing.ts';
import { PurchaseStates } from './purchase-state.ts';
import { purchaseRoutes } from './purchases-api.ts';
import { HourlyReconcile } from './reconcile-hourly.ts';
import { recoverRoutes } from './recover.ts';
import { rotateKeyRoutes } from './rotate-key.ts';
import type { SettleContext } from './settle.ts';
import { createStripe } from './stripe-client.ts';
import type { OnStripeCall } from './stripe-meter.ts';
import { successRoutes } from './success.ts';
import { webhookRoutes } from './webhook.ts';

const SWEEP_MS = 3_600_000;
const DRAIN_MS = 1500;

export type BillingServer = {
  url: string;
  port: number;
  /** Where its metrics are. */
  internalUrl: string;
  /** Finishes requests and events under way (1.5 s at most), then stops. Does not close the keystore. */
  close(): Promise<void>;
};

/**
 * Starts billing: pages and API on `config.billingPort`, metrics on `config.billingInternalPort`, the inbox worker,
 * reconciling with Stripe at the start and every hour, the hourly sweep of expired reveals.
 *
 * @throws ConfigError without a Stripe key; KeystoreOpenError when the keystore belongs to the other mode; UnsafeStartError in
 *   production, on what preflight calls a stop
 */
export async function startBilling(options: {
  config: Config;
  keystore: Keystore;
  log: Logger;
  /** Whether to reconcile with Stripe at the start and every hour; yes unless said otherwise. */
  reconciles?: boolean;
  /** What another room serves on billing's port. */
  beside?: Router;
  /** The metrics of this process, with those of that room. */
  registry?: Registry;
}): Promise<BillingServer> {
  const { config, keystore, registry = new Registry() } = options;
  const log = options.log.child({ room: 'billing' });
  if (!config.stripe)
    throw new ConfigError([
      { variable: 'STRIPE_SECRET_KEY', message: 'is required: billing asks Stripe what was paid' },
    ]);
  await keystore.bindMode(config.stripe.mode);
  const metrics = new BillingMetrics(registry, keystore);
  const onStripeCall: OnStripeCall = (...call) => metrics.stripeCalled(...call);
  const stripe = createStripe(config.stripe, 'inbox', onStripeCall);
  const preflight: PreflightContext = {
    mode: config.stripe.mode,
    config,
    stripe,
    keystore,
    upstreamUrls: null,
    folder: process.cwd(),
    backupFile: null,
    now: Date.now,
  };
  if (config.production) await refuseUnsafeStart(preflight);
  const stopConditions = config.production
    ? new StopConditions(preflight, log, (stops) => metrics.stopsLookedAt(stops))
    : null;
  const context: SettleContext & { mail: MailContext | null } = {
    stripe,
    metrics,
    mode: config.stripe.mode,
    keystore,
    plans: config.plans,
    keyPrefix: config.keyPrefix,
    ownOrigins: [new URL(config.publicBillingUrl).origin, ...config.redirectOrigins],
    log,
    mail: config.mail && { mailer: new Mailer(config.mail, config.supportEmail), config },
  };
  if (config.production && config.trustedProxyList.length === 0) {
    log.warn('TRUSTED_PROXIES is empty: behind a proxy, all buyers share one address and its limits');
  }
  const worker = new InboxWorker(context);
  const hourly = new HourlyReconcile(context, () => worker.wake());
  const server = createServer(
    createApp(
      {
        ...context,
        stripe: createStripe(config.stripe, 'page', onStripeCall),
        config,
        webhookSecret: config.stripe.webhookSecret,
        worker,
        stopConditions,
        readiness: new Readiness(preflight, log),
      },
      registry,
      options.beside,
    ),
  );
  const internal = await startMetricsListener({
    host: config.internalHost,
    port: config.billingInternalPort,
    metrics: () => metrics.text(),
    log,
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.billingPort, config.host, resolve);
  }).catch(async (error: unknown) => {
    await internal.close();
    throw error;
  });
  worker.start();
  if (options.reconciles ?? true) hourly.start();
  stopConditions?.start();
  const sweep = () =>
    keystore
      .sweep()
      .catch((error) =>
        log.error({ err: error }, 'Expired reveals could not be destroyed; trying again in an hour'),
      );
  void sweep();
  const sweepTimer = setInterval(sweep, SWEEP_MS).unref();
  const { port } = server.address() as AddressInfo;
  log.info({ port }, 'Billing listens');
  return {
    url: `http://${urlHost(config.host)}:${port}`,
    port,
    internalUrl: internal.url,
    async close() {
      clearInterval(sweepTimer);
      await internal.close();
      stopConditions?.stop();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const cut = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
      await Promise.all([closed, worker.stop(DRAIN_MS), hourly.stop(DRAIN_MS)]);
      clearTimeout(cut);
    },
  };
}

function createApp(billing: Billing, registry: Registry, beside: Router | undefined): express.Express {
  const { config, log } = billing;
  const app = express();
  app.disable('x-powered-by');
  app.set('trust proxy', [...config.trustedProxyList]);
  app.set('query parser', 'simple');
  app.locals.frame = {
    productName: config.productName,
    supportEmail: config.supportEmail,
    policies: config.policies,
    sandbox: config.stripe?.apiBase != null,
    mails: config.mail !== null,
  } satisfies PageFrame;
  app.use(
    requestLog(log),
    requestMetrics(registry, 'billing'),
    ...securityHeaders(config.publicBillingUrl.startsWith('https:')),
  );
  app.use(
    '/assets',
    express.static(join(import.meta.dirname, 'public'), {
      index: false,
      redirect: false,
      setHeaders: (response) => response.setHeader('Cache-Control', 'public, max-age=300'),
    }),
  );
  const desk = new ManageDesk(billing);
  const checkouts = new CheckoutDesk(billing);
  const states = new PurchaseStates(billing);
  app.use(
    webhookRoutes(billing),
    pricingRoutes(billing),
    checkoutRoutes(checkouts),
    purchaseRoutes(checkouts, states),
    successRoutes(billing, states),
    manageRoutes(desk),
    portalRoutes(desk),
    rotateKeyRoutes(desk),
    recoverRoutes(billing),
    healthRoutes(billing),
    consoleRoutes(billing),
  );
  if (beside) app.use(beside);
  app.use(() => {
    throw new ProblemError('not_found', 'There is nothing at this address.');
  });
  app.use(answerErrors(billing));
  return app;
}

/** A page that was asked for is answered with one. */
function answerErrors({ log }: Billing): ErrorRequestHandler {
  return answerProblems(log, keystoreProblem, (request, response, problem, retryAfterSeconds) => {
    if (!wantsPage(request)) return false;
    // A page that was asked for recovers by itself; a form is not sent twice.
    const recovers = retryAfterSeconds !== undefined && request.method === 'GET';
    if (recovers) response.set('Refresh', String(retryAfterSeconds));
    const { operator } = response.locals;
    if (operator) sendConsolePage(response, 'error', { problem, recovers });
    else sendPage(response, 'error', { problem, recovers });
    return true;
  });
}
