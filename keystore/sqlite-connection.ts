import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import type { CompiledQuery, DatabaseConnection, QueryResult } from 'kysely';
import { LRUCache } from 'lru-cache';
import { KeystoreError } from './errors.ts';

/** How often, and after how many milliseconds, a read that found the file locked is tried again. */
const READ_TRIES = 100;
const READ_PAUSE_MS = 5;

/** Prepared statements kept. The operations here have fewer; a list of ids makes one for each length. */
const MAX_STATEMENTS = 300;

/** What a connection is asked for: a statement and its parameters. */
export type Statement = Pick<CompiledQuery, 'sql' | 'parameters'>;

/** How long opening the file may wait for other processes, in milliseconds. After that a lock is waited for awake. */
export const OPEN_BUSY_MS = 5000;

/**
 * Opens another connection to a file that is a keystore already. Like all of them, it waits for no lock by blocking once it
 * is open; until then it does, as whoever opens or closes the file at the moment has it to himself.
 *
 * @throws SqliteError SQLITE_BUSY after {@link OPEN_BUSY_MS}
 */
export function openAgain(path: string): Database.Database {
  const raw = new Database(path, { timeout: OPEN_BUSY_MS, fileMustExist: true });
  try {
    setUp(raw);
    raw.pragma('busy_timeout = 0');
    return raw;
  } catch (error) {
    raw.close();
    throw error;
  }
}

/** What SQLite has to be told on each connection. */
export function setUp(raw: Database.Database): void {
  // An acknowledged event must survive a power cut, so every commit reaches the disk.
  raw.pragma('synchronous = FULL');
  raw.pragma('foreign_keys = ON');
  // A destroyed seal must not linger in free pages.
  raw.pragma('secure_delete = ON');
}

/** One connection: keeps statements prepared, as preparing costs more than running most of them. */
export class SqliteConnection implements DatabaseConnection {
  readonly #raw: Database.Database;
  readonly #statements = new LRUCache<string, Database.Statement>({ max: MAX_STATEMENTS });

  constructor(raw: Database.Database) {
    this.#raw = raw;
  }

  /** @throws KeystoreError with SQLite's code */
  async executeQuery<Row>(query: Statement): Promise<QueryResult<Row>> {
    for (let left = READ_TRIES; ; left--) {
      try {
        return this.#run(query);
      } catch (error) {
        const { code = 'UNKNOWN', message } = error as { code?: string; message: string };
        // Reads wait for nobody, but for the moments in which another process opens or closes the file.
        const again = code === 'SQLITE_BUSY' && query.sql.startsWith('select') && left > 0;
        if (!again) throw new KeystoreError(`The keystore failed: ${message}`, code, { cause: error });
      }
      await pause(READ_PAUSE_MS);
    }
  }

  async close(): Promise<void> {
    this.#raw.close();
  }

  #run<Row>({ sql, parameters }: Statement): QueryResult<Row> {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#raw.prepare(sql);
      this.#statements.set(sql, statement);
    }
    if (statement.reader) return { rows: statement.all(parameters) as Row[] };
    const { changes } = statement.run(parameters);
    return { numAffectedRows: BigInt(changes), rows: [] };
  }

  // biome-ignore lint/correctness/useYield: required by the interface; nothing here reads row by row
  async *streamQuery<Row>(): AsyncIterableIterator<QueryResult<Row>> {
    throw new KeystoreError('The keystore does not stream', 'NOT_SUPPORTED');
  }
}
