import { AggregatorRegistry } from 'prom-client';
import type { Figures } from './messages.ts';

/**
 * Adds up what workers have counted, each metric as its `aggregator` says. What is counted never goes down: a worker that does
 * not answer stands with what it said last, and one that is gone stays with what only ever grows.
 */
export class MetricsOfAll {
  readonly #last = new Map<number, Figures>();
  #ofThoseGone: Figures = [];

  /** What a worker says now. */
  learn(worker: number, figures: Figures): void {
    this.#last.set(worker, figures);
  }

  /** A worker is gone, and says no more. */
  gone(worker: number): void {
    const figures = this.#last.get(worker) ?? [];
    this.#last.delete(worker);
    // At run time the library says `counter` where its types say 0.
    const growing = figures.filter(({ type }) => /^(counter|histogram)$/.test(String(type)));
    this.#ofThoseGone = together([this.#ofThoseGone, growing]).getMetricsAsArray() as unknown as Figures;
  }

  /** All of it in the format of Prometheus. @param own what the primary has to say itself */
  text(own: Figures): Promise<string> {
    return together([own, ...this.#last.values(), this.#ofThoseGone]).metrics();
  }
}

function together(figures: readonly Figures[]) {
  return AggregatorRegistry.aggregate(figures as Figures[]);
}
