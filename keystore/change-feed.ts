import type { Kysely } from 'kysely';
import type { Logger } from '../shared/log.ts';
import type { Schema } from './schema.ts';

/** A look that takes longer than this tells nobody of a revocation in time, milliseconds. */
const SLOW_LOOK_MS = 500;

/** Ids of keys whose facts changed, or `everything` when too much was missed to tell. */
export type Change = readonly string[] | 'everything';

type Options = {
  db: Kysely<Schema>;
  changedByOthers: () => boolean;
  pollMs: number;
  log: Logger;
};

/**
 * Tells this process of every change to keys, made here or in any other process, in the order of commits. Polling asks
 * SQLite for its data version (microseconds) and reads a row only when that moved.
 */
export class ChangeFeed {
  readonly #options: Options;
  readonly #listeners = new Set<(change: Change) => void>();
  #lastSeq = 0;
  #timer: NodeJS.Timeout | undefined;
  #starting: Promise<void> | undefined;
  #reading: Promise<void> | undefined;
  #unread = false;
  #readingSince = 0;
  #healthy = true;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Calls the listener for each change committed from now on. Returns the function that ends it. */
  async subscribe(listener: (change: Change) => void): Promise<() => void> {
    this.#starting ??= this.#newestSeq().then((seq) => {
      this.#lastSeq = seq;
      this.#timer = setInterval(() => this.#poll(), this.#options.pollMs);
      this.#timer.unref();
    });
    await this.#starting;
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Whether the last look succeeded and none takes too long. While it does not, what a gateway remembers may be out of
   * date.
   */
  get healthy(): boolean {
    return (
      this.#healthy && (this.#readingSince === 0 || performance.now() - this.#readingSince < SLOW_LOOK_MS)
    );
  }

  /** Looks at once: this process has just committed a change. */
  wake(): void {
    this.#unread = true;
    if (this.#timer) this.#read();
  }

  /** Stops looking, after a look that is under way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#listeners.clear();
    await this.#reading;
  }

  #poll(): void {
    try {
      if (this.#options.changedByOthers()) this.#unread = true;
    } catch (error) {
      // Whatever was missed is looked for as soon as the next look succeeds.
      this.#unread = true;
      this.#failed(error);
      return;
    }
    if (this.#unread) this.#read();
  }

  #read(): void {
    if (this.#reading) return;
    this.#readingSince = performance.now();
    this.#reading = this.#readAll().finally(() => {
      this.#reading = undefined;
      this.#readingSince = 0;
    });
  }

  async #readAll(): Promise<void> {
    while (this.#unread) {
      this.#unread = false;
      try {
        await this.#readOnce();
        this.#healthy = true;
      } catch (error) {
        this.#unread = true;
        this.#failed(error);
        return;
      }
    }
  }

  async #readOnce(): Promise<void> {
    const rows = await this.#options.db
      .selectFrom('changes')
      .select(['seq', 'key_id'])
      .where('seq', '>', this.#lastSeq)
      .orderBy('seq')
      .execute();
    const last = rows.at(-1);
    if (!last) return;
    // A gap means that rows were pruned while this process slept.
    const change =
      last.seq - this.#lastSeq !== rows.length ? 'everything' : [...new Set(rows.map((row) => row.key_id))];
    this.#lastSeq = last.seq;
    for (const listener of this.#listeners) {
      try {
        listener(change);
      } catch (error) {
        this.#options.log.error({ err: error }, 'A listener to the change feed failed');
      }
    }
  }

  #failed(error: unknown): void {
    if (this.#healthy)
      this.#options.log.error({ err: error }, 'The change feed cannot be read; trying again');
    this.#healthy = false;
  }

  async #newestSeq(): Promise<number> {
    const newest = await this.#options.db
      .selectFrom('changes')
      .select(({ fn }) => fn.max('seq').as('seq'))
      .executeTakeFirst();
    return Number(newest?.seq ?? 0);
  }
}
