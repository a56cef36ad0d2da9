import type { Keystore } from '../keystore/keystore.ts';
import { type Config, urlHost } from '../shared/config.ts';
import type { Logger } from '../shared/log.ts';
import { type ProblemCode, problemStatus } from '../shared/problems.ts';
import { AccessLog } from './access-log.ts';
import { Arrivals } from './arrivals.ts';
import { BadKeys } from './bad-keys.ts';
import { createDecide } from './decide.ts';
import { createEndpoints } from './endpoints.ts';
import type { Exchange } from './exchange.ts';
import { FactsCache } from './facts-cache.ts';
import { FirstUses } from './first-uses.ts';
import { Forwarder } from './forward.ts';
import type { ForwardFailure } from './forward-failure.ts';
import { HashQueue } from './hash-queue.ts';
import { Identify } from './identify.ts';
import { createInternalServer } from './internal.ts';
import { Windows } from './limits.ts';
import { createListener, LISTENER_LIMITS, type ListenerLimits, listen, stopListening } from './listener.ts';
import { Metrics, type Outcome } from './metrics.ts';
import { Quotas } from './quota.ts';
import { answerProblem } from './refusal.ts';
import { createRequestListener } from './request.ts';
import { type RouteSpec, routeTo } from './route-spec.ts';
import { Routes } from './routes.ts';
import { UsageRecorder } from './usage-recorder.ts';

/** A gateway that is listening. */
export type Gateway = {
  url: string;
  internalUrl: string;
  port: number;
  internalPort: number;
  /** Opens the access log anew, after a log rotation moved it away. */
  reopenLogs(): void;
  /** Stops accepting, lets requests under way finish, writes all usage. At most about two seconds. */
  close(): Promise<void>;
};

export type GatewayOptions = {
  config: Config;
  /** Without it, everything goes to `config.upstreamUrl`. */
  routes?: readonly RouteSpec[];
  /** Stays open when the gateway closes: it is its owner's. */
  keystore: Keystore;
  log: Logger;
  /** Milliseconds since the epoch. */
  now?: () => number;
  queue?: HashQueue;
  listenerLimits?: ListenerLimits;
};

/**
 * Keys remembered: about 1 KiB each with facts, digest and quota, so 200 MiB at the most. A key beyond them still works,
 * for an Argon2 run at each return.
 */
const MAX_KEYS = 200_000;

/** How long requests under way may take to finish when the gateway stops. */
const STOP_MS = 1500;

/** Puts the gateway together and starts it. @throws the system's error when a port cannot be had */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { config, keystore, log, now = Date.now } = options;
  if (!options.routes && config.upstreamUrl === null)
    throw new Error('The gateway was started without an upstream');
  const routes = new Routes(
    options.routes ?? [routeTo(config.upstreamUrl as string, config.upstreamTimeoutMs)],
  );
  let stopping = false;
  if (config.production && config.trustedProxyList.length === 0) {
    log.warn('TRUSTED_PROXIES is empty: behind a proxy, all clients share one address');
  }

  const quotas = new Quotas(MAX_KEYS);
  const usage = new UsageRecorder({
    keystore,
    log,
    onWritten: (rootId, row, total) => quotas.written(rootId, row, total),
  });
  const facts = new FactsCache({
    keystore,
    capacity: MAX_KEYS,
    now,
    usageEpoch: () => usage.epoch,
    onRead: (key, epoch) => quotas.learn(key, epoch === usage.epoch && epoch % 2 === 0),
  });
  const queue = options.queue ?? new HashQueue();
  const identify = new Identify({
    keystore,
    facts,
    queue,
    badKeys: new BadKeys(),
    firstUses: new FirstUses({ keystore, log }),
    capacity: MAX_KEYS,
    log,
  });
  const decide = createDecide({
    identify,
    plans: config.plans,
    windows: new Windows(),
    quotas,
    pages: {
      manageUrl: `${config.publicBillingUrl}/billing/manage`,
      pricingUrl: `${config.publicBillingUrl}/`,
    },
    log,
  });
  const arrivals = new Arrivals(config.trustedProxies, config.trustedProxyList.length > 0);
  const metrics = new Metrics({ identify, queue, usage, arrivals });
  const accessLog = config.accessLog === null ? null : new AccessLog(config.accessLog, log);

  /** Every exchange ends here, once. What went wrong on our side is a line in the log; the rest only when asked for. */
  const over = (
    exchange: Exchange,
    outcome: Outcome,
    status: number,
    more: { keyId?: string | null; code?: string },
  ) => {
    arrivals.leave(exchange);
    metrics.answered(outcome, status);
    if (accessLog !== null) {
      const { keyId = null, code = null } = more;
      const milliseconds = performance.now() - exchange.startedAt;
      accessLog.add({ arrival: exchange, status, outcome, route: null, keyId, code, milliseconds });
    }
    const level = outcome === 'failed' ? 'info' : 'debug';
    if (!log.isLevelEnabled(level)) return;
    const ms = Math.round(performance.now() - exchange.startedAt);
    const { method, path, requestId } = exchange;
    log[level]({ requestId, method, path, status, outcome, ...more, ms }, 'request');
  };
  const onRefused = (exchange: Exchange, code: ProblemCode) => {
    const status = problemStatus(code);
    metrics.refused(code);
    over(exchange, status >= 500 && code !== 'stopping' ? 'failed' : 'refused', status, { code });
  };
  const onClientGone = (exchange: Exchange) => over(exchange, 'forwarded', 0, {});
  const onBug = (exchange: Exchange, error: unknown) => {
    log.error({ err: error, requestId: exchange.requestId, path: exchange.path }, 'A request failed here');
  };
  const onForwardFailed = (exchange: Exchange, failure: ForwardFailure, error: Error) => {
    const code = PROBLEM_OF_FAILURE[failure];
    if (failure !== 'malformed_body') {
      log.warn({ err: error, requestId: exchange.requestId, path: exchange.path, code }, 'Upstream failed');
    }
    const { retryAfterSeconds } = error as Error & { retryAfterSeconds?: number };
    const retryAfter = retryAfterSeconds === undefined ? [] : ['Retry-After', `${retryAfterSeconds}`];
    answerProblem(exchange, code, undefined, {}, retryAfter);
    onRefused(exchange, code);
  };
  const forwarder = new Forwarder({
    upstreamAnswered: (milliseconds) => metrics.upstreamAnswered(milliseconds / 1000),
    finished: (exchange, status, how, keyId) =>
      over(exchange, how === 'truncated' ? 'failed' : 'forwarded', status, { keyId }),
    failed: onForwardFailed,
    stopping: () => stopping,
  });
  const own = createEndpoints({
    decide,
    keystore,
    onAnswered: (exchange, status) => over(exchange, 'answered', status, {}),
    onRefused,
    now,
    log,
  });

  const onRequest = createRequestListener({
    arrivals,
    decide,
    routes,
    forwarder,
    usage,
    own,
    onRefused,
    onClientGone,
    onBug,
    stopping: () => stopping,
    now,
  });
  const server = createListener(
    onRequest,
    (socket) => arrivals.connectionOf(socket),
    options.listenerLimits ?? LISTENER_LIMITS,
  );
  const internal = createInternalServer(metrics);

  const release = async () => {
    await routes.destroy();
    facts.stop();
    await usage.close();
    await accessLog?.close();
  };
  let port: number;
  let internalPort: number;
  try {
    await facts.start();
    port = await listen(server, config.gatewayPort, config.host);
    internalPort = await listen(internal, config.internalPort, config.internalHost);
  } catch (error) {
    await stopListening(server, 0);
    await release();
    throw error;
  }
  log.info({ host: config.host, port, internalPort }, 'The gateway is listening');

  const close = async () => {
    stopping = true;
    await stopListening(server, STOP_MS);
    await release();
    await stopListening(internal, 0);
    log.info('The gateway has stopped');
  };
  let closing: Promise<void> | undefined;
  return {
    url: `http://${urlHost(config.host)}:${port}`,
    internalUrl: `http://${urlHost(config.internalHost)}:${internalPort}`,
    port,
    internalPort,
    reopenLogs: () => accessLog?.reopen(),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

const PROBLEM_OF_FAILURE = {
  unreachable: 'upstream_unreachable',
  timeout: 'upstream_timeout',
  not_sendable: 'internal_error',
  malformed_body: 'invalid_request',
  overloaded: 'overloaded',
} as const satisfies Record<ForwardFailure, ProblemCode>;
