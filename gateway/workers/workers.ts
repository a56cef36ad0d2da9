import cluster from 'node:cluster';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Counter, Gauge, Registry } from 'prom-client';
import type { Logger } from '../../shared/log.ts';
import { Counting } from './counting.ts';
import { MetricsOfAll } from './metrics-of-all.ts';
import { type Ended, type Listening, WorkerProcess } from './worker-process.ts';

type Options = {
  count: number;
  /** What workers have in their environment beside what this process has. */
  env: Record<string, string>;
  log: Logger;
};

/** No worker could start, and another one could not either. */
export class WorkersCannotStart extends Error {
  readonly exitCode: number;

  constructor({ how, failure }: Pick<Ended, 'how' | 'failure'>) {
    super(failure?.reason ?? `The first worker ended before it listened (${how}).`);
    this.name = 'WorkersCannotStart';
    this.exitCode = failure?.exitCode ?? 1;
  }
}

/** A worker that lived for so long did not die of its start. */
const STEADY_MS = 10_000;
/** The pause before a worker is replaced once more, when the one before lived for less. */
const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 30_000;
/** How long a worker may take to say what it counted. */
const FIGURES_MS = 500;

/**
 * The worker processes of a gateway: each of them is the whole gateway, and all listen on the same ports. This process, the
 * primary, hands connections out to them in turn, counts their limits, adds up their metrics, and replaces those that die.
 */
class Workers {
  readonly #options: Options;
  readonly #counting = new Counting();
  readonly #metrics = new MetricsOfAll();
  readonly #own = new Registry();
  readonly #processes = new Set<WorkerProcess>();
  readonly #places: Promise<void>[] = [];
  readonly #stop = new AbortController();
  #deaths = 0;

  constructor(options: Options) {
    this.#options = options;
    const deaths = () => this.#deaths;
    const serving = () => this.#serving.length;
    new Gauge({
      name: 'tollgate_gateway_workers',
      help: 'Worker processes that take requests.',
      registers: [this.#own],
      collect() {
        this.set(serving());
      },
    });
    new Counter({
      name: 'tollgate_gateway_worker_deaths_total',
      help: 'Worker processes that ended without being asked to.',
      registers: [this.#own],
      collect() {
        this.reset();
        this.inc(deaths());
      },
    });
  }

  /**
   * Starts all of them: one first, which brings the keystore up to date and finds out whatever keeps it from starting.
   *
   * @throws WorkersCannotStart when that one ends
   */
  async start(): Promise<Listening> {
    cluster.setupPrimary({ exec: join(import.meta.dirname, 'worker.ts'), args: [] });
    // Those that do not end in time when all are to stop. Where this process dies, they finish what they have.
    process.on('exit', () => {
      if (this.#stop.signal.aborted) for (const worker of this.#processes) worker.kill();
    });
    const first = this.#begin();
    const begun = await Promise.race([first.listening, first.ended]);
    if ('how' in begun) throw new WorkersCannotStart(begun);
    const others = Array.from({ length: this.#options.count - 1 }, () => this.#begin());
    for (const worker of [first, ...others]) this.#places.push(this.#keep(worker));
    await Promise.all(others.map(({ listening, ended }) => Promise.race([listening, ended])));
    return begun;
  }

  refresh(): void {
    for (const worker of this.#processes) worker.send({ kind: 'refresh' });
  }

  /** Has all of them finish what is under way and end, and waits for that. */
  async close(): Promise<void> {
    this.#stop.abort();
    for (const worker of this.#processes) worker.send({ kind: 'stop' });
    await Promise.all(this.#places);
  }

  get #serving(): WorkerProcess[] {
    return [...this.#processes].filter(({ serves }) => serves);
  }

  #begin(): WorkerProcess {
    const worker = new WorkerProcess(this.#options.env, (from, asked) => {
      if (asked.kind === 'metrics') void this.#tellMetrics(from, asked.id);
      else {
        const now = Date.now();
        const answers = asked.calls.map((call) => this.#counting.answer(call, now));
        from.send({ kind: 'counted', id: asked.id, answers });
      }
    });
    this.#processes.add(worker);
    return worker;
  }

  /** Keeps a place filled: with this worker, and with another one whenever it dies. */
  async #keep(worker: WorkerProcess): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#stop;
    let quickDeaths = 0;
    for (let holder = worker; ; holder = this.#begin()) {
      const { how, livedMs, failure } = await holder.ended;
      this.#processes.delete(holder);
      this.#metrics.gone(holder.id);
      if (signal.aborted) {
        if (how !== 'code 0') log.warn({ worker: holder.id, how }, 'A worker did not stop cleanly');
        return;
      }
      this.#deaths++;
      quickDeaths = livedMs < STEADY_MS ? quickDeaths + 1 : 0;
      const pauseMs = pauseAfter(quickDeaths);
      log.error(
        { worker: holder.id, how, ...(failure && { reason: failure.reason }), pauseMs },
        'A worker died; another one takes its place',
      );
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
    }
  }

  async #tellMetrics(to: WorkerProcess, id: number): Promise<void> {
    await Promise.all(
      this.#serving.map(async (worker) => {
        const figures = await worker.figures(FIGURES_MS);
        if (figures !== null) this.#metrics.learn(worker.id, figures);
      }),
    );
    to.send({ kind: 'metrics', id, text: await this.#metrics.text(await this.#own.getMetricsAsJSON()) });
  }
}

/**
 * Starts the worker processes of a gateway.
 *
 * @throws WorkersCannotStart when not even one can
 */
export async function startWorkers(
  options: Options,
): Promise<Listening & Pick<Workers, 'refresh' | 'close'>> {
  const workers = new Workers(options);
  const { url, internalUrl } = await workers.start();
  return { url, internalUrl, refresh: () => workers.refresh(), close: () => workers.close() };
}

/** How long to wait before a worker is replaced, milliseconds. @param quickDeaths how many died at once, one after the other */
export function pauseAfter(quickDeaths: number): number {
  return quickDeaths < 2 ? 0 : Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (quickDeaths - 2));
}
