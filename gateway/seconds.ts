import type { Histogram, Registry } from 'prom-client';

/** Seconds. */
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] as const;

/**
 * A histogram of durations. The library's own makes objects at each observation; this one is put together when somebody asks.
 */
export class Seconds {
  /** How many took no longer than each bound, and longer than the last one; not summed up yet. */
  readonly #counts = new Float64Array(BOUNDS.length + 1);
  #sum = 0;

  observe(seconds: number): void {
    let i = 0;
    while (i < BOUNDS.length && seconds > (BOUNDS[i] as number)) i++;
    this.#counts[i] = (this.#counts[i] as number) + 1;
    this.#sum += seconds;
  }

  /** How many took how long so far, by bucket: `0.005-0.01` took longer than 5 ms and no longer than 10, `60-` longer than a minute. */
  *counts(): Generator<{ bucket: string; count: number }> {
    for (const [i, count] of this.#counts.entries())
      if (count > 0) yield { bucket: `${BOUNDS[i - 1] ?? 0}-${BOUNDS[i] ?? ''}`, count };
  }

  register(registry: Registry, name: string, help: string): void {
    registry.registerMetric({ name, get: async () => this.#read(name, help) } as unknown as Histogram);
  }

  #read(name: string, help: string) {
    let count = 0;
    const buckets = [...this.#counts].map((within, i) => {
      count += within;
      return { metricName: `${name}_bucket`, labels: { le: BOUNDS[i] ?? '+Inf' }, value: count };
    });
    return {
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: [
        ...buckets,
        { metricName: `${name}_sum`, labels: {}, value: this.#sum },
        { metricName: `${name}_count`, labels: {}, value: count },
      ],
    };
  }
}
