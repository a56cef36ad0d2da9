import type { CounterCall, Figures, FromPrimary, FromWorker } from './messages.ts';

/** What the primary has a worker do. */
export type Orders = {
  stop(): void;
  refresh(): void;
  /** What this worker has counted so far. */
  figures(): Promise<Figures>;
};

/** How long the primary may take to gather what all workers have counted, milliseconds. */
const METRICS_MS = 2000;

/** The primary, as its worker sees it: the other end of the channel that this process was started with. */
export class Primary {
  readonly #counted = new Map<number, (answers: readonly (readonly number[])[]) => void>();
  readonly #metrics = new Map<number, (text: string) => void>();
  #ids = 0;

  constructor(orders: Orders) {
    process.on('message', (message: FromPrimary) => {
      if (message.kind === 'stop') orders.stop();
      else if (message.kind === 'refresh') orders.refresh();
      else if (message.kind === 'counted') {
        this.#counted.get(message.id)?.(message.answers);
        this.#counted.delete(message.id);
      } else if (message.kind === 'metrics') this.#metrics.get(message.id)?.(message.text);
      else void this.#tell(message.id, orders);
    });
  }

  /** @throws the system's error, as a rejection, when the primary is gone */
  send(message: FromWorker): Promise<void> {
    return new Promise((resolve, reject) => {
      process.send?.(message, undefined, undefined, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Has calls counted. Does not end by itself while the primary does not answer. */
  count(calls: readonly CounterCall[]): Promise<readonly (readonly number[])[]> {
    const id = ++this.#ids;
    return new Promise((resolve, reject) => {
      this.#counted.set(id, resolve);
      this.send({ kind: 'count', id, calls }).catch((error) => {
        this.#counted.delete(id);
        reject(error);
      });
    });
  }

  /** The metrics of all workers together. @throws Error as a rejection, when the primary does not tell them in time */
  async metrics(): Promise<string> {
    const id = ++this.#ids;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const late = setTimeout(() => reject(new Error('The primary does not answer')), METRICS_MS);
    this.#metrics.set(id, resolve);
    this.send({ kind: 'metrics', id }).catch(reject);
    try {
      return await promise;
    } finally {
      clearTimeout(late);
      this.#metrics.delete(id);
    }
  }

  async #tell(id: number, orders: Orders): Promise<void> {
    // A primary that is gone asks nobody any more.
    await this.send({ kind: 'figures', id, figures: await orders.figures() }).catch(() => {});
  }
}
