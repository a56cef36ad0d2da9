import type { Target } from '../upstream/upstream-group.ts';
import { type Clock, Link } from './link.ts';

/** The lane's connections to one server: a stack, so that the most recently used one goes first and the rest run out. */
export class Links {
  /** What each request says of its hop, each line with its CRLF. */
  readonly hop: string;
  readonly #target: Target;
  readonly #at: { host: string; port: number };
  readonly #clock: Clock;
  readonly #idle: Link[] = [];
  /** The server is no longer in use. */
  closed: boolean;

  constructor(target: Target, clock: Clock) {
    const { hostname, port, host } = new URL(target.origin);
    this.hop = `host: ${host}\r\nconnection: keep-alive\r\n`;
    this.#at = { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? 80 : Number(port) };
    this.#clock = clock;
    this.#target = target;
    // A request that was decided on meanwhile may come when nobody is told any more.
    this.closed = target.ended;
    target.closeIdle = () => this.#idle[0]?.destroy();
    target.onEnded = () => this.close();
  }

  /** One that nobody uses, or a new one; `null` at the limit. */
  take(limit: number): Link | null {
    for (let link = this.#idle.pop(); link !== undefined; link = this.#idle.pop()) {
      if (link.keepUntil > this.#clock.now) return link;
      link.destroy();
    }
    if (this.closed || this.#target.connections >= limit) return null;
    this.#target.connections++;
    return new Link(this.#at, this.#clock, this.#onEnd);
  }

  /** Takes one back after a whole answer. */
  giveBack(link: Link, keepMs: number): void {
    const { connectionAgeMs } = this.#target;
    const old = connectionAgeMs !== null && this.#clock.now - link.openedAt > connectionAgeMs;
    if (keepMs === 0 || old || this.closed) {
      link.destroy();
      return;
    }
    link.handTo(null);
    link.keepUntil = this.#clock.now + keepMs;
    this.#idle.push(link);
  }

  /** Ends those that were idle for too long. */
  sweep(): void {
    // The oldest are at the bottom, though not all are kept for equally long.
    while (this.#idle.length > 0 && (this.#idle[0] as Link).keepUntil <= this.#clock.now) {
      (this.#idle[0] as Link).destroy();
    }
  }

  /** Ends those that nobody uses, and the others after their answer. */
  close(): void {
    this.closed = true;
    for (const link of this.#idle.splice(0)) link.destroy();
  }

  readonly #onEnd = (link: Link): void => {
    this.#target.connections--;
    const at = this.#idle.indexOf(link);
    if (at >= 0) this.#idle.splice(at, 1);
  };
}
