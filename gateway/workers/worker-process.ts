import cluster, { type Worker } from 'node:cluster';
import type { Figures, FromPrimary, FromWorker } from './messages.ts';

/** Where a worker listens: where all others do. */
export type Listening = { url: string; internalUrl: string };

/** How a worker ended. */
export type Ended = {
  /** `code 1`, or the name of a signal. */
  how: string;
  livedMs: number;
  /** Why it could not start, when it said so. */
  failure: { reason: string; exitCode: number } | null;
};

type Asked = Extract<FromWorker, { kind: 'count' | 'metrics' }>;

/** A worker, as the primary sees it. */
export class WorkerProcess {
  readonly #worker: Worker;
  readonly #figures = new Map<number, (figures: Figures) => void>();
  #ids = 0;
  #failure: Ended['failure'] = null;
  readonly listening: Promise<Listening>;
  readonly ended: Promise<Ended>;
  /** Whether it takes requests. */
  serves = false;

  /**
   * Starts it.
   *
   * @param env what it has in its environment beside what this process has
   * @param onAsked it wants an answer
   */
  constructor(env: Record<string, string>, onAsked: (worker: WorkerProcess, asked: Asked) => void) {
    const begun = performance.now();
    const worker = cluster.fork(env);
    this.#worker = worker;
    const { promise: listening, resolve: isListening } = Promise.withResolvers<Listening>();
    this.listening = listening;
    worker.on('message', (message: FromWorker) => {
      if (message.kind === 'listening') {
        this.serves = true;
        isListening(message);
      } else if (message.kind === 'failed') this.#failure = message;
      else if (message.kind === 'figures') this.#figures.get(message.id)?.(message.figures);
      else onAsked(this, message);
    });
    // What it said last may arrive after its end.
    const silent = new Promise<void>((resolve) => worker.once('disconnect', resolve));
    const exited = new Promise<string>((resolve) => {
      worker.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
      worker.on('error', (error) => {
        if (worker.process.pid === undefined) resolve(error.message);
      });
    });
    this.ended = exited.then(async (how) => {
      this.serves = false;
      if (worker.isConnected()) await silent;
      return { how, livedMs: performance.now() - begun, failure: this.#failure };
    });
  }

  get id(): number {
    return this.#worker.id;
  }

  send(message: FromPrimary): void {
    // One that is gone is missed elsewhere.
    this.#worker.send(message, () => {});
  }

  /** What it has counted; `null` when it does not say so in time. */
  async figures(limitMs: number): Promise<Figures | null> {
    const id = ++this.#ids;
    const { promise, resolve } = Promise.withResolvers<Figures | null>();
    const late = setTimeout(() => resolve(null), limitMs);
    this.#figures.set(id, resolve);
    this.send({ kind: 'figures', id });
    const figures = await promise;
    clearTimeout(late);
    this.#figures.delete(id);
    return figures;
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }
}
