import type { Socket } from 'node:net';
import { errors } from 'undici';
import type { ProblemCode } from '../../shared/problems.ts';
import type { Begun } from '../begun.ts';
import { clientHeaders } from '../client-headers.ts';
import type { Decision } from '../decision.ts';
import type { Arrival } from '../exchange.ts';
import { type ProblemAnswer, problemAnswer, refusedAnswer } from '../refusal.ts';
import type { Route } from '../routes.ts';
import type { Target } from '../upstream-group.ts';
import { answerHead } from './answer-head.ts';
import type { HandedOver, Lane } from './lane.ts';
import type { Link, LinkUser } from './link.ts';
import type { Links } from './links.ts';
import type { Conversation } from './replay.ts';
import { type PlainRequest, readPlainRequest } from './request-grammar.ts';
import { requestHead } from './request-head.ts';
import { type PlainResponse, readPlainResponse } from './response-grammar.ts';

/** Where a connection stands with its request. */
type State =
  /** There is none. */
  | 'idle'
  | 'deciding'
  /** Allowed; it is sent when all that has already arrived on idle connections to the upstream was looked at. */
  | 'allowed'
  /** The upstream was asked and has not answered with a whole head. */
  | 'asked'
  | 'answering'
  /** Answered; the client has to take the answer before its next request is looked at. */
  | 'draining'
  /** Over, or `node:http`'s. */
  | 'left';

/** Of an answer that comes in one piece, the head has to be in so many bytes. */
const MAX_ANSWER_HEAD = 16 * 1024;
/** Up to this size a body is worth copying to save a write. */
const ONE_WRITE_BYTES = 16 * 1024;
/** What comes while a request is under way is kept, up to this size. */
const MAX_HELD = 64 * 1024;
const NOTHING = Buffer.alloc(0);

/** One client's connection for as long as the lane understands what comes on it. */
export class ClientConnection implements LinkUser {
  readonly #lane: Lane;
  readonly #socket: Socket;
  readonly #next: (socket: Socket) => void;
  #state: State = 'idle';
  /** When it entered its state, by the lane's clock; while an answer is sent, when the client last took something. */
  #since: number;
  #used = false;
  /** The request's bytes, for `node:http` should it have to go on with it. */
  #chunk: Buffer = NOTHING;
  /** What came after it. */
  #held: Buffer | null = null;
  #request: PlainRequest | null = null;
  #arrival: Arrival | null = null;
  #route: Route | null = null;
  #target: Target | null = null;
  /** Where the link came from and goes back to. */
  #links: Links | null = null;
  #link: Link | null = null;
  #sent = 0;
  #askedAt = 0;
  #response: PlainResponse | null = null;
  /** Bytes of body to come. */
  #left = 0;

  /** @param next has `node:http` read the connection */
  constructor(lane: Lane, socket: Socket, next: (socket: Socket) => void) {
    this.#lane = lane;
    this.#next = next;
    this.#socket = socket;
    this.#since = lane.clock.now;
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onClose);
    socket.on('close', this.#onClose);
    socket.on('drain', this.#onDrain);
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#state === 'idle') {
      this.#take(chunk);
      return;
    }
    this.#held = this.#held === null ? chunk : Buffer.concat([this.#held, chunk]);
    if (this.#state === 'allowed') this.#handOver('pipelined', this.#begun(null));
    else if (this.#state === 'asked') this.#goOnElsewhere('pipelined', NOTHING);
    // Less is read on, so that the end of the connection is seen.
    else if (this.#held.length > MAX_HELD) this.#socket.pause();
  };

  #take(chunk: Buffer): void {
    this.#used = true;
    this.#chunk = chunk;
    const request = readPlainRequest(chunk);
    if (typeof request === 'string') {
      this.#handOver(request, null);
      return;
    }
    const lane = this.#lane;
    const arrival = lane.arrivals.read(this.#socket, request.method, request.target, request.rawHeaders);
    const route = lane.routeOf(arrival);
    if (route === null) {
      this.#handOver('route', null);
      return;
    }
    lane.arrivals.enter(arrival);
    this.#request = request;
    this.#arrival = arrival;
    this.#route = route;
    this.#enter('deciding');
    let decision: Decision | Promise<Decision>;
    try {
      decision = lane.decide(arrival, route);
    } catch (error) {
      this.#onBug(error);
      return;
    }
    if (decision instanceof Promise) decision.then(this.#onDecision, this.#onBug);
    else this.#onDecision(decision);
  }

  readonly #onDecision = (decision: Decision): void => {
    const arrival = this.#arrival as Arrival;
    if (decision.allowed) arrival.allowed = decision;
    if (this.#state === 'left') {
      this.#lane.events.clientGone(arrival);
      return;
    }
    if (decision.allowed) {
      this.#enter('allowed');
      if (this.#held === null) this.#lane.sendSoon(this);
      else this.#handOver('pipelined', this.#begun(null));
      return;
    }
    this.#answerProblem(refusedAnswer(arrival.requestId, decision), decision.code);
  };

  #answerProblem({ status, reason, headers, body }: ProblemAnswer, code: ProblemCode): void {
    const closes = this.#lane.stopping();
    if (closes) headers.push('Connection', 'close');
    const head = answerHead(status, reason, headers, this.#lane.limits.keepSeconds);
    this.#socket.write(head + body.toString('latin1', 0, body.length), 'latin1');
    this.#lane.events.refused(this.#arrival as Arrival, code);
    this.#answered(closes);
  }

  readonly #onBug = (error: unknown): void => {
    const arrival = this.#arrival as Arrival;
    this.#lane.events.bug(arrival, error);
    if (this.#state === 'left') this.#lane.events.clientGone(arrival);
    else this.#answerProblem(problemAnswer(arrival.requestId, 'internal_error'), 'internal_error');
  };

  /** Asks the upstream. */
  send(): void {
    if (this.#state !== 'allowed') return;
    const lane = this.#lane;
    const route = this.#route as Route;
    const target = route.group.pick();
    if (target === null) {
      this.#handOver('busy', this.#begun(null));
      return;
    }
    const { body } = this.#request as PlainRequest;
    const links = lane.linksTo(target);
    const head = requestHead(this.#arrival as Arrival, route, target, links.host, body?.length ?? 0);
    const link = head === null ? null : links.take(route.upstream.maxConnections);
    if (head === null || link === null) {
      this.#handOver(head === null ? 'unusual' : 'busy', this.#begun(target));
      return;
    }
    this.#target = target;
    this.#links = links;
    this.#link = link;
    this.#sent = head.length + (body?.length ?? 0);
    this.#askedAt = performance.now();
    this.#enter('asked');
    if (body !== null && body.length <= ONE_WRITE_BYTES)
      link.send(this, head + body.toString('latin1', 0, body.length), null);
    else link.send(this, head, body);
  }

  onBytes(bytes: Buffer): void {
    if (this.#state === 'answering') {
      this.#pass(bytes, 0);
      return;
    }
    const text = bytes.toString('latin1', 0, Math.min(bytes.length, MAX_ANSWER_HEAD));
    const end = text.indexOf('\r\n\r\n');
    const response = end < 0 ? null : readPlainResponse(text.slice(0, end + 4));
    if (response === null) {
      this.#goOnElsewhere('answer', Buffer.from(bytes));
      return;
    }
    this.#begin(response, bytes, end + 4);
  }

  #begin(response: PlainResponse, bytes: Buffer, from: number): void {
    const lane = this.#lane;
    const arrival = this.#arrival as Arrival;
    this.#response = response;
    (this.#route as Route).group.succeeded(this.#target as Target);
    lane.events.upstreamAnswered(performance.now() - this.#askedAt);
    const headers = clientHeaders(response.rawHeaders, arrival, this.#route as Route, arrival.allowed);
    if (lane.stopping()) headers.push('Connection', 'close');
    const head = answerHead(response.status, response.reason, headers, lane.limits.keepSeconds);
    this.#left = response.length;
    this.#enter('answering');
    const length = bytes.length - from;
    if (length >= this.#left && this.#left <= ONE_WRITE_BYTES) {
      this.#socket.write(head + bytes.toString('latin1', from, from + this.#left), 'latin1');
      this.#complete(length > this.#left);
      return;
    }
    this.#socket.write(head, 'latin1');
    if (length > 0) this.#pass(bytes, from);
  }

  /** Sends on a piece of the body. */
  #pass(bytes: Buffer, from: number): void {
    const length = bytes.length - from;
    const wanted = Math.min(length, this.#left);
    this.#left -= wanted;
    const taken = this.#socket.write(Buffer.from(bytes.subarray(from, from + wanted)));
    if (this.#left === 0) this.#complete(length > wanted);
    else if (!taken) this.#link?.pause();
  }

  /** @param surplus whether the upstream sent more than the answer */
  #complete(surplus: boolean): void {
    const { keepMs } = this.#response as PlainResponse;
    (this.#links as Links).giveBack(this.#link as Link, surplus ? 0 : keepMs);
    this.#link = null;
    this.#releaseTarget();
    const closes = this.#lane.stopping();
    this.#finished('complete');
    this.#answered(closes);
  }

  onBroken(error: Error | null): void {
    const link = this.#link as Link;
    this.#link = null;
    if (this.#state === 'asked') {
      this.#goOnElsewhere(link.connected ? 'broken' : 'unreachable', NOTHING, error, link.connected);
      return;
    }
    this.#releaseTarget();
    this.#leave();
    // The status is out and cannot be taken back: only a broken connection tells the client that this is not all.
    this.#socket.destroy();
    this.#finished('truncated');
  }

  /** The upstream was asked, and what became of it is for `node:http`'s way to find out. */
  #goOnElsewhere(why: HandedOver, received: Buffer, error: Error | null = null, connected = true): void {
    const target = this.#target as Target;
    const link = this.#link;
    this.#link = null;
    const conversation = { sent: this.#sent, received, link, error, connected };
    this.#handOver(why, this.#begun(target, conversation));
  }

  #begun(target: Target | null, conversation: Conversation | null = null): Begun {
    return this.#lane.begun(this.#arrival as Arrival, this.#route as Route, target, conversation);
  }

  #releaseTarget(): void {
    (this.#route as Route).group.release(this.#target as Target);
    this.#target = null;
  }

  /** After an answer. */
  #answered(closes: boolean): void {
    this.#arrival = null;
    this.#request = null;
    this.#response = null;
    this.#chunk = NOTHING;
    if (closes) {
      this.#leave();
      this.#socket.destroySoon();
      return;
    }
    if (this.#socket.writableNeedDrain) this.#enter('draining');
    else this.#goOn();
  }

  #goOn(): void {
    this.#enter('idle');
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    this.#socket.resume();
    this.#take(held);
  }

  readonly #onDrain = (): void => {
    this.#since = this.#lane.clock.now;
    if (this.#state === 'draining') this.#goOn();
    else this.#link?.resume();
  };

  readonly #onEnd = (): void => {
    // As `node:http` has it: a client that sends no more does not wait for an answer either.
    this.#clientLeft();
    this.#socket.destroySoon();
  };

  readonly #onClose = (): void => {
    this.#clientLeft();
    this.#socket.destroy();
  };

  #clientLeft(): void {
    const state = this.#state;
    if (state === 'left') return;
    this.#leave();
    this.#link?.destroy();
    this.#link = null;
    if (this.#target !== null) this.#releaseTarget();
    // Who is still being decided on is counted then.
    if (state === 'allowed' || state === 'asked' || state === 'answering') this.#finished('client_gone');
  }

  #finished(how: 'complete' | 'truncated' | 'client_gone'): void {
    const status = this.#response?.status ?? 0;
    this.#lane.events.finished(this.#arrival as Arrival, status, how);
  }

  /** Looks for what took too long. Called now and then. */
  sweep(now: number): void {
    const waited = now - this.#since;
    const { limits } = this.#lane;
    switch (this.#state) {
      case 'idle':
        if (this.#used ? waited > limits.idleMs : waited > limits.silentMs) {
          // What becomes of a connection on which nothing ever came is `node:http`'s affair.
          if (this.#used) this.#socket.destroy();
          else this.#handOver('silent', null);
        }
        break;
      case 'draining':
        if (waited > limits.stalledMs) this.#socket.destroy();
        break;
      case 'asked':
      case 'answering':
        this.#sweepLink(now);
        break;
    }
  }

  #sweepLink(now: number): void {
    const link = this.#link as Link;
    const { connectTimeoutMs, timeoutMs, idleTimeoutMs } = (this.#route as Route).upstream;
    const margin = this.#lane.limits.sweepMs;
    if (this.#state === 'asked') {
      const connecting = !link.connected;
      if (now - link.activeAt <= margin + (connecting ? connectTimeoutMs : timeoutMs)) return;
      link.destroy();
      this.#link = null;
      const error = connecting ? new errors.ConnectTimeoutError() : new errors.HeadersTimeoutError();
      this.#goOnElsewhere('timeout', NOTHING, error, !connecting);
    } else if (!link.paused && now - link.activeAt > idleTimeoutMs + margin) {
      link.destroy();
      this.onBroken(null);
    }
  }

  #enter(state: State): void {
    this.#state = state;
    this.#since = this.#lane.clock.now;
  }

  #leave(): void {
    this.#state = 'left';
    this.#lane.forget(this);
  }

  /** The connection is `node:http`'s from now on, with the request unread. */
  #handOver(why: HandedOver, begun: Begun | null): void {
    const socket = this.#socket;
    this.#leave();
    if (this.#arrival !== null) this.#lane.arrivals.exit(this.#arrival);
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('error', this.#onClose);
    socket.off('close', this.#onClose);
    socket.off('drain', this.#onDrain);
    this.#lane.handedOver[why]++;
    if (begun !== null) begun.arrival.connection.begun = begun;
    // Paused, so that what is put back is read when all that reads it is there.
    socket.pause();
    if (this.#chunk.length > 0) {
      socket.unshift(this.#held === null ? this.#chunk : Buffer.concat([this.#chunk, this.#held]));
    }
    this.#next(socket);
    socket.resume();
  }
}
