import { Counter, Gauge, type Histogram, Registry } from 'prom-client';
import type { ProblemCode } from '../shared/problems.ts';

/**
 * What became of a request: it reached the upstream, a proxy was told to let it pass, it was refused, it was answered
 * here, or one of us failed.
 */
export const OUTCOMES = ['forwarded', 'verified', 'refused', 'answered', 'failed'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Seconds. */
const UPSTREAM_BOUNDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const;

/** Figures that other parts keep anyway and that are read when somebody asks. */
export type Sources = {
  identify: { hits: number; misses: number };
  queue: { depth: number; running: number };
  usage: { failures: number; lastFlushedAt: number };
  arrivals: { inFlight: number };
};

/** The gateway's metrics. Counting a request is one addition; everything else happens when Prometheus asks. */
export class Metrics {
  readonly registry = new Registry();
  readonly #requests = new Float64Array(OUTCOMES.length * 6);
  readonly #refusals = new Map<ProblemCode, number>();
  /** How many answers began within each bound, and after the last one; not summed up yet. */
  readonly #upstream = new Float64Array(UPSTREAM_BOUNDS.length + 1);
  #upstreamSeconds = 0;

  constructor(sources: Sources) {
    const { registry } = this;
    const requests = this.#requests;
    const refusals = this.#refusals;
    new Counter({
      name: 'tollgate_gateway_requests_total',
      help: 'Requests, by what became of them and the class of the status answered.',
      labelNames: ['outcome', 'status'],
      registers: [registry],
      collect() {
        this.reset();
        for (const [i, count] of requests.entries()) {
          if (count > 0)
            this.inc(
              {
                outcome: OUTCOMES[Math.floor(i / 6)] as Outcome,
                status: i % 6 === 0 ? 'none' : `${i % 6}xx`,
              },
              count,
            );
        }
      },
    });
    new Counter({
      name: 'tollgate_gateway_refusals_total',
      help: 'Requests not forwarded, or failed, by problem code.',
      labelNames: ['code'],
      registers: [registry],
      collect() {
        this.reset();
        for (const [code, count] of refusals) this.inc({ code }, count);
      },
    });
    // The library's own histogram makes objects at each observation; this one is put together when somebody asks.
    registry.registerMetric({
      name: 'tollgate_gateway_upstream_seconds',
      get: async () => this.#upstreamHistogram(),
    } as unknown as Histogram);
    const count = (name: string, help: string, read: () => number) =>
      new Counter({
        name,
        help,
        registers: [registry],
        collect() {
          this.reset();
          this.inc(read());
        },
      });
    const gauge = (name: string, help: string, read: () => number) =>
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(read());
        },
      });
    const { identify, queue, usage, arrivals } = sources;
    gauge(
      'tollgate_gateway_requests_in_flight',
      'Requests being worked on, or waiting for their turn.',
      () => arrivals.inFlight,
    );
    count('tollgate_gateway_key_cache_hits_total', 'Keys found in memory.', () => identify.hits);
    count('tollgate_gateway_key_cache_misses_total', 'Keys not found in memory.', () => identify.misses);
    gauge('tollgate_gateway_hash_queue_depth', 'Argon2 runs waiting.', () => queue.depth);
    gauge('tollgate_gateway_hash_running', 'Argon2 runs under way.', () => queue.running);
    count('tollgate_gateway_usage_flush_failures_total', 'Failed writes of usage.', () => usage.failures);
    gauge('tollgate_gateway_usage_flush_lag_seconds', 'Time since all usage was in the ledger.', () =>
      Math.max(0, (Date.now() - usage.lastFlushedAt) / 1000),
    );
  }

  /** Counts a request that is over. @param status 0 when the client was gone before there was one */
  answered(outcome: Outcome, status: number): void {
    const i = OUTCOMES.indexOf(outcome) * 6 + Math.min(5, Math.trunc(status / 100));
    this.#requests[i] = (this.#requests[i] as number) + 1;
  }

  /** Counts a refusal or failure by its code. */
  refused(code: ProblemCode): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
  }

  /** @param seconds from forwarding to the first byte of the answer */
  upstreamAnswered(seconds: number): void {
    let i = 0;
    while (i < UPSTREAM_BOUNDS.length && seconds > (UPSTREAM_BOUNDS[i] as number)) i++;
    this.#upstream[i] = (this.#upstream[i] as number) + 1;
    this.#upstreamSeconds += seconds;
  }

  #upstreamHistogram() {
    const name = 'tollgate_gateway_upstream_seconds';
    let count = 0;
    const buckets = [...this.#upstream].map((within, i) => {
      count += within;
      return { metricName: `${name}_bucket`, labels: { le: UPSTREAM_BOUNDS[i] ?? '+Inf' }, value: count };
    });
    return {
      name,
      help: 'Time from forwarding a request to the first byte of the upstream’s answer.',
      type: 'histogram',
      aggregator: 'sum',
      values: [
        ...buckets,
        { metricName: `${name}_sum`, labels: {}, value: this.#upstreamSeconds },
        { metricName: `${name}_count`, labels: {}, value: count },
      ],
    };
  }
}
