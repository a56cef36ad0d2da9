import type { Allowed } from '../decision/decision.ts';
import type { UpstreamLinks } from '../links/upstream-links.ts';
import type { Taken } from '../listener/begun.ts';
import type { Exchange } from '../listener/exchange.ts';
import type { Route } from '../routes/routes.ts';
import type { WebSockets } from '../websockets/websockets.ts';
import type { ForwardFailure } from './forward-failure.ts';
import { Forwarding } from './forwarding.ts';

/** What the listener wants to know of a forwarded request. Exactly one of `finished` and `failed` is called, once. */
export type ForwardEvents = {
  /** The upstream's answer has begun, this many milliseconds after it was asked. */
  upstreamAnswered(milliseconds: number): void;
  /** The exchange is over: answered in full, cut off by the upstream, or given up by the client. */
  finished(
    exchange: Exchange,
    status: number,
    how: 'complete' | 'truncated' | 'client_gone',
    keyId: string | null,
  ): void;
  /** Nothing has been answered yet, and the upstream will not answer. */
  failed(exchange: Exchange, failure: ForwardFailure, error: Error): void;
  /** Whether the connection should close after this response. */
  stopping(): boolean;
};

/** Sends requests on to the servers of their routes. */
export class Forwarder {
  readonly #events: ForwardEvents;
  readonly #websockets: Pick<WebSockets, 'forward'>;
  readonly #links: UpstreamLinks | null;

  /** @param links over which plain requests go; `null`: all of them go over undici's connections */
  constructor(events: ForwardEvents, websockets: Pick<WebSockets, 'forward'>, links: UpstreamLinks | null) {
    this.#events = events;
    this.#links = links;
    this.#websockets = websockets;
  }

  /**
   * Sends a request on and its answer back, streaming both ways.
   *
   * @param allowed `null` on a public route
   * @param taken the server that was taken for it before, in the fast lane
   */
  forward(exchange: Exchange, route: Route, allowed: Allowed | null, taken: Taken | null = null): void {
    if (exchange.connection.upgrade !== null) this.#websockets.forward(exchange, route, allowed);
    else new Forwarding(exchange, route, allowed, this.#events, this.#links).start(taken);
  }
}
