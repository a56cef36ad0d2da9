import { hourOf, type Keystore, type TrafficCount } from '../keystore/keystore.ts';
import type { Logger } from '../shared/log.ts';
import type { Metrics } from './metrics.ts';

/** How often it is looked what was counted, at full multiples of it on the clock: so each hour ends with a look. */
const LOOK_MS = 5000;
/** A stop does not wait longer than this for a keystore that is away. */
const CLOSE_MS = 400;

/**
 * Adds what the metrics count to the keystore, hour by hour: of each figure, what it grew by since the last look. So a request
 * pays nothing for it. What could not be written stays here, with its hour, until it can: memory is bounded by the hours of an
 * outage.
 */
export class TrafficRecorder {
  readonly #keystore: Pick<Keystore, 'recordTraffic'>;
  readonly #metrics: Pick<Metrics, 'counts'>;
  readonly #log: Logger;
  readonly #now: () => number;
  /** What each figure was at the last look, and when that was. */
  #seen = new Map<string, number>();
  #seenAt: number;
  /** What is not in the keystore yet. */
  #pending = new Map<string, TrafficCount>();
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> | undefined;
  #failing = false;

  constructor(options: {
    keystore: Pick<Keystore, 'recordTraffic'>;
    metrics: Pick<Metrics, 'counts'>;
    log: Logger;
    now: () => number;
  }) {
    this.#keystore = options.keystore;
    this.#metrics = options.metrics;
    this.#log = options.log;
    this.#now = options.now;
    this.#seenAt = this.#now();
    this.#wait();
  }

  /** Writes what was counted up to now. Never throws: what cannot be written waits. */
  flush(): Promise<void> {
    this.#flushing ??= this.#write().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  /** Writes what is left and stops. Logs what had to be given up when the keystore does not come back in time. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    // The one that is under way may have looked before the last request.
    const last = this.flush().then(() => this.flush());
    const late = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_MS).unref());
    const isWritten = await Promise.race([last.then(() => this.#pending.size === 0), late]);
    if (!isWritten)
      this.#log.warn('Counts of requests could not be written before the stop; the console lacks them');
  }

  #wait(): void {
    this.#timer = setTimeout(
      () => {
        this.#wait();
        void this.flush();
      },
      LOOK_MS - (this.#now() % LOOK_MS),
    );
    this.#timer.unref();
  }

  /** Takes down what was counted since the last look, for the hour in which that was. */
  #look(): void {
    const hour = hourOf(this.#seenAt);
    this.#seenAt = this.#now();
    for (const { what, name, count } of this.#metrics.counts()) {
      const figure = `${what} ${name}`;
      const grown = count - (this.#seen.get(figure) ?? 0);
      if (grown === 0) continue;
      this.#seen.set(figure, count);
      const place = `${hour} ${figure}`;
      const pending = this.#pending.get(place);
      if (pending) pending.count += grown;
      else this.#pending.set(place, { hour, what, name, count: grown });
    }
  }

  async #write(): Promise<void> {
    this.#look();
    if (this.#pending.size === 0) return;
    const written = this.#pending;
    this.#pending = new Map();
    try {
      await this.#keystore.recordTraffic([...written.values()]);
      this.#failing = false;
    } catch (error) {
      for (const [place, { count, ...counted }] of this.#pending)
        written.set(place, { ...counted, count: count + (written.get(place)?.count ?? 0) });
      this.#pending = written;
      if (!this.#failing) this.#log.warn({ err: error }, 'Counts of requests cannot be written; counting on');
      this.#failing = true;
    }
  }
}
