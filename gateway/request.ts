import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ProblemCode } from '../shared/problems.ts';
import { isPreflight, preflightHeaders } from './answers/cors.ts';
import { withoutMethodOverrides } from './answers/method-override.ts';
import { answerProblem, answerRefused, send } from './answers/refusal.ts';
import type { Decide } from './decision/decide.ts';
import type { Decision } from './decision/decision.ts';
import type { Arrivals } from './listener/arrivals.ts';
import { closeAfter, type Exchange } from './listener/exchange.ts';
import { formFault } from './listener/form.ts';
import { mustWait, type Turns } from './listener/pipeline.ts';
import type { CorsPolicy } from './routes/route-spec.ts';
import type { Route, Routes } from './routes/routes.ts';
import type { Forwarder } from './upstream/forward.ts';

/** Paths the gateway answers itself; all others are the upstream's. */
const OWN_PATHS: readonly string[] = ['/whoami', '/quota', '/health', '/ready'];

/** What is known of a refusal beside its code. */
export type RefusedBecause = { key?: { id: string } | null; detail?: string | undefined };

/** Whether the gateway answers a path itself. */
export function isOwnPath(path: string): boolean {
  return OWN_PATHS.includes(path);
}

export type RequestOptions = {
  arrivals: Pick<Arrivals, 'arrive'>;
  decide: Decide;
  routes: Pick<Routes, 'match'>;
  forwarder: Pick<Forwarder, 'forward'>;
  /** Answers paths that are {@link isOwnPath}. */
  own(exchange: Exchange): void;
  /** Called for each preflight, which is answered here. */
  onAnswered(exchange: Exchange, status: number): void;
  /** Called for each request that is answered here with a problem. */
  onRefused(exchange: Exchange, code: ProblemCode, more?: RefusedBecause): void;
  /** Called for each request whose client left before it was decided on. */
  onClientGone(exchange: Exchange): void;
  /** Called when something unforeseen was thrown. */
  onBug(exchange: Exchange, error: unknown): void;
  now(): number;
};

const NOTHING = Buffer.alloc(0);
const ORDINARY_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
export const UNCLEAR_PATH =
  'The path could be taken for another one. Spell it without dot segments, and as it is documented.';

/** The way of a request: read its head, decide, then forward it or say why not. This is the hot path. */
export function createRequestListener(options: RequestOptions) {
  const { arrivals, decide, routes, forwarder, now } = options;

  function refuse(exchange: Exchange, code: ProblemCode, detail?: string, headers?: string[]): void {
    whenRead(exchange, () => {
      answerProblem(exchange, code, detail, {}, headers);
      options.onRefused(exchange, code, { detail });
    });
  }

  /**
   * Answers without the body. What is here already of one in chunks has not been read yet; when that is all of it, the
   * connection can go on.
   */
  function whenRead(exchange: Exchange, answerNow: () => void): void {
    const { req, head } = exchange;
    if (!head.hasBody || head.contentLength !== null || req.complete) {
      answerNow();
      return;
    }
    setImmediate(() => {
      if (exchange.res.destroyed) options.onClientGone(exchange);
      else answerNow();
    });
  }

  function decideAndForward(exchange: Exchange, route: Route): void {
    const { head, address } = exchange;
    const { policy } = route;
    try {
      const decision = decide({ credential: head.credential, address, policy, now: now() }, 'spend');
      if (!(decision instanceof Promise)) decided(exchange, route, decision);
      else
        decision
          .then((late) => decided(exchange, route, late))
          .catch((error: unknown) => failed(exchange, error));
    } catch (error) {
      failed(exchange, error);
    }
  }

  function failed(exchange: Exchange, error: unknown): void {
    options.onBug(exchange, error);
    if (!exchange.res.headersSent) refuse(exchange, 'internal_error');
    else exchange.socket.destroy();
  }

  function decided(exchange: Exchange, route: Route, decision: Decision): void {
    if (decision.allowed) exchange.allowed = decision;
    if (exchange.res.destroyed) {
      options.onClientGone(exchange);
      return;
    }
    if (exchange.connection.faulted && !exchange.req.complete) {
      refuse(exchange, 'invalid_request', 'The body cannot be read.');
      return;
    }
    if (decision.allowed) {
      forwarder.forward(exchange, route, decision);
      return;
    }
    whenRead(exchange, () => {
      answerRefused(exchange, decision);
      options.onRefused(exchange, decision.code, decision);
    });
  }

  /** What the route says of any request, whoever sends it; then what it says of this one. */
  function take(exchange: Exchange, route: Route): void {
    const { access, cors, methods, maxBodyBytes } = route.policy;
    exchange.route = route;
    if (methods !== null) exchange.head.endToEnd = withoutMethodOverrides(exchange.head.endToEnd);
    if (cors !== null && isPreflight(exchange)) answerPreflight(exchange, cors);
    else if (methods !== null && !methods.includes(exchange.method)) {
      refuse(exchange, 'method_not_allowed', `${exchange.method} is not for this path.`, [
        'Allow',
        methods.join(', '),
      ]);
    } else if (exchange.method === 'TRACE' && route.upstream.secret !== null) {
      // The answer would show it (RFC 9110 section 9.3.8).
      refuse(exchange, 'method_not_allowed', 'TRACE is not for this path.', [
        'Allow',
        (methods ?? ORDINARY_METHODS).filter((method) => method !== 'TRACE').join(', '),
      ]);
    } else if (maxBodyBytes !== null && Number(exchange.head.contentLength) > maxBodyBytes) {
      refuse(exchange, 'payload_too_large', `A body may have ${maxBodyBytes} bytes here.`);
    } else if (access === 'public') forwardUnasked(exchange, route);
    else decideAndForward(exchange, route);
  }

  function forwardUnasked(exchange: Exchange, route: Route): void {
    try {
      forwarder.forward(exchange, route, null);
    } catch (error) {
      failed(exchange, error);
    }
  }

  function answerPreflight(exchange: Exchange, cors: CorsPolicy): void {
    const headers = preflightHeaders(cors, exchange);
    headers.push('X-Request-ID', exchange.requestId);
    send(exchange, { status: 204, reason: 'No Content', headers, body: NOTHING });
    options.onAnswered(exchange, 204);
  }

  /** Browsers reach our own endpoints where the route that covers their paths says so. */
  function answerHere(exchange: Exchange): void {
    const route = routes.match(exchange.head.host, exchange.path);
    if (typeof route !== 'string' && route.policy.cors !== null) {
      exchange.route = route;
      if (isPreflight(exchange)) {
        answerPreflight(exchange, route.policy.cors);
        return;
      }
    }
    options.own(exchange);
  }

  const turns: Turns = {
    waiting: 0,
    begin(exchange) {
      // A fault in its head came first, whichever of the two was found first.
      if (exchange.connection.faulted && !exchange.req.complete && formFault(exchange) === null)
        refuse(exchange, 'invalid_request', 'The body cannot be read.');
      else answer(exchange);
    },
    abandon: options.onClientGone,
  };

  function answer(exchange: Exchange): void {
    const { connection } = exchange;
    const fault = formFault(exchange);
    if (fault !== null) {
      closeAfter(exchange);
      refuse(exchange, fault.code, fault.detail);
    } else if (isOwnPath(exchange.path)) answerHere(exchange);
    else if (exchange.head.wantsWebSocket && connection.upgrade === null) {
      refuse(exchange, 'upgrade_not_supported', 'This is not the handshake of a WebSocket.');
    } else {
      const route = routes.match(exchange.head.host, exchange.path);
      if (route === 'none') refuse(exchange, 'not_found', 'No route leads there.');
      else if (route === 'unclear_path') refuse(exchange, 'invalid_request', UNCLEAR_PATH);
      else take(exchange, route);
    }
  }

  return function onRequest(req: IncomingMessage, res: ServerResponse): void {
    const exchange = arrivals.arrive(req, res);
    if (exchange === null) return;
    const { connection } = exchange;
    if (connection.begun !== null) {
      const { route, allowed, taken } = connection.begun;
      connection.begun = null;
      try {
        forwarder.forward(exchange, route, allowed, taken);
      } catch (error) {
        failed(exchange, error);
      }
      return;
    }
    if ((connection.before !== null || connection.pipeline !== null) && mustWait(exchange, turns)) {
      // Whatever could be read in two ways is the last that is read, also while it waits.
      if (formFault(exchange) !== null) closeAfter(exchange);
      return;
    }
    answer(exchange);
  };
}
