import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { ProblemCode } from '../../shared/problems.ts';
import type { Decision } from '../decision/decision.ts';
import type { Arrivals } from '../listener/arrivals.ts';
import type { Begun } from '../listener/begun.ts';
import type { Arrival } from '../listener/exchange.ts';
import { readTheRest } from '../listener/headers.ts';
import type { Route } from '../routes/routes.ts';
import type { Target } from '../upstream/upstream-group.ts';
import { keptFor } from './answer-head.ts';
import { ClientConnection } from './client-connection.ts';
import type { Clock } from './link.ts';
import { Links } from './links.ts';
import { type Conversation, replay } from './replay.ts';
import { NOT_PLAIN } from './request-grammar.ts';

/** Why a connection went over to `node:http`. */
export const HANDED_OVER = [
  // What came is no plain request: it is not whole, is of another form, or has more after it.
  ...NOT_PLAIN,
  // Nothing came at all.
  'silent',
  // An endpoint of our own, no route, or one whose policy or upstream is not for the lane.
  'route',
  // No connection to the upstream is to be had.
  'busy',
  // The answer is not a plain one.
  'answer',
  // The upstream could not be reached, broke the connection, or took too long.
  'unreachable',
  'broken',
  'timeout',
] as const;
export type HandedOver = (typeof HANDED_OVER)[number];

/** What the gateway wants to know of requests in the lane. Exactly one of the last three is called for each, once. */
export type LaneEvents = {
  /** The upstream's answer has begun, so many milliseconds after it was asked. */
  upstreamAnswered(milliseconds: number): void;
  bug(arrival: Arrival, error: unknown): void;
  finished(arrival: Arrival, status: number, how: 'complete' | 'truncated' | 'client_gone'): void;
  refused(arrival: Arrival, code: ProblemCode): void;
  clientGone(arrival: Arrival): void;
};

export type LaneOptions = {
  arrivals: Pick<Arrivals, 'read' | 'enter' | 'exit'>;
  /** The route of a request that may go ahead; `null` where anything else is to be done with it. */
  routeOf(arrival: Arrival): Route | null;
  decide(arrival: Arrival, route: Route): Decision | Promise<Decision>;
  events: LaneEvents;
  stopping(): boolean;
  limits: LaneLimits;
};

/** In milliseconds. */
export type LaneLimits = {
  /** How long an idle connection is kept, and what clients are told of it. */
  idleMs: number;
  keepSeconds: number;
  /** How long a connection may be without a first byte before it is `node:http`'s. */
  silentMs: number;
  /** How long a request may take from its first packet to its last before the connection is `node:http`'s. */
  gatherMs: number;
  /** How long a client may take nothing of its answer. */
  stalledMs: number;
  /** How often all of these are looked at. */
  sweepMs: number;
};

/**
 * The short way: plain requests, read and answered on plain sockets. Whatever is not understood completely, of the
 * client or of the upstream, is `node:http`'s, on the same socket, as if it had been from the beginning.
 */
export class Lane {
  readonly arrivals: LaneOptions['arrivals'];
  readonly events: LaneEvents;
  readonly limits: LaneLimits;
  /** What answers say of a connection that goes on. */
  readonly kept: string;
  readonly clock: Clock = { now: Math.trunc(performance.now()) };
  /** Requests that came in the lane. */
  taken = 0;
  /** Connections that went over to `node:http`, by why. */
  readonly handedOver = Object.fromEntries(HANDED_OVER.map((why) => [why, 0])) as Record<HandedOver, number>;
  readonly #options: LaneOptions;
  readonly #connections = new Set<ClientConnection>();
  readonly #links = new Map<Target, Links>();
  #toSend: ClientConnection[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(options: LaneOptions) {
    this.#options = options;
    this.arrivals = options.arrivals;
    this.events = options.events;
    this.limits = options.limits;
    this.kept = keptFor(options.limits.keepSeconds);
    this.#timer = setInterval(() => this.#sweep(), options.limits.sweepMs);
    this.#timer.unref();
  }

  /** Takes the connections that a server accepts from now on. What is not for the lane goes to who took them before. */
  takeFrom(server: Server): void {
    const listeners = server.listeners('connection');
    const next = (socket: Socket) => {
      for (const listener of listeners) listener.call(server, socket);
    };
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) =>
      this.#connections.add(new ClientConnection(this, socket, next)),
    );
  }

  forget(connection: ClientConnection): void {
    this.#connections.delete(connection);
  }

  routeOf(arrival: Arrival): Route | null {
    return arrival.head.fault === null ? this.#options.routeOf(arrival) : null;
  }

  decide(arrival: Arrival, route: Route): Decision | Promise<Decision> {
    this.taken++;
    return this.#options.decide(arrival, route);
  }

  stopping(): boolean {
    return this.#options.stopping();
  }

  /**
   * Has a connection send what it has to send once all that has arrived by now was read. Bytes that an idle connection to
   * the upstream brought before the request are not its answer, and a connection that was closed is not used again. And
   * whoever is at the other end of many connections is woken once for what comes on all of them, not for each.
   */
  sendSoon(connection: ClientConnection): void {
    if (this.#toSend.push(connection) === 1) setImmediate(this.#send);
  }

  readonly #send = (): void => {
    const connections = this.#toSend;
    this.#toSend = [];
    const now = performance.now();
    for (const connection of connections) connection.send(now);
  };

  linksTo(target: Target): Links {
    let links = this.#links.get(target);
    if (links === undefined) {
      links = new Links(target, this.clock);
      this.#links.set(target, links);
    }
    return links;
  }

  /**
   * What `node:http`'s way has to know to go on with a request.
   *
   * @param target the server that was taken for it
   * @param conversation what has passed between it and us; `null`: nothing
   */
  begun(
    arrival: Arrival,
    route: Route,
    target: Target | null,
    conversation: Conversation | null = null,
  ): Begun {
    const { allowed } = arrival;
    readTheRest(arrival.head);
    if (target === null) return { arrival, route, allowed, taken: null };
    const { timeoutMs, idleTimeoutMs } = route.upstream;
    const asked =
      conversation === null
        ? null
        : replay(target.origin, conversation, { headersTimeout: timeoutMs, bodyTimeout: idleTimeoutMs });
    return {
      arrival,
      route,
      allowed,
      taken: { target, asked, abandon: () => conversation?.link?.destroy() },
    };
  }

  /** The connection is closed. If `node:http` never came to the request on it, nobody else gives back what it took. */
  neverGoneOnWith(begun: Begun): void {
    const { arrival, route, taken } = begun;
    if (arrival.connection.begun !== begun) return;
    arrival.connection.begun = null;
    if (taken !== null) {
      route.group.release(taken.target);
      taken.abandon();
    }
    this.arrivals.enter(arrival);
    this.events.finished(arrival, 0, 'client_gone');
  }

  /** Stops looking after time, and ends the connections to the upstreams. Those of clients are the listener's. */
  close(): void {
    clearInterval(this.#timer);
    for (const links of this.#links.values()) links.close();
  }

  #sweep(): void {
    const now = Math.trunc(performance.now());
    this.clock.now = now;
    for (const connection of this.#connections) connection.sweep(now);
    for (const [target, links] of this.#links) {
      links.sweep();
      if (links.closed) this.#links.delete(target);
    }
  }
}
