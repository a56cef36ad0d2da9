import type { Target } from '../upstream/upstream-group.ts';
import type { Clock } from './link.ts';
import { Links } from './links.ts';

/**
 * So many connections to upstreams are opened in one turn of the event loop. Where many requests come at the same moment, some
 * are opened for the first of them; the others look again in the next turn, when those have mostly brought their answers and
 * are free. Opening one takes several times as long as a request on one that is there, so a burst is over sooner, and an
 * upstream is not met by hundreds of connections at once. One that is slow has as many as it needs after some turns: nobody
 * waits for another's answer.
 */
const OPENED_IN_A_TURN = 4;

/** Who has something under way that may take too long. */
export type Watched = {
  /** @param now in milliseconds, by `performance.now()` */
  sweep(now: number): void;
};

/** The gateway's own connections to the servers of all upstreams. */
export class UpstreamLinks {
  readonly clock: Clock = { now: Math.trunc(performance.now()) };
  /** How often time is looked at, in milliseconds: what may take so long takes up to that much longer. */
  readonly sweepMs: number;
  /** Those who are told every time. */
  readonly watched = new Set<Watched>();
  readonly #links = new Map<Target, Links>();
  readonly #otherwiseMs: number;
  readonly #timer: NodeJS.Timeout;
  #opened = 0;

  /** @param otherwiseMs for so long a server is not asked over a link by those who can ask it otherwise, after an answer not plain */
  constructor({ sweepMs, otherwiseMs }: { sweepMs: number; otherwiseMs: number }) {
    this.sweepMs = sweepMs;
    this.#otherwiseMs = otherwiseMs;
    this.#timer = setInterval(() => this.#sweep(), sweepMs);
    this.#timer.unref();
  }

  /** Those to one server. */
  to(target: Target): Links {
    let links = this.#links.get(target);
    if (links === undefined) {
      links = new Links(target, this.clock, this.#mayOpen, this.#otherwiseMs);
      this.#links.set(target, links);
    }
    return links;
  }

  readonly #mayOpen = (): boolean => {
    if (this.#opened === 0) setImmediate(this.#newTurn);
    return this.#opened++ < OPENED_IN_A_TURN;
  };

  readonly #newTurn = (): void => {
    this.#opened = 0;
  };

  /** Stops looking after time, and ends the connections that nobody uses, the others after their answer. */
  close(): void {
    clearInterval(this.#timer);
    for (const links of this.#links.values()) links.close();
  }

  #sweep(): void {
    const now = Math.trunc(performance.now());
    this.clock.now = now;
    for (const each of this.watched) each.sweep(now);
    for (const [target, links] of this.#links) {
      links.sweep(now);
      if (links.over) this.#links.delete(target);
    }
  }
}
