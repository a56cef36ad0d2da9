import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { errors } from 'undici';
import { ownLines } from '../answers/client-headers.ts';
import type { Allowed } from '../decision/decision.ts';
import type { Link, LinkUser } from '../links/link.ts';
import type { Links } from '../links/links.ts';
import type { Conversation } from '../links/replay.ts';
import { MAX_ANSWER_HEAD, type PlainResponse, readPlainResponse } from '../links/response-grammar.ts';
import type { Arrival } from '../listener/exchange.ts';
import type { Route } from '../routes/routes.ts';
import type { Target } from '../upstream/upstream-group.ts';
import { answerHeadEnd } from './answer-head.ts';
import type { HandedOver, Lane } from './lane.ts';
import { requestHead } from './request-head.ts';

/** Who asks, and is told what comes of it. */
export type Asker = {
  /** The answer has begun and is being sent to the client. */
  onAnswering(): void;
  /** This is all of it, latin1, and may be sent when others are. {@link onAnswered} follows. */
  onAnswer(text: string): void;
  /** All of it was sent. @param closes whether the connection ends with it */
  onAnswered(closes: boolean): void;
  /** It broke off. */
  onTruncated(): void;
  /** What came of it is not for the lane. */
  onElsewhere(why: HandedOver, conversation: Conversation): void;
};

/** Up to this size a body is worth copying to save a write. */
const ONE_WRITE_BYTES = 16 * 1024;
/** Twice what a link reads at once: one piece, and less than one more that waits to be sent. */
const PIECES_BYTES = 128 * 1024;
const NOTHING = Buffer.alloc(0);
const NO_BODY: readonly Buffer[] = [];

/** The upstream's side of a client's connection: asks for one request after the other, and sends the answers on. */
export class Asking implements LinkUser {
  readonly #lane: Lane;
  readonly #client: Socket;
  readonly #asker: Asker;
  #arrival: Arrival | null = null;
  #route: Route | null = null;
  #target: Target | null = null;
  /** Where the link came from and goes back to. */
  #links: Links | null = null;
  #link: Link | null = null;
  #sent = 0;
  /** When a link was first looked for; 0: it was found. */
  #lookedAt = 0;
  #askedAt = 0;
  /** The head of the answer that is being sent on. */
  #response: PlainResponse | null = null;
  /** Bytes of its body to come. */
  #left = 0;
  /** Whether it says that the connection closes. If it does not, the client may send another request right after it. */
  #closes = false;
  /** What pieces of the body are copied to until the answer is complete, and how much of it is in use. */
  #pieces: Buffer | null = null;
  #filled = 0;

  constructor(lane: Lane, client: Socket, asker: Asker) {
    this.#lane = lane;
    this.#client = client;
    this.#asker = asker;
  }

  /** The status of the answer that is being sent on; 0: there is none yet. */
  get status(): number {
    return this.#response?.status ?? 0;
  }

  /** Whether a part of the request still waits to be sent. */
  get sending(): boolean {
    return this.#link?.sending ?? false;
  }

  /**
   * Takes a server and sends it the request. Returns why not, when it cannot; the server may be taken nevertheless. `later`: to
   * be called again in the next turn.
   */
  ask(arrival: Arrival, route: Route, body: readonly Buffer[], now: number): HandedOver | 'later' | null {
    const lane = this.#lane;
    const target = this.#target ?? route.group.pick(undefined, now);
    if (target === null) return 'busy';
    this.#arrival = arrival;
    this.#route = route;
    this.#target = target;
    const links = lane.links.to(target);
    const { maxConnections } = route.upstream;
    if (this.#lookedAt === 0) this.#lookedAt = now;
    const when = links.look(maxConnections, now, this.#lookedAt);
    if (when === 'later') return 'later';
    this.#lookedAt = 0;
    let length = 0;
    for (const piece of body) length += piece.length;
    const head = requestHead(arrival, route, target, links.hop, length);
    if (head === null) return 'unusual';
    const link = when === 'now' ? links.take(maxConnections) : null;
    if (link === null) return 'busy';
    this.#links = links;
    this.#link = link;
    this.#sent = head.length + length;
    this.#askedAt = now;
    if (length > ONE_WRITE_BYTES) link.send(this, head, body);
    else {
      let text = head;
      for (const piece of body) text += piece.toString('latin1', 0, piece.length);
      link.send(this, text, NO_BODY);
    }
    return null;
  }

  onBytes(bytes: Buffer, length: number): void {
    if (this.#response !== null) {
      this.#pass(bytes, 0, length);
      return;
    }
    const text = bytes.toString('latin1', 0, Math.min(length, MAX_ANSWER_HEAD));
    const end = text.indexOf('\r\n\r\n');
    const response = end < 0 ? null : readPlainResponse(bytes, text);
    if (response === null) (this.#links as Links).answeredOtherwise();
    if (response === null || this.#showsSecret(response))
      this.#asker.onElsewhere('answer', this.letGo(Buffer.from(bytes.subarray(0, length))));
    else this.#begin(response, bytes, text, end + 4, length);
  }

  /** Whether an answer has a header that goes to nobody. */
  #showsSecret({ lines }: PlainResponse): boolean {
    const { secret } = (this.#route as Route).upstream;
    return secret !== null && lines.toLowerCase().includes(`${secret.header.toLowerCase()}:`);
  }

  #begin(response: PlainResponse, bytes: Buffer, text: string, from: number, length: number): void {
    const lane = this.#lane;
    const arrival = this.#arrival as Arrival;
    this.#response = response;
    (this.#route as Route).group.succeeded(this.#target as Target);
    lane.events.upstreamAnswered(performance.now() - this.#askedAt);
    this.#closes = lane.stopping();
    const own = ownLines(arrival, arrival.allowed as Allowed);
    const head = response.lines + own + answerHeadEnd(response.dated, this.#closes ? null : lane.kept);
    this.#left = response.length;
    this.#asker.onAnswering();
    const end = from + this.#left;
    if (end <= length && end <= text.length) {
      this.#asker.onAnswer(head + text.slice(from, end));
      this.#complete(end < length);
      return;
    }
    this.#client.write(head, 'latin1');
    if (length > from) this.#pass(bytes, from, length);
  }

  /** Sends on a piece of the body. */
  #pass(bytes: Buffer, from: number, length: number): void {
    const wanted = Math.min(length - from, this.#left);
    this.#left -= wanted;
    const taken = this.#client.write(this.#copied(bytes.subarray(from, from + wanted)));
    if (this.#left === 0) this.#complete(length > from + wanted);
    else if (!taken) this.#link?.pause();
  }

  /**
   * A copy of a piece of the body that stays as it is until it is sent: always in the same place, once what was there is
   * sent. A new one each time is a lot that waits for the garbage collector, which seldom has another reason to come.
   */
  #copied(bytes: Buffer): Buffer {
    if (this.#left === 0) return Buffer.from(bytes);
    if (this.#client.writableLength === 0) this.#filled = 0;
    this.#pieces ??= Buffer.allocUnsafeSlow(PIECES_BYTES);
    const end = this.#filled + bytes.length;
    if (end > PIECES_BYTES) return Buffer.from(bytes);
    bytes.copy(this.#pieces, this.#filled);
    const copy = this.#pieces.subarray(this.#filled, end);
    this.#filled = end;
    return copy;
  }

  /** @param surplus whether the upstream sent more than the answer */
  #complete(surplus: boolean): void {
    const { keepMs, status } = this.#response as PlainResponse;
    this.#response = null;
    this.#pieces = null;
    this.#filled = 0;
    const link = this.#link as Link;
    // An upstream that has answered may never read the rest of the request, and then it would not read the next one.
    (this.#links as Links).giveBack(link, surplus || link.sending ? 0 : keepMs);
    this.#link = null;
    this.#release();
    this.#lane.events.finished(this.#arrival as Arrival, status, 'complete');
    // An idle connection keeps nothing of it.
    this.#arrival = null;
    this.#asker.onAnswered(this.#closes);
  }

  onBroken(error: Error | null): void {
    const { connected } = this.#link as Link;
    this.#link = null;
    if (this.#response !== null) this.#truncated();
    else this.#asker.onElsewhere(connected ? 'broken' : 'unreachable', this.letGo(NOTHING, error, connected));
  }

  #truncated(): void {
    const { status } = this;
    this.#release();
    this.#asker.onTruncated();
    this.#lane.events.finished(this.#arrival as Arrival, status, 'truncated');
  }

  /** What has passed so far, with the connection if it still stands: it is whoever's goes on with it. */
  letGo(received: Buffer = NOTHING, error: Error | null = null, connected = true): Conversation {
    const link = this.#link;
    this.#link = null;
    return { sent: this.#sent, received, link, error, connected };
  }

  /** The server that was taken, which is whoever's goes on with it; `null`: none was. */
  letGoOfTarget(): Target | null {
    const target = this.#target;
    this.#target = null;
    return target;
  }

  #release(): void {
    (this.#route as Route).group.release(this.#target as Target);
    this.#target = null;
  }

  /** The client left. */
  abandon(): void {
    this.#link?.destroy();
    this.#link = null;
    if (this.#target !== null) this.#release();
  }

  /** The client takes more. */
  resume(): void {
    this.#link?.resume();
  }

  /** Looks whether the upstream took too long. */
  sweep(now: number): void {
    const link = this.#link as Link;
    const { connectTimeoutMs, timeoutMs, idleTimeoutMs } = (this.#route as Route).upstream;
    const waited = now - link.activeAt - this.#lane.links.sweepMs;
    if (this.#response !== null) {
      if (link.paused || waited <= idleTimeoutMs) return;
      link.destroy();
      this.#link = null;
      this.#truncated();
      return;
    }
    const { connected } = link;
    if (waited <= (connected ? timeoutMs : connectTimeoutMs)) return;
    link.destroy();
    this.#link = null;
    const error = connected ? new errors.HeadersTimeoutError() : new errors.ConnectTimeoutError();
    this.#asker.onElsewhere('timeout', this.letGo(NOTHING, error, connected));
  }
}
