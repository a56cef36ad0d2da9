import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ProblemCode } from '../shared/problems.ts';
import type { Arrivals } from './arrivals.ts';
import type { Decide } from './decide.ts';
import { closeAfter, type Exchange } from './exchange.ts';
import { formFault } from './form.ts';
import type { Forwarder } from './forward.ts';
import { answerProblem, answerRefused } from './refusal.ts';
import type { Route, Routes } from './routes.ts';
import type { UsageRecorder } from './usage-recorder.ts';

/** Paths the gateway answers itself; all others are the upstream's. */
export const OWN_PATHS: ReadonlySet<string> = new Set(['/whoami', '/quota', '/health', '/ready']);

export type RequestOptions = {
  arrivals: Pick<Arrivals, 'arrive'>;
  decide: Decide;
  routes: Pick<Routes, 'match'>;
  forwarder: Pick<Forwarder, 'forward' | 'reaches'>;
  usage: Pick<UsageRecorder, 'count'>;
  /** Answers {@link OWN_PATHS}. */
  own(exchange: Exchange): void;
  /** Called for each request that is answered here with a problem. */
  onRefused(exchange: Exchange, code: ProblemCode): void;
  /** Called for each request whose client left before it was decided on. */
  onClientGone(exchange: Exchange): void;
  /** Called when something unforeseen was thrown. */
  onBug(exchange: Exchange, error: unknown): void;
  now(): number;
};

/** The way of a request: read its head, decide, then forward it or say why not. This is the hot path. */
export function createRequestListener(options: RequestOptions) {
  const { arrivals, decide, routes, forwarder, usage, now } = options;

  function refuse(exchange: Exchange, code: ProblemCode, detail?: string): void {
    answerProblem(exchange, code, detail);
    options.onRefused(exchange, code);
  }

  async function decideAndForward(exchange: Exchange, route: Route): Promise<void> {
    const { head, address, res } = exchange;
    const time = now();
    const decision = await decide({ credential: head.credential, address, now: time }, 'spend');
    if (decision.key !== null) usage.count(decision.key, decision.allowed, time);
    if (res.destroyed) {
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
    answerRefused(exchange, decision);
    options.onRefused(exchange, decision.code);
  }

  return function onRequest(req: IncomingMessage, res: ServerResponse): void {
    const exchange = arrivals.arrive(req, res);
    if (exchange === null) return;
    const { target, connection } = exchange;
    if (connection.begun !== null) {
      const { route, allowed, asked } = connection.begun;
      connection.begun = null;
      forwarder.forward(exchange, route, allowed, asked);
      return;
    }
    const fault = formFault(exchange);
    if (fault !== null) {
      closeAfter(exchange);
      refuse(exchange, fault.code, fault.detail);
    } else if (OWN_PATHS.has(exchange.path)) options.own(exchange);
    else if (exchange.head.wantsWebSocket) {
      refuse(exchange, 'upgrade_not_supported', 'WebSocket connections are not forwarded.');
    } else {
      const route = routes.match(exchange.head.host, exchange.path);
      if (route === undefined) refuse(exchange, 'not_found', 'No route leads there.');
      else if (!forwarder.reaches(route, target)) {
        refuse(exchange, 'invalid_request', 'The path has ".." segments that lead out of this API.');
      } else {
        decideAndForward(exchange, route).catch((error: unknown) => {
          options.onBug(exchange, error);
          if (!res.headersSent) refuse(exchange, 'internal_error');
          else exchange.socket.destroy();
        });
      }
    }
  };
}
