import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { DatabaseConnection, QueryResult } from 'kysely';
import { KeystoreError } from './errors.ts';
import type { Statement } from './sqlite-connection.ts';
import type { Usage } from './usage-ledger.ts';

/** What the thread is sent, and what it sends back. */
export type Asked = { id: number; task: Task } | 'close';
export type Task = { statement: Statement } | { usage: Usage };
export type Answer =
  | { id: number; result: unknown }
  | { id: number; error: { message: string; code: string } };

type Waiting = { resolve(result: unknown): void; reject(error: Error): void };

/** It holds little more than what it is asked for, and the rows of the answer. */
const LIMITS = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 8 };

/**
 * A connection to a SQLite file on a thread of its own: SQLite's calls return when the disk has done its part, and this process
 * goes on with other things meanwhile. The thread is started by the first task.
 */
export class ThreadConnection implements DatabaseConnection {
  readonly #path: string;
  #thread: Worker | null = null;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** @throws KeystoreError as `SqliteConnection` has it, or with the code `THREAD_ENDED` */
  executeQuery<Row>({ sql, parameters }: Statement): Promise<QueryResult<Row>> {
    return this.#ask({ statement: { sql, parameters } });
  }

  /**
   * Adds usage to the ledger in a transaction, while no other is under way here. To ask for its statements one by one would hold up
   * this side three times as long, many times a second.
   *
   * @throws KeystoreError as {@link executeQuery} does
   */
  addUsage(usage: Usage): Promise<number[]> {
    return this.#ask({ usage });
  }

  #ask<Result>(task: Task): Promise<Result> {
    this.#thread ??= this.#start();
    const thread = this.#thread;
    const id = ++this.#asked;
    return new Promise<Result>((resolve, reject) => {
      // A process that only waits for the thread's next message is done; one that waits for an answer is not.
      if (this.#waiting.size === 0) thread.ref();
      this.#waiting.set(id, { resolve: resolve as Waiting['resolve'], reject });
      thread.postMessage({ id, task } satisfies Asked);
    });
  }

  async close(): Promise<void> {
    const thread = this.#thread;
    if (thread === null) return;
    thread.ref();
    thread.postMessage('close' satisfies Asked);
    await once(thread, 'exit');
  }

  #start(): Worker {
    const thread = new Worker(join(import.meta.dirname, 'sqlite-thread.ts'), {
      workerData: { path: this.#path },
      resourceLimits: LIMITS,
    });
    thread.unref();
    thread.on('message', (answer: Answer) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (this.#waiting.size === 0) thread.unref();
      if ('result' in answer) waiting?.resolve(answer.result);
      else waiting?.reject(new KeystoreError(answer.error.message, answer.error.code));
    });
    let cause: NodeJS.ErrnoException | undefined;
    thread.on('error', (error) => {
      cause = error as Error;
    });
    // Whatever it had begun is rolled back with its connection; the next task starts another.
    thread.on('exit', () => {
      this.#thread = null;
      const ended = new KeystoreError(
        `The keystore failed: ${cause?.message ?? 'its thread ended'}`,
        cause?.code ?? 'THREAD_ENDED',
        { cause },
      );
      for (const { reject } of this.#waiting.values()) reject(ended);
      this.#waiting.clear();
    });
    return thread;
  }

  // biome-ignore lint/correctness/useYield: required by the interface; nothing here reads row by row
  async *streamQuery<Row>(): AsyncIterableIterator<QueryResult<Row>> {
    throw new KeystoreError('The keystore does not stream', 'NOT_SUPPORTED');
  }
}
