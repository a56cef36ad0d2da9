import type { CompiledQuery, Kysely } from 'kysely';
import type { Logger } from '../shared/log.ts';
import type { Schema } from './schema.ts';

/** A look that takes longer than this tells nobody of a revocation in time, milliseconds. */
const SLOW_LOOK_MS = 500;

/** Ids of keys whose facts changed, or `everything` when too much was missed to tell. */
export type Change = readonly string[] | 'everything';

/** Where changes are read from. */
export type FeedSource = {
  db: Kysely<Schema>;
  /** How often to look, milliseconds. */
  pollMs: number;
  /** Whether anyone else may have committed since the last call. Costs microseconds; never waits. */
  mayHaveChanged(): boolean;
  /** Has the database call this whenever a change was committed, if it can. Such a call may be lost. */
  onNotice(wake: () => void): void;
};

type Options = FeedSource & { log: Logger; now: () => number };

/**
 * Tells this process of every change to keys, made here or in any other process, in the order of commits. It looks
 * now and then, and at once when the database says that there is something.
 */
export class ChangeFeed {
  readonly #options: Options;
  readonly #listeners = new Set<(change: Change) => void>();
  /** Built once, as it is asked many times a second where usage is written: building it takes most of what asking it does. */
  readonly #fromSeq: CompiledQuery;
  #lastSeq = 0;
  #timer: NodeJS.Timeout | undefined;
  #starting: Promise<void> | undefined;
  #reading: Promise<void> | undefined;
  #unread = false;
  #readingSince = 0;
  #healthy = true;
  #asOf = 0;

  constructor(options: Options) {
    this.#options = options;
    this.#fromSeq = options.db
      .selectFrom('changes')
      .select(['seq', 'key_id'])
      .where('seq', '>=', 0)
      .orderBy('seq')
      .compile();
  }

  /** Calls the listener for each change committed from now on. Returns the function that ends it. */
  async subscribe(listener: (change: Change) => void): Promise<() => void> {
    this.#starting ??= this.#newestSeq().then((seq) => {
      this.#lastSeq = seq;
      this.#asOf = this.#options.now();
      this.#timer = setInterval(() => this.#poll(), this.#options.pollMs);
      this.#timer.unref();
      this.#options.onNotice(() => this.wake());
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

  /** Up to when all changes are known here, milliseconds since the epoch. */
  get asOf(): number {
    return this.#asOf;
  }

  /** Looks at once: a change was just committed. */
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
      if (this.#options.mayHaveChanged()) this.#unread = true;
    } catch (error) {
      // Whatever was missed is looked for as soon as the next look succeeds.
      this.#unread = true;
      this.#failed(error);
      return;
    }
    if (this.#unread) this.#read();
    else this.#asOf = this.#options.now();
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
      const begun = this.#options.now();
      try {
        await this.#readOnce();
        this.#healthy = true;
        this.#asOf = begun;
      } catch (error) {
        this.#unread = true;
        this.#failed(error);
        return;
      }
    }
  }

  async #readOnce(): Promise<void> {
    // From the last one that is known: if it is there, the database has not counted less far than it had.
    const { rows } = await this.#options.db.executeQuery<{ seq: number; key_id: string }>({
      ...this.#fromSeq,
      parameters: [this.#lastSeq],
    });
    if (rows[0]?.seq === this.#lastSeq) {
      rows.shift();
      if (rows.length === 0) return;
    }
    const last = rows.at(-1);
    if (!last) {
      // A database that was put in the place of another may have counted less far.
      const newest = await this.#newestSeq();
      if (newest >= this.#lastSeq) return;
      this.#lastSeq = newest;
      this.#tell('everything');
      return;
    }
    // A gap means that rows were pruned while this process slept, or at worst that a transaction was taken back.
    const change =
      last.seq - this.#lastSeq !== rows.length ? 'everything' : [...new Set(rows.map((row) => row.key_id))];
    this.#lastSeq = last.seq;
    this.#tell(change);
  }

  #tell(change: Change): void {
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
