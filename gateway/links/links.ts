import { onePiece } from '../one-piece.ts';
import type { Target } from '../upstream/upstream-group.ts';
import { type Clock, Link } from './link.ts';

/** A request waits no longer than this for a turn in which a connection may be opened: others may take all there are. */
const PATIENT_MS = 250;

/** Our connections to one server: a stack, so that the most recently used one goes first and the rest run out. */
export class Links {
  /** What follows the target in each request's head: the version, and what is said of the hop, each line with its CRLF. */
  readonly hop: string;
  readonly #target: Target;
  readonly #at: { host: string; port: number };
  readonly #clock: Clock;
  readonly #mayOpen: () => boolean;
  readonly #all = new Set<Link>();
  /** Those that nobody uses and anybody may. */
  readonly #idle: Link[] = [];
  /** Those that came back in this turn of the event loop, and those that came back in the one before. */
  #returned: Link[] = [];
  #resting: Link[] = [];
  #awaitsTurn = false;
  readonly #otherwiseMs: number;
  #otherwiseUntil = 0;
  /** No more requests are to go over them. */
  closed: boolean;

  /**
   * @param mayOpen whether another one may be opened in this turn, which counts as opened then
   * @param otherwiseMs see {@link answersPlainly}
   */
  constructor(target: Target, clock: Clock, mayOpen: () => boolean, otherwiseMs: number) {
    const { hostname, port, host } = new URL(target.origin);
    this.hop = onePiece(` HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n`);
    this.#at = { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? 80 : Number(port) };
    this.#clock = clock;
    this.#mayOpen = mayOpen;
    this.#otherwiseMs = otherwiseMs;
    this.#target = target;
    // A request that was decided on meanwhile may come when nobody is told any more.
    this.closed = target.ended;
    target.closeIdle = () => (this.#idle[0] ?? this.#resting[0] ?? this.#returned[0])?.destroy();
    target.onEnded = () => this.close();
  }

  /** Whether nothing is left of them. */
  get over(): boolean {
    return this.closed && this.#all.size === 0;
  }

  /**
   * Whether all its answers have been plain for a while. What is not plain costs a connection and the work of two: who can ask
   * the server otherwise, should.
   */
  get answersPlainly(): boolean {
    return this.#clock.now >= this.#otherwiseUntil;
  }

  answeredOtherwise(): void {
    this.#otherwiseUntil = this.#clock.now + this.#otherwiseMs;
  }

  /**
   * Whether {@link take} has one to give now, in a later turn, or not at all.
   *
   * @param limit of connections to the server, whoever made them
   * @param since when it was first looked for this request; now and since by `performance.now()`
   */
  look(limit: number, now: number, since: number): 'now' | 'later' | 'never' {
    if (this.#idle.length > 0) return 'now';
    if (this.closed) return 'never';
    if (this.#target.connections >= limit)
      return this.#resting.length > 0 || this.#returned.length > 0 ? 'later' : 'never';
    return now - since > PATIENT_MS || this.#mayOpen() ? 'now' : 'later';
  }

  /** One that nobody uses, or a new one; `null` at the limit. */
  take(limit: number): Link | null {
    for (let link = this.#idle.pop(); link !== undefined; link = this.#idle.pop()) {
      if (link.keepUntil > this.#clock.now) return link;
      link.destroy();
    }
    if (this.closed || this.#target.connections >= limit) return null;
    this.#target.connections++;
    const link = new Link(this.#at, this.#clock, this.#onEnd);
    this.#all.add(link);
    return link;
  }

  /**
   * Takes one back after a whole answer. It rests until all that can have arrived with the answer was read: more bytes, which
   * must not be taken for the next answer, or its end, which would lose the next request.
   */
  giveBack(link: Link, keepMs: number): void {
    const { connectionAgeMs } = this.#target;
    const old = connectionAgeMs !== null && this.#clock.now - link.openedAt > connectionAgeMs;
    if (keepMs === 0 || old || this.closed) {
      link.destroy();
      return;
    }
    link.handTo(null);
    link.keepUntil = this.#clock.now + keepMs;
    this.#returned.push(link);
    if (this.#awaitsTurn) return;
    this.#awaitsTurn = true;
    setImmediate(this.#newTurn);
  }

  readonly #newTurn = (): void => {
    const rested = this.#resting;
    for (const link of rested) this.#idle.push(link);
    rested.length = 0;
    this.#resting = this.#returned;
    this.#returned = rested;
    this.#awaitsTurn = this.#resting.length > 0;
    if (this.#awaitsTurn) setImmediate(this.#newTurn);
  };

  /** Has all who use one look whether it takes too long, and ends those that were idle for too long. */
  sweep(now: number): void {
    for (const link of this.#all) link.sweep(now);
    // The oldest are at the bottom, though not all are kept for equally long.
    while (this.#idle.length > 0 && (this.#idle[0] as Link).keepUntil <= this.#clock.now) {
      (this.#idle[0] as Link).destroy();
    }
  }

  /** Ends those that nobody uses, and the others after their answer. */
  close(): void {
    this.closed = true;
    for (const link of [...this.#idle, ...this.#resting, ...this.#returned]) link.destroy();
  }

  readonly #onEnd = (link: Link): void => {
    this.#target.connections--;
    this.#all.delete(link);
    for (const links of [this.#idle, this.#resting, this.#returned]) {
      const at = links.indexOf(link);
      if (at >= 0) links.splice(at, 1);
    }
  };
}
