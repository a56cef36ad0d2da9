import type { Registry } from 'prom-client';
import type { Settle, Spend } from '../decision/counter-server.ts';

/** What a worker has counted, metric by metric. */
export type Figures = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** A call to what counts windows, as it travels. */
export type CounterCall = ({ what: 'spend' } & Spend) | ({ what: 'settle' } & Settle);

/** What a worker sends to the primary. What asks for an answer has an id, which the answer has, too. */
export type FromWorker =
  | { kind: 'listening'; url: string; internalUrl: string }
  /** It cannot start, for this reason, and ends. */
  | { kind: 'failed'; reason: string; exitCode: number }
  /** All calls of one turn of its event loop; none of them: it only wants to know whether it is answered. */
  | { kind: 'count'; id: number; calls: readonly CounterCall[] }
  /** Somebody asked it for the metrics of all. */
  | { kind: 'metrics'; id: number }
  | { kind: 'figures'; id: number; figures: Figures };

/** What the primary sends to a worker. */
export type FromPrimary =
  | { kind: 'stop' }
  /** What changed outside is to be taken in: see `refresh` of a service. */
  | { kind: 'refresh' }
  /** An answer for each call, in their order. */
  | { kind: 'counted'; id: number; answers: readonly (readonly number[])[] }
  /** In the format of Prometheus. */
  | { kind: 'metrics'; id: number; text: string }
  | { kind: 'figures'; id: number };
