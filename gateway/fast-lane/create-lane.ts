import { type ProblemCode, problemStatus } from '../../shared/problems.ts';
import type { Decide } from '../decision/decide.ts';
import { release } from '../decision/spending.ts';
import type { UpstreamLinks } from '../links/upstream-links.ts';
import type { Arrivals } from '../listener/arrivals.ts';
import type { Arrival } from '../listener/exchange.ts';
import type { ListenerLimits } from '../listener/listener.ts';
import { type Metrics, type Outcome, outcomeOf } from '../metrics.ts';
import { isOwnPath } from '../request.ts';
import type { Route, Routes } from '../routes/routes.ts';
import { Lane } from './lane.ts';
import { registerLaneMetrics } from './metrics.ts';

export type CreateLaneOptions = {
  arrivals: Arrivals;
  decide: Decide;
  routes: Pick<Routes, 'match'>;
  metrics: Metrics;
  /** Called for each request that ends in the lane. */
  account(
    arrival: Arrival,
    outcome: Outcome,
    status: number,
    more: { keyId?: string | null; code?: ProblemCode; detail?: string | null },
  ): void;
  onBug(arrival: Arrival, error: unknown): void;
  stopping(): boolean;
  now(): number;
  limits: ListenerLimits;
  links: UpstreamLinks;
};

/** How long a client may take nothing of its answer. */
const STALLED_MS = 60_000;
/** How much longer than it says `node:http` keeps an idle connection: who closes first loses no request to the race. */
const KEEP_BUFFER_MS = 1000;

/** The fast lane behind the same decisions, and with the same figures, as everything else. */
export function createLane(options: CreateLaneOptions): Lane {
  const { arrivals, decide, routes, metrics, account, limits, now } = options;
  const fits = new WeakMap<Route, boolean>();

  function routeOf(arrival: Arrival): Route | null {
    if (isOwnPath(arrival.path)) return null;
    const route = routes.match(arrival.head.host, arrival.path);
    if (typeof route === 'string') return null;
    let fit = fits.get(route);
    if (fit === undefined) {
      fit = isForTheLane(route);
      fits.set(route, fit);
    }
    if (!fit) return null;
    arrival.route = route;
    return route;
  }

  function leave(arrival: Arrival): void {
    arrivals.exit(arrival);
    if (arrival.allowed !== null) release(arrival.allowed);
  }

  const lane = new Lane({
    arrivals,
    routeOf,
    decide({ head, address }, { policy }) {
      return decide({ credential: head.credential, address, policy, now: now() }, 'spend');
    },
    events: {
      upstreamAnswered: (milliseconds) => metrics.upstreamAnswered(milliseconds / 1000),
      bug: options.onBug,
      finished(arrival, status, how) {
        leave(arrival);
        const keyId = arrival.allowed?.key.id ?? null;
        account(arrival, how === 'truncated' ? 'failed' : 'forwarded', status, { keyId });
      },
      refused(arrival, code, { key = null, detail = null } = {}) {
        leave(arrival);
        metrics.refused(code);
        account(arrival, outcomeOf(code), problemStatus(code), {
          code,
          keyId: key?.id ?? null,
          detail,
        });
      },
      clientGone(arrival) {
        leave(arrival);
        account(arrival, 'forwarded', 0, {});
      },
    },
    stopping: options.stopping,
    limits: {
      idleMs: limits.idleMs + KEEP_BUFFER_MS,
      keepSeconds: Math.floor(limits.idleMs / 1000),
      silentMs: limits.checkMs,
      gatherMs: limits.gatherMs,
      stalledMs: STALLED_MS,
    },
    links: options.links,
  });
  registerLaneMetrics(metrics.registry, lane);
  return lane;
}

/** Whether the lane can do all that a route asks for. */
function isForTheLane({ policy, upstream, group }: Route): boolean {
  const { access, cost, methods, maxBodyBytes, cors } = policy;
  return (
    access === 'key' &&
    typeof cost === 'number' &&
    methods === null &&
    maxBodyBytes === null &&
    cors === null &&
    !upstream.http2 &&
    group.targets.every(({ url }) => url.startsWith('http:'))
  );
}
