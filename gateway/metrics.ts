import { type Aggregator, Counter, Gauge, Registry } from 'prom-client';
import type { TrafficKind } from '../keystore/keystore.ts';
import { type ProblemCode, problemStatus } from '../shared/problems.ts';
import { Seconds } from './seconds.ts';

/**
 * What became of a request: it reached the upstream, a proxy was told to let it pass, it was refused, it was answered
 * here, or one of us failed.
 */
export const OUTCOMES = ['forwarded', 'verified', 'refused', 'answered', 'failed'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** What became of a request that was answered with a problem. A stop that was asked for is no failure. */
export function outcomeOf(code: ProblemCode): 'refused' | 'failed' {
  return problemStatus(code) >= 500 && code !== 'stopping' ? 'failed' : 'refused';
}

/** Figures that other parts keep anyway and that are read when somebody asks. */
export type Sources = {
  identify: { hits: number; misses: number };
  facts: { stale: number };
  keystore: { changes: { healthy: boolean } };
  queue: { depth: number; running: number };
  usage: { failures: number; lastFlushedAt: number };
  arrivals: { inFlight: number };
  refusals: { written: number; dropped: number };
};

/** The gateway's metrics. Counting a request is one addition; everything else happens when Prometheus asks. */
export class Metrics {
  readonly registry = new Registry();
  readonly #requests = new Float64Array(OUTCOMES.length * 6);
  readonly #refusals = new Map<ProblemCode, number>();
  readonly #upstream = new Seconds();
  readonly #whole = new Seconds();

  constructor(sources: Sources) {
    const { registry } = this;
    const requests = this.#requests;
    const codes = this.#refusals;
    new Counter({
      name: 'tollgate_gateway_requests_total',
      help: 'Requests, by what became of them and the class of the status answered.',
      labelNames: ['outcome', 'status'],
      registers: [registry],
      collect() {
        this.reset();
        for (const [i, count] of requests.entries()) {
          if (count > 0) this.inc({ outcome: outcomeAt(i), status: statusAt(i) }, count);
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
        for (const [code, count] of codes) this.inc({ code }, count);
      },
    });
    this.#upstream.register(
      registry,
      'tollgate_gateway_upstream_seconds',
      'Time from forwarding a request to the first byte of the upstream’s answer.',
    );
    this.#whole.register(
      registry,
      'tollgate_gateway_request_seconds',
      'Time from a request’s head to the end of its answer, whatever became of it.',
    );
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
    /** @param together what several processes say together */
    const gauge = (name: string, help: string, read: () => number, together: Aggregator = 'sum') =>
      new Gauge({
        name,
        help,
        aggregator: together,
        registers: [registry],
        collect() {
          this.set(read());
        },
      });
    const { identify, facts, keystore, queue, usage, arrivals, refusals } = sources;
    gauge(
      'tollgate_gateway_keystore_up',
      'Whether the keystore answers (1), or keys are known from memory only (0).',
      () => (keystore.changes.healthy ? 1 : 0),
      'min',
    );
    count(
      'tollgate_gateway_stale_key_uses_total',
      'Keys used as they were last known, as the keystore was away.',
      () => facts.stale,
    );
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
    gauge(
      'tollgate_gateway_usage_flush_lag_seconds',
      'Time since all usage was in the ledger.',
      () => Math.max(0, (Date.now() - usage.lastFlushedAt) / 1000),
      'max',
    );
    count(
      'tollgate_gateway_refusals_written_total',
      'Refusals written down, for `why`.',
      () => refusals.written,
    );
    count(
      'tollgate_gateway_refusals_dropped_total',
      'Refusals that were too many to write down.',
      () => refusals.dropped,
    );
  }

  /**
   * Counts a request that is over.
   *
   * @param status 0 when the client was gone before there was one
   * @param seconds from its head to its end
   */
  answered(outcome: Outcome, status: number, seconds: number): void {
    this.#whole.observe(seconds);
    const i = OUTCOMES.indexOf(outcome) * 6 + Math.min(5, Math.trunc(status / 100));
    this.#requests[i] = (this.#requests[i] as number) + 1;
  }

  /** Counts a refusal or failure by its code. */
  refused(code: ProblemCode): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
  }

  /** @param seconds from forwarding to the first byte of the answer */
  upstreamAnswered(seconds: number): void {
    this.#upstream.observe(seconds);
  }

  /** All that was counted of requests since the start, as the keystore keeps it. */
  *counts(): Generator<{ what: TrafficKind; name: string; count: number }> {
    for (const [i, count] of this.#requests.entries())
      if (count > 0) yield { what: 'requests', name: `${outcomeAt(i)} ${statusAt(i)}`, count };
    for (const [name, count] of this.#refusals) yield { what: 'refusals', name, count };
    for (const { bucket, count } of this.#upstream.counts()) yield { what: 'answers', name: bucket, count };
  }
}

function outcomeAt(i: number): Outcome {
  return OUTCOMES[Math.floor(i / 6)] as Outcome;
}

function statusAt(i: number): string {
  return i % 6 === 0 ? 'none' : `${i % 6}xx`;
}
