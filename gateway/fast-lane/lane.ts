import type { Server } from 'node:http';
import { performance } from 'node:perf_hooks';
import type { ProblemCode } from '../../shared/problems.ts';
import type { Decision } from '../decision/decision.ts';
import { type Conversation, replay } from '../links/replay.ts';
import type { UpstreamLinks } from '../links/upstream-links.ts';
import type { Arrivals } from '../listener/arrivals.ts';
import type { Begun } from '../listener/begun.ts';
import type { Arrival, Connection } from '../listener/exchange.ts';
import { readTheRest } from '../listener/headers.ts';
import { beforeReaders } from '../listener/listener.ts';
import type { RefusedBecause } from '../request.ts';
import type { Route } from '../routes/routes.ts';
import type { Target } from '../upstream/upstream-group.ts';
import { keptFor } from './answer-head.ts';
import { ClientConnection } from './client-connection.ts';
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
  refused(arrival: Arrival, code: ProblemCode, more?: RefusedBecause): void;
  clientGone(arrival: Arrival): void;
};

export type LaneOptions = {
  arrivals: Pick<Arrivals, 'connectionOf' | 'read' | 'enter' | 'exit' | 'onceDoneWith'>;
  /** The route of a request that may go ahead; `null` where anything else is to be done with it. */
  routeOf(arrival: Arrival): Route | null;
  decide(arrival: Arrival, route: Route): Decision | Promise<Decision>;
  events: LaneEvents;
  stopping(): boolean;
  limits: LaneLimits;
  links: UpstreamLinks;
};

/**
 * Requests whose body comes in several packets are kept until they are answered, and also what of them was handed over, all
 * together up to this size. Beyond it they are `node:http`'s from the beginning, which passes a body on as it comes.
 */
const KEPT_BYTES = 64 * 1024 * 1024;

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
  readonly links: UpstreamLinks;
  /** Requests that came in the lane. */
  taken = 0;
  /** Connections that went over to `node:http`, by why. */
  readonly handedOver = Object.fromEntries(HANDED_OVER.map((why) => [why, 0])) as Record<HandedOver, number>;
  /** Bytes of requests that are kept, or will be when they are here. */
  keptBytes = 0;
  readonly #options: LaneOptions;
  #toSend: ClientConnection[] = [];

  constructor(options: LaneOptions) {
    this.#options = options;
    this.arrivals = options.arrivals;
    this.events = options.events;
    this.limits = options.limits;
    this.links = options.links;
    this.kept = keptFor(options.limits.keepSeconds);
  }

  /** Takes the connections that a server accepts from now on. What is not for the lane goes to who took them before. */
  takeFrom(server: Server): void {
    beforeReaders(server, (socket, next) => {
      this.links.watched.add(new ClientConnection(this, socket, next));
    });
  }

  forget(connection: ClientConnection): void {
    this.links.watched.delete(connection);
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

  /** Whether so many bytes of a request may be kept; they are, until {@link letGoOf}. */
  mayKeep(bytes: number): boolean {
    if (this.keptBytes + bytes > KEPT_BYTES) return false;
    this.keptBytes += bytes;
    return true;
  }

  letGoOf(bytes: number): void {
    this.keptBytes -= bytes;
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
  neverGoneOnWith(connection: Connection): void {
    const { begun } = connection;
    if (begun === null) return;
    connection.begun = null;
    const { arrival, route, taken } = begun;
    if (taken !== null) {
      route.group.release(taken.target);
      taken.abandon();
    }
    this.arrivals.enter(arrival);
    this.events.finished(arrival, 0, 'client_gone');
  }
}
