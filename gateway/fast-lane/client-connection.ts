import type { Socket } from 'node:net';
import type { ProblemCode } from '../../shared/problems.ts';
import { type ProblemAnswer, problemAnswer, refusedAnswer, SMALL_BODY } from '../answers/refusal.ts';
import type { Decision } from '../decision/decision.ts';
import type { Conversation } from '../links/replay.ts';
import type { Begun } from '../listener/begun.ts';
import { ClientSocket, type Taker } from '../listener/client-socket.ts';
import type { Arrival, Connection } from '../listener/exchange.ts';
import type { RefusedBecause } from '../request.ts';
import type { Route } from '../routes/routes.ts';
import { answerHeadEnd } from './answer-head.ts';
import { type Asker, Asking } from './asking.ts';
import type { HandedOver, Lane } from './lane.ts';
import { type PlainRequest, readPlainRequest } from './request-grammar.ts';

/** Where a connection stands with its request. */
type State =
  /** There is none. */
  | 'idle'
  /** A part of a request is here, and the rest is waited for. */
  | 'gathering'
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

/** What comes while a request is under way is kept, up to this size. */
const MAX_HELD = 64 * 1024;
/** How often the beginning of a request is read anew with what came after it. */
const MAX_LOOKS = 8;
const NOTHING = Buffer.alloc(0);
/** Stays empty. */
const NO_PIECES: Buffer[] = [];

/** One client's connection for as long as the lane understands what comes on it. */
export class ClientConnection implements Asker, Taker {
  readonly #lane: Lane;
  readonly #socket: Socket;
  readonly #connection: Connection;
  readonly #next: (socket: Socket) => void;
  readonly #asking: Asking;
  #state: State = 'idle';
  /** When it entered its state, by the clock of the links; while an answer is sent, when the client last took something. */
  #since: number;
  #used = false;
  /**
   * The request's bytes, for `node:http` should it have to go on with it: what was read first, as latin1 where that is a head and
   * no more, and what came to it.
   */
  #chunk: Buffer | string = NOTHING;
  #pieces: Buffer[] = NO_PIECES;
  /** What came after it. */
  #held: Buffer | null = null;
  #request: PlainRequest | null = null;
  #arrival: Arrival | null = null;
  #route: Route | null = null;
  /** While it gathers: the request whose head is here, bytes to come, and how often it was looked at. */
  #headOf: Arrival | null = null;
  #missing = 0;
  #looks = 0;
  /** Bytes that the lane lets it keep. */
  #kept = 0;
  #gathering: NodeJS.Timeout | undefined;
  /** Answers that are about to be sent. */
  #unsent = '';

  /** @param next has `node:http` read the connection */
  constructor(lane: Lane, socket: Socket, next: (socket: Socket) => void) {
    this.#lane = lane;
    this.#next = next;
    this.#socket = socket;
    this.#connection = lane.arrivals.connectionOf(socket);
    this.#asking = new Asking(lane, socket, this);
    this.#since = lane.links.clock.now;
    if (socket instanceof ClientSocket) socket.taker = this;
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onClose);
    socket.on('close', this.#onClose);
    socket.on('drain', this.#onDrain);
  }

  /** Between requests; what comes otherwise is kept. */
  onBytes(bytes: Buffer, length: number): boolean {
    if (this.#state !== 'idle') return false;
    this.#take(bytes, length);
    return true;
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.onBytes(chunk, chunk.length)) return;
    this.#held = this.#held === null ? chunk : Buffer.concat([this.#held, chunk]);
    if (this.#state === 'allowed') this.#handOver('pipelined', this.#begun());
    // Who goes on with it takes it as sent, and begins to count the time; so it has to be.
    else if (this.#state === 'asked' && !this.#asking.sending)
      this.onElsewhere('pipelined', this.#asking.letGo());
    // Less is read on, so that the end of the connection is seen.
    else if (this.#held.length > MAX_HELD) this.#socket.pause();
  };

  /** Begins with the first so many bytes of a buffer, which is used again after the call. */
  #take(bytes: Buffer, length: number): void {
    this.#used = true;
    this.#pieces = NO_PIECES;
    const request = readPlainRequest(bytes, length);
    const isHead = typeof request !== 'string' && request.bodyLength === 0;
    this.#chunk = isHead ? request.text : Buffer.from(bytes.subarray(0, length));
    if (request === 'unfinished') {
      this.#gather(1);
      return;
    }
    if (typeof request === 'string') {
      this.#handOver(request, null);
      return;
    }
    const lane = this.#lane;
    const { method, target, head } = request;
    const arrival = lane.arrivals.read(this.#socket, this.#connection, method, target, head);
    const { credential } = head;
    if (credential.kind === 'key' && head.unread.includes(credential.text)) {
      this.#handOver('unusual', null);
      return;
    }
    const route = lane.routeOf(arrival);
    if (route === null) {
      this.#handOver('route', null);
      return;
    }
    this.#request = request;
    this.#route = route;
    if (request.missing === 0) {
      this.#decide(arrival, route);
      return;
    }
    const whole = length + request.missing;
    if (!lane.mayKeep(whole)) {
      this.#handOver('incomplete', null);
      return;
    }
    this.#kept = whole;
    this.#headOf = arrival;
    this.#gather(request.missing);
  }

  #decide(arrival: Arrival, route: Route): void {
    const lane = this.#lane;
    lane.arrivals.enter(arrival);
    this.#arrival = arrival;
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

  /**
   * Waits for the rest of a request, at least so many bytes, without coming to the end of the stream: that is `node:http`'s
   * to see.
   */
  #gather(missing: number): void {
    // Who sends a byte after the other is not waited for longer, nor looked at again and again.
    if (this.#state !== 'gathering') {
      this.#enter('gathering');
      this.#looks = 0;
      this.#gathering = this.#afterGathering();
    } else if (++this.#looks === MAX_LOOKS) {
      this.#handOver('incomplete', null);
      return;
    }
    this.#missing = missing;
    this.#pieces = [];
    const socket = this.#socket;
    socket.off('data', this.#onData);
    socket.pause();
    socket.on('readable', this.#onReadable);
  }

  #afterGathering(): NodeJS.Timeout {
    const timer = setTimeout(() => {
      // What came while everything stood still is still to be read.
      setImmediate(() => {
        if (this.#state === 'gathering' && this.#gathering === timer) this.#handOver('incomplete', null);
      });
    }, this.#lane.limits.gatherMs);
    return timer;
  }

  readonly #onReadable = (): void => {
    const socket = this.#socket;
    const size = socket.readableLength;
    // Nothing is there only when nothing will follow.
    let atEnd = size === 0;
    if (size >= socket.readableHighWaterMark) {
      // It has not come to its end, and asked for so many bytes it would hold as many from now on. It gives one buffer a time.
      while (socket.readableLength > 0) this.#gathered(socket.read());
    } else if (size >= this.#missing) this.#gathered(socket.read(size));
    else if (size > 0) {
      // More than there is can only be read where nothing will follow.
      const last = socket.read(size + 1) as Buffer | null;
      atEnd = last !== null;
      this.#gathered(last ?? socket.read(size));
    }
    if (this.#missing > 0) {
      if (atEnd) this.#handOver('incomplete', null);
      return;
    }
    socket.off('readable', this.#onReadable);
    socket.on('data', this.#onData);
    socket.resume();
    const arrival = this.#headOf;
    this.#headOf = null;
    if (arrival === null) {
      const read = Buffer.concat(this.#bytes());
      this.#take(read, read.length);
    } else if (this.#missing < 0) this.#handOver('pipelined', null);
    else this.#decide(arrival, this.#route as Route);
  };

  #gathered(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#missing -= piece.length;
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
      else this.#handOver('pipelined', this.#begun());
      return;
    }
    this.#answerProblem(refusedAnswer(arrival.requestId, decision), decision.code, decision);
  };

  #answerProblem(
    { status, reason, headers, body }: ProblemAnswer,
    code: ProblemCode,
    more?: RefusedBecause,
  ): void {
    // As outside the lane, where it would still be on its way.
    const large = (this.#request as PlainRequest).bodyLength > SMALL_BODY;
    const closes = large || this.#lane.stopping();
    let head = `HTTP/1.1 ${status} ${reason}\r\n`;
    for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
    head += answerHeadEnd(false, closes ? null : this.#lane.kept);
    this.onAnswer(head + body.toString('latin1', 0, body.length));
    this.#lane.events.refused(this.#arrival as Arrival, code, more);
    this.onAnswered(closes);
  }

  readonly #onBug = (error: unknown): void => {
    const arrival = this.#arrival as Arrival;
    this.#lane.events.bug(arrival, error);
    if (this.#state === 'left') this.#lane.events.clientGone(arrival);
    else this.#answerProblem(problemAnswer(arrival.requestId, 'internal_error'), 'internal_error');
  };

  /** Sends the answer that is there, and asks the upstream. @param now by `performance.now()` */
  send(now: number): void {
    this.#flush();
    if (this.#state !== 'allowed') return;
    const { bodyLength, bodyAt } = this.#request as PlainRequest;
    const pieces = bodyLength === 0 ? NO_PIECES : this.#bytes();
    if (bodyLength > 0) pieces[0] = (pieces[0] as Buffer).subarray(bodyAt);
    const why = this.#asking.ask(this.#arrival as Arrival, this.#route as Route, pieces, now);
    if (why === null) this.#enter('asked');
    else if (why === 'later') this.#lane.sendSoon(this);
    else this.#handOver(why, this.#begun());
  }

  onAnswer(text: string): void {
    if (this.#unsent === '') this.#lane.sendSoon(this);
    this.#unsent += text;
  }

  #flush(): void {
    if (this.#unsent === '') return;
    const taken = this.#socket.write(this.#unsent, 'latin1');
    this.#unsent = '';
    if (!taken && this.#state === 'idle') this.#enter('draining');
  }

  onAnswering(): void {
    this.#enter('answering');
    if (!this.#asking.sending) this.#letGoOfBytes();
  }

  onTruncated(): void {
    this.#leave();
    this.#letGoOfBytes();
    // The status is out and cannot be taken back: only a broken connection tells the client that this is not all.
    this.#socket.destroy();
  }

  /** The upstream was asked, and what became of it is for `node:http`'s way to find out. */
  onElsewhere(why: HandedOver, conversation: Conversation): void {
    this.#handOver(why, this.#begun(conversation));
  }

  #begun(conversation: Conversation | null = null): Begun {
    const target = this.#asking.letGoOfTarget();
    return this.#lane.begun(this.#arrival as Arrival, this.#route as Route, target, conversation);
  }

  onAnswered(closes: boolean): void {
    this.#arrival = null;
    this.#request = null;
    this.#letGoOfBytes();
    if (closes) {
      this.#flush();
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
    this.#take(held, held.length);
  }

  readonly #onDrain = (): void => {
    this.#since = this.#lane.links.clock.now;
    if (this.#state === 'draining') this.#goOn();
    else this.#asking.resume();
  };

  readonly #onEnd = (): void => {
    // As `node:http` has it: a client that sends no more does not wait for an answer either.
    this.#flush();
    this.#clientLeft();
    this.#socket.destroySoon();
  };

  readonly #onClose = (): void => {
    this.#unsent = '';
    this.#clientLeft();
    this.#socket.destroy();
  };

  #clientLeft(): void {
    const state = this.#state;
    if (state === 'left') return;
    this.#leave();
    this.#letGoOfBytes();
    this.#asking.abandon();
    // Who is still being decided on is counted then.
    if (state === 'allowed' || state === 'asked' || state === 'answering')
      this.#lane.events.finished(this.#arrival as Arrival, this.#asking.status, 'client_gone');
  }

  /** Looks for what took too long here; what takes the upstream too long is seen on its link. Called now and then. */
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
        if (this.#held !== null && !this.#asking.sending) this.onElsewhere('pipelined', this.#asking.letGo());
        break;
    }
  }

  #enter(state: State): void {
    if (this.#state === 'gathering') clearTimeout(this.#gathering);
    this.#state = state;
    this.#since = this.#lane.links.clock.now;
  }

  #leave(): void {
    if (this.#state === 'gathering') {
      clearTimeout(this.#gathering);
      this.#socket.off('readable', this.#onReadable);
    }
    this.#state = 'left';
    this.#lane.forget(this);
  }

  #bytes(): Buffer[] {
    const chunk = this.#chunk;
    return [typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : chunk, ...this.#pieces];
  }

  /** Nobody has to go on with the request any more. */
  #letGoOfBytes(): void {
    this.#chunk = NOTHING;
    this.#pieces = NO_PIECES;
    this.#lane.letGoOf(this.#kept);
    this.#kept = 0;
  }

  /** The connection is `node:http`'s from now on, with the request unread. */
  #handOver(why: HandedOver, begun: Begun | null): void {
    const socket = this.#socket;
    const lane = this.#lane;
    this.#flush();
    this.#leave();
    if (this.#arrival !== null) lane.arrivals.exit(this.#arrival);
    if (socket instanceof ClientSocket) socket.taker = null;
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('error', this.#onClose);
    socket.off('close', this.#onClose);
    socket.off('drain', this.#onDrain);
    lane.handedOver[why]++;
    if (begun !== null) {
      const { connection } = begun.arrival;
      connection.begun = begun;
      socket.once('close', () => lane.neverGoneOnWith(connection));
    }
    const bytes = this.#bytes();
    if (this.#held !== null) bytes.push(this.#held);
    const back = bytes.length === 1 ? (bytes[0] as Buffer) : Buffer.concat(bytes);
    // What was kept already is still in memory until `node:http` has done with the request.
    const kept = Math.min(this.#kept, back.length);
    this.#kept -= kept;
    if (kept > 0) lane.arrivals.onceDoneWith(socket, () => lane.letGoOf(kept));
    this.#letGoOfBytes();
    this.#held = null;
    this.#request = null;
    this.#arrival = null;
    // Paused, so that what is put back is read when all that reads it is there.
    socket.pause();
    if (back.length > 0) socket.unshift(back);
    this.#next(socket);
    socket.resume();
  }
}
