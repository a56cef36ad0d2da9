import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { getHeapStatistics } from 'node:v8';
import type { Registry } from 'prom-client';
import type { Keystore } from '../keystore/keystore.ts';
import { type Config, urlHost } from '../shared/config.ts';
import type { Logger } from '../shared/log.ts';
import { type ProblemCode, problemStatus } from '../shared/problems.ts';
import { AccessLog, type Logged } from './access-log.ts';
import { createEndpoints } from './answers/endpoints.ts';
import { answerProblem } from './answers/refusal.ts';
import { BadKeys } from './decision/bad-keys.ts';
import { registerCounterMetrics } from './decision/counter-metrics.ts';
import type { CounterServer } from './decision/counter-server.ts';
import { createDecide } from './decision/decide.ts';
import { FactsCache } from './decision/facts-cache.ts';
import { FirstUses } from './decision/first-uses.ts';
import { HashQueue } from './decision/hash-queue.ts';
import { Identify } from './decision/identify.ts';
import { KeyStanding } from './decision/key-standing.ts';
import { MemoryWindows } from './decision/limits.ts';
import { Quotas } from './decision/quota.ts';
import { SharedWindows } from './decision/shared-windows.ts';
import { release } from './decision/spending.ts';
import { UnderWay } from './decision/under-way.ts';
import { UsageRecorder } from './decision/usage-recorder.ts';
import { createLane } from './fast-lane/create-lane.ts';
import { suitGarbageCollection } from './garbage-collection.ts';
import { UpstreamLinks } from './links/upstream-links.ts';
import { Acceptors, listen } from './listener/acceptors.ts';
import { Arrivals } from './listener/arrivals.ts';
import { readIntoOneBuffer } from './listener/client-socket.ts';
import { MalformedBody } from './listener/connection-fault.ts';
import { registerConnectionMetrics } from './listener/connection-metrics.ts';
import { Connections } from './listener/connections.ts';
import type { Exchange } from './listener/exchange.ts';
import {
  connectionOptions,
  countConnections,
  createListener,
  LISTENER_LIMITS,
  type ListenerLimits,
  stopListening,
} from './listener/listener.ts';
import { Metrics, type Outcome, outcomeOf } from './metrics.ts';
import { RefusalRecorder } from './refusal-recorder.ts';
import { createRequestListener, type RefusedBecause } from './request.ts';
import type { RouteSpec } from './routes/route-spec.ts';
import { Routes } from './routes/routes.ts';
import { configuredRoutes } from './routes/routes-file.ts';
import { RoutesReload, registerReloadMetrics } from './routes/routes-reload.ts';
import { TrafficRecorder } from './traffic-recorder.ts';
import { type ForwardEvents, Forwarder } from './upstream/forward.ts';
import type { ForwardFailure } from './upstream/forward-failure.ts';
import { registerUpstreamMetrics } from './upstream/upstream-metrics.ts';
import { createInternalServer, stopInternal } from './verify/internal.ts';
import { createVerify } from './verify/verify.ts';
import { WebSockets } from './websockets/websockets.ts';
import { createWhy } from './why.ts';

/** A gateway that is listening. */
export type Gateway = {
  url: string;
  internalUrl: string;
  port: number;
  internalPort: number;
  /** Opens the access log anew, after a log rotation moved it away. */
  reopenLogs(): void;
  /** Puts the routes file into force as it is now. A bad one changes nothing and is logged. */
  reloadRoutes(): void;
  /** What this process has counted, metric by metric. */
  figures(): ReturnType<Registry['getMetricsAsJSON']>;
  /** Stops accepting, lets requests under way finish, writes all usage. At most `DRAIN_SECONDS`, and one more. */
  close(): Promise<void>;
};

export type GatewayOptions = {
  config: Config;
  /** Those of the configuration when omitted. */
  routes?: readonly RouteSpec[];
  /** Where the routes file's `value_env` are looked up; the process's variables when omitted. */
  env?: Readonly<Record<string, string | undefined>>;
  /** Stays open when the gateway closes: it is its owner's. */
  keystore: Keystore;
  log: Logger;
  /** Milliseconds since the epoch. */
  now?: () => number;
  queue?: HashQueue;
  /** Where this process is one of several that are one gateway. */
  workers?: {
    /** What counts limits for all of them; `null`: the Redis of the configuration. */
    counter: CounterServer | null;
    /** The metrics of all of them, in the format of Prometheus. */
    metrics(): Promise<string>;
  };
  listenerLimits?: ListenerLimits;
  /** `false`: what `node:http` reads goes over undici's connections only. Else as {@link OTHERWISE_MS}. For tests that compare. */
  overLinks?: false | { otherwiseMs: number };
};

/**
 * Keys remembered: about 1.6 KiB each with facts, digest, windows and quota, so half of what this process may have at
 * most. A key beyond them still works, for an Argon2 run at each return.
 */
const MAX_KEYS = Math.min(2_000_000, Math.floor(getHeapStatistics().heap_size_limit / 2 / 1640));
/** What proxies ask is answered at once, unless it waits for Argon2. */
const INTERNAL_STOP_MS = 1000;
/** How often time-outs of our own connections are looked after. */
const SWEEP_MS = 250;
/** For so long after an answer that is not plain, in chunks say, what `node:http` reads goes there over undici's connections. */
const OTHERWISE_MS = 10_000;

/** Puts the gateway together and starts it. @throws the system's error when a port cannot be had */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { config, keystore, log, now = Date.now } = options;
  suitGarbageCollection();
  const readRoutes = () => configuredRoutes(config, options.env ?? process.env);
  const underWay = new UnderWay();
  const routes = new Routes(
    options.routes ?? readRoutes(),
    (route, { origin }, { event, reason }) => {
      const level = event === 'healthy' || event === 'circuit_closed' ? 'info' : 'warn';
      log[level]({ route: route.name, server: origin, event, reason }, 'A server of the upstream changed');
    },
    (before, after) => underWay.policyChanged(before, after),
  );
  let stopping = false;
  if (config.production && config.trustedProxyList.length === 0) {
    log.warn('TRUSTED_PROXIES is empty: behind a proxy, all clients share one address');
  }

  const quotas = new Quotas((keyId) => facts.renewSoon(keyId));
  const usage = new UsageRecorder({
    keystore,
    log,
    onWritten: (chain, row, total) => quotas.written(chain, row, total),
    isPressing: (chain) => quotas.isPressing(chain),
  });
  const facts = new FactsCache({
    keystore,
    capacity: MAX_KEYS,
    graceMs: config.keystoreGraceMs,
    now,
    usageWrite: () => usage.pendingWrite,
    onRead: (key, write) => {
      const isExact = key.chain.writtenIn < write;
      quotas.learn(key, isExact);
      return isExact;
    },
  });
  const queue = options.queue ?? new HashQueue();
  const identify = new Identify({
    keystore,
    facts,
    queue,
    badKeys: new BadKeys(undefined, now),
    firstUses: new FirstUses({ keystore, log }),
    capacity: MAX_KEYS,
    log,
  });
  const counterServer =
    options.workers?.counter ?? (config.redisUrl === null ? null : await redisCounter(config.redisUrl, log));
  const windowsOf = (what: 'requests' | 'messages') =>
    counterServer === null
      ? new MemoryWindows(what)
      : new SharedWindows(what, counterServer, config.limitsWithoutRedis);
  const windows = windowsOf('requests');
  const decide = createDecide({
    identify,
    plans: config.plans,
    counters: {
      windows,
      messages: windowsOf('messages'),
      quotas,
      usage,
      underWay,
      log,
    },
    pages: {
      manageUrl: `${config.publicBillingUrl}/billing/manage`,
      pricingUrl: `${config.publicBillingUrl}/`,
    },
    log,
  });
  const limits = options.listenerLimits ?? LISTENER_LIMITS;
  const { maxConnections, maxConnectionsPerAddress } = config;
  const connections = new Connections(config.trustedProxies, config.trustedProxyList.length > 0, {
    ...limits,
    maxConnections,
    maxConnectionsPerAddress,
  });
  const arrivals = new Arrivals(connections, config.trustedProxies);
  const refusals = new RefusalRecorder({ keystore, log });
  const metrics = new Metrics({ identify, facts, keystore, queue, usage, arrivals, refusals });
  const traffic = new TrafficRecorder({ keystore, metrics, log, now });
  registerUpstreamMetrics(metrics.registry, routes);
  if (counterServer !== null && windows instanceof SharedWindows)
    registerCounterMetrics(metrics.registry, counterServer, windows);
  const reload =
    config.routesFile === null
      ? null
      : new RoutesReload({ file: config.routesFile, read: readRoutes, routes, log });
  if (reload !== null) registerReloadMetrics(metrics.registry, reload);
  const accessLog =
    config.accessLog === null ? null : new AccessLog(config.accessLog, log, options.workers !== undefined);

  const logsFailures = log.isLevelEnabled('info');
  const logsAll = log.isLevelEnabled('debug');
  /** Every request ends here, once. What went wrong on our side is a line in the log; the rest only when asked for. */
  const account = (
    arrival: Logged,
    outcome: Outcome,
    status: number,
    { keyId = null, code = null, detail = null }: Ending,
  ) => {
    metrics.answered(outcome, status, (performance.now() - arrival.startedAt) / 1000);
    if (code !== null) refusals.note(arrival, keyId, code, detail);
    if (accessLog !== null) {
      const milliseconds = performance.now() - arrival.startedAt;
      accessLog.add({
        arrival,
        status,
        outcome,
        route: arrival.route?.name ?? null,
        keyId,
        code,
        milliseconds,
      });
    }
    const failed = outcome === 'failed';
    if (failed ? !logsFailures : !logsAll) return;
    const ms = Math.round(performance.now() - arrival.startedAt);
    const { method, path, requestId } = arrival;
    log[failed ? 'info' : 'debug'](
      { request_id: requestId, method, path, status, outcome, keyId, code, ms },
      'request',
    );
  };
  const over = (exchange: Exchange, outcome: Outcome, status: number, more: Ending) => {
    arrivals.leave(exchange);
    if (exchange.allowed !== null) release(exchange.allowed);
    account(exchange, outcome, status, more);
  };
  const onRefused = (exchange: Exchange, code: ProblemCode, more: RefusedBecause = {}) => {
    const status = problemStatus(code);
    metrics.refused(code);
    const keyId = (more.key ?? exchange.allowed?.key)?.id ?? null;
    const ending = { code, keyId, detail: more.detail ?? null };
    over(exchange, outcomeOf(code), status, ending);
  };
  const onClientGone = (exchange: Exchange) => over(exchange, 'forwarded', 0, {});
  const onBug = ({ requestId, path }: Logged, error: unknown) => {
    log.error({ err: error, request_id: requestId, path }, 'A request failed here');
  };
  const onForwardFailed = (exchange: Exchange, failure: ForwardFailure, error: Error) => {
    const code = error instanceof MalformedBody ? error.code : PROBLEM_OF_FAILURE[failure];
    if (failure !== 'malformed_body') {
      log.warn({ err: error, request_id: exchange.requestId, path: exchange.path, code }, 'Upstream failed');
    }
    const { retryAfterSeconds } = error as Error & { retryAfterSeconds?: number };
    const retryAfter = retryAfterSeconds === undefined ? [] : ['Retry-After', `${retryAfterSeconds}`];
    answerProblem(exchange, code, undefined, {}, retryAfter);
    onRefused(exchange, code);
  };
  const forwardEvents: ForwardEvents = {
    upstreamAnswered: (milliseconds) => metrics.upstreamAnswered(milliseconds / 1000),
    finished: (exchange, status, how, keyId) =>
      over(exchange, how === 'truncated' ? 'failed' : 'forwarded', status, { keyId }),
    failed: onForwardFailed,
    stopping: () => stopping,
  };
  const websockets = new WebSockets({
    events: forwardEvents,
    standing: new KeyStanding({ facts, plans: config.plans, now }),
    now,
  });
  const links = new UpstreamLinks({
    sweepMs: Math.min(SWEEP_MS, limits.checkMs),
    otherwiseMs: options.overLinks ? options.overLinks.otherwiseMs : OTHERWISE_MS,
  });
  const forwarder = new Forwarder(forwardEvents, websockets, options.overLinks === false ? null : links);
  const own = createEndpoints({
    decide,
    keystore,
    stopping: () => stopping,
    inGrace: (at) => facts.isInGrace(at),
    onAnswered: (exchange, status) => over(exchange, 'answered', status, {}),
    onRefused,
    now,
    log,
    instance: { service: 'gateway', publicUrl: config.publicGatewayUrl, serverSecret: config.serverSecret },
  });

  const onRequest = createRequestListener({
    arrivals,
    decide,
    routes,
    forwarder,
    own,
    onAnswered: (exchange, status) => over(exchange, 'answered', status, {}),
    onRefused,
    onClientGone,
    onBug,
    now,
  });
  const server = createListener(onRequest, connections, limits);
  // Workers get their connections from the primary.
  const acceptors = new Acceptors(server, connectionOptions(limits), options.workers !== undefined);
  const lane = config.fastLane
    ? createLane({
        arrivals,
        decide,
        routes,
        metrics,
        account,
        onBug,
        stopping: () => stopping,
        now,
        limits,
        links,
      })
    : null;
  lane?.takeFrom(server);
  countConnections(server, connections);
  if (lane !== null) readIntoOneBuffer(server);
  registerConnectionMetrics(metrics.registry, connections, websockets);
  const verify = createVerify({
    decide,
    routes,
    trustedProxies: config.trustedProxies,
    stopping: () => stopping,
    onAnswered: (asked, outcome, status, more) => {
      if (more.code !== null) metrics.refused(more.code);
      account(asked, outcome, status, more);
    },
    onBug,
    now,
    log,
  });
  const internal = createInternalServer(
    options.workers?.metrics ?? (() => metrics.registry.metrics()),
    verify,
    createWhy({ decide, facts, routes, now, log }),
  );

  const shutDown = async () => {
    links.close();
    reload?.close();
    await routes.destroy();
    unwatch();
    facts.stop();
    // The little there is of it first: it does not wait for what each key used.
    await Promise.all([traffic.close(), usage.close(), refusals.close()]);
    counterServer?.close();
    await accessLog?.close();
  };
  let unwatch = () => {};
  let port: number;
  let internalPort: number;
  try {
    await counterServer?.start();
    await facts.start();
    // After the facts, which forget on the same notice what they knew before.
    unwatch = await keystore.changes.subscribe((change) => websockets.changed(change));
    port = await acceptors.listen(config.gatewayPort, config.host);
    internalPort = await listen(internal, { port: config.internalPort, host: config.internalHost });
  } catch (error) {
    await stopListening(server, acceptors, connections, 0);
    await shutDown();
    throw error;
  }
  log.info({ host: config.host, port, internalPort }, 'The gateway is listening');

  const close = async () => {
    stopping = true;
    connections.end();
    // Those who send requests here find out before they are turned away.
    await sleep(config.stopDelayMs);
    websockets.closeAll();
    await stopListening(server, acceptors, connections, config.drainMs);
    await stopInternal(internal, INTERNAL_STOP_MS);
    await shutDown();
    log.info('The gateway has stopped');
  };
  let closing: Promise<void> | undefined;
  return {
    url: `http://${urlHost(config.host)}:${port}`,
    internalUrl: `http://${urlHost(config.internalHost)}:${internalPort}`,
    port,
    internalPort,
    reopenLogs: () => accessLog?.reopen(),
    reloadRoutes: () => reload?.reload(),
    figures: () => metrics.registry.getMetricsAsJSON(),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

/** How a request ended. */
type Ending = { keyId?: string | null; code?: ProblemCode | null; detail?: string | null };

/** Its client costs a process that does not need it time at the start, and memory. */
async function redisCounter(url: string, log: Logger): Promise<CounterServer> {
  const { RedisCounter } = await import('./decision/redis-counter.ts');
  return new RedisCounter(url, log);
}

const PROBLEM_OF_FAILURE = {
  unreachable: 'upstream_unreachable',
  timeout: 'upstream_timeout',
  not_sendable: 'internal_error',
  malformed_body: 'invalid_request',
  overloaded: 'overloaded',
} as const satisfies Record<ForwardFailure, ProblemCode>;
