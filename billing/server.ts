import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import express, { type ErrorRequestHandler, type RequestHandler } from 'express';
import { type Keystore, KeystoreError } from '../keystore/keystore.ts';
import { type Config, ConfigError, urlHost } from '../shared/config.ts';
import type { Logger } from '../shared/log.ts';
import { ProblemError } from '../shared/problems.ts';
import { checkoutRoutes } from './checkout.ts';
import type { Billing } from './context.ts';
import { healthRoutes } from './health.ts';
import { InboxWorker } from './inbox-worker.ts';
import type { MailContext } from './mail.ts';
import { Mailer } from './mailer.ts';
import { ManageDesk, manageRoutes } from './manage.ts';
import { type PageFrame, sendPage, wantsPage } from './pages.ts';
import { portalRoutes } from './portal.ts';
import { pricingRoutes } from './pricing.ts';
import { HourlyReconcile } from './reconcile-hourly.ts';
import { recoverRoutes } from './recover.ts';
import { rotateKeyRoutes } from './rotate-key.ts';
import { securityHeaders } from './security-headers.ts';
import type { SettleContext } from './settle.ts';
import { createStripe } from './stripe-client.ts';
import { successRoutes } from './success.ts';
import { webhookRoutes } from './webhook.ts';

const SWEEP_MS = 3_600_000;
const DRAIN_MS = 1500;

export type BillingServer = {
  url: string;
  port: number;
  /** Finishes requests and events under way (1.5 s at most), then stops. Does not close the keystore. */
  close(): Promise<void>;
};

/**
 * Starts billing: pages and API on `config.billingPort`, the inbox worker, reconciling with Stripe at the start and every
 * hour, the hourly sweep of expired reveals.
 *
 * @throws ConfigError without a Stripe key; KeystoreOpenError when the keystore belongs to the other mode
 */
export async function startBilling(options: {
  config: Config;
  keystore: Keystore;
  log: Logger;
  /** Whether to reconcile with Stripe at the start and every hour; yes unless said otherwise. */
  reconciles?: boolean;
}): Promise<BillingServer> {
  const { config, keystore } = options;
  const log = options.log.child({ room: 'billing' });
  if (!config.stripe)
    throw new ConfigError([
      { variable: 'STRIPE_SECRET_KEY', message: 'is required: billing asks Stripe what was paid' },
    ]);
  await keystore.bindMode(config.stripe.mode);
  const context: SettleContext & { mail: MailContext | null } = {
    stripe: createStripe(config.stripe),
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
    createApp({
      ...context,
      stripe: createStripe(config.stripe, 'page'),
      config,
      webhookSecret: config.stripe.webhookSecret,
      worker,
    }),
  );
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.billingPort, config.host, resolve);
  });
  worker.start();
  if (options.reconciles ?? true) hourly.start();
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
    async close() {
      clearInterval(sweepTimer);
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const cut = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
      await Promise.all([closed, worker.stop(DRAIN_MS), hourly.stop(DRAIN_MS)]);
      clearTimeout(cut);
    },
  };
}

function createApp(billing: Billing): express.Express {
  const { config, log } = billing;
  const app = express();
  app.disable('x-powered-by');
  app.set('trust proxy', [...config.trustedProxyList]);
  app.set('query parser', 'simple');
  app.locals.frame = {
    productName: config.productName,
    supportEmail: config.supportEmail,
    sandbox: config.stripe?.apiBase != null,
    mails: config.mail !== null,
  } satisfies PageFrame;
  app.use(requestLog(log), ...securityHeaders(config.publicBillingUrl.startsWith('https:')));
  app.use(
    '/assets',
    express.static(join(import.meta.dirname, 'public'), {
      index: false,
      redirect: false,
      setHeaders: (response) => response.setHeader('Cache-Control', 'public, max-age=300'),
    }),
  );
  const desk = new ManageDesk(billing);
  app.use(
    webhookRoutes(billing),
    pricingRoutes(billing),
    checkoutRoutes(billing),
    successRoutes(billing),
    manageRoutes(desk),
    portalRoutes(desk),
    rotateKeyRoutes(desk),
    recoverRoutes(billing),
    healthRoutes(billing),
  );
  app.use(() => {
    throw new ProblemError('not_found', 'There is nothing at this address.');
  });
  app.use(answerErrors(billing));
  return app;
}

/** One line a request, without the query: it may hold a session id. */
function requestLog(log: Logger): RequestHandler {
  return (request, response, next) => {
    const start = performance.now();
    const requestId = randomUUID();
    response.locals.requestId = requestId;
    response.set('X-Request-ID', requestId);
    response.on('finish', () => {
      const ms = Math.round(performance.now() - start);
      log.debug(
        { request: requestId, method: request.method, path: request.path, status: response.statusCode, ms },
        'Request',
      );
    });
    next();
  };
}

function answerErrors({ log }: Billing): ErrorRequestHandler {
  return (error: unknown, request, response, _next) => {
    const problem = toProblemError(error);
    const answer = problem.toProblem(response.locals.requestId);
    const about = {
      request: answer.request_id,
      method: request.method,
      path: request.path,
      code: problem.code,
    };
    if (answer.status >= 500) log.error({ ...about, err: error }, problem.message);
    else if (answer.status !== 404) log.warn({ ...about }, problem.message);
    if (response.headersSent) {
      response.destroy();
      return;
    }
    response.status(answer.status);
    const retryAfter = answer.retry_after ?? (answer.status === 503 ? 5 : undefined);
    if (retryAfter !== undefined) response.set('Retry-After', String(retryAfter));
    if (answer.status === 401) response.set('WWW-Authenticate', 'Bearer realm="billing"');
    if (wantsPage(request)) {
      // A page that was asked for recovers by itself; a form is not sent twice.
      const recovers = retryAfter !== undefined && request.method === 'GET';
      if (recovers) response.set('Refresh', String(retryAfter));
      sendPage(response, 'error', { problem: answer, recovers });
    } else response.type('application/problem+json').send(JSON.stringify(answer));
  };
}

function toProblemError(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  if (error instanceof KeystoreError)
    return new ProblemError('keystore_unavailable', 'The keystore cannot be used right now.', {
      remedy: 'Nothing is lost. Try again in a moment.',
    });
  // What Express's body parsers and its router throw (http-errors).
  const { type, status } = error as { type?: string; status?: number };
  if (type === 'entity.too.large')
    return new ProblemError('payload_too_large', 'The body is larger than this address takes.');
  if (type === 'encoding.unsupported' || type === 'charset.unsupported')
    return new ProblemError('unsupported_media_type');
  if (status !== undefined && status >= 400 && status < 500)
    return new ProblemError('invalid_request', 'The request cannot be read.');
  return new ProblemError('internal_error', 'Something went wrong here.');
}
