import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import {
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type DialectAdapter,
  type Driver,
  Kysely,
  CompiledQuery as Query,
  type QueryCompiler,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  sql,
  type TransactionSettings,
} from 'kysely';
import type { OpenDatabase } from './database.ts';
import { KeystoreError, KeystoreOpenError } from './errors.ts';
import { migrate } from './migrate.ts';
import { SQLITE_SQL } from './migrations.ts';
import type { Schema } from './schema.ts';
import { OPEN_BUSY_MS, SqliteConnection, setUp } from './sqlite-connection.ts';
import { ThreadConnection } from './thread-connection.ts';

/** "TLGT": marks a SQLite file as a Tollgate keystore (`PRAGMA application_id`). */
const APPLICATION_ID = 0x544c4754;

/** How often to look for changes by other processes, milliseconds: a look costs microseconds. */
const POLL_MS = 100;

/**
 * Opens or creates a keystore file in WAL mode and brings its schema up to date.
 *
 * @param path absolute path of the file; its folder is made when missing
 * @throws KeystoreOpenError when the file is not a keystore, is newer than this code, or cannot be written
 */
export async function openSqlite(path: string): Promise<OpenDatabase> {
  const raw = openFile(path);
  try {
    claimFile(raw, path);
    const db = new Kysely<Schema>({ dialect: new ImmediateSqliteDialect(new SqliteConnection(raw)) });
    await migrate(db, { name: path, sql: SQLITE_SQL });
    // SQLite would wait by blocking the whole process; who writes here waits awake and tries again.
    raw.pragma('busy_timeout = 0');
    let seen = dataVersion(raw);
    return {
      name: path,
      db,
      writer: new Kysely<Schema>({ dialect: new ImmediateSqliteDialect(new ThreadConnection(path)) }),
      feed: {
        db,
        pollMs: POLL_MS,
        mayHaveChanged() {
          const now = dataVersion(raw);
          const changed = now !== seen;
          seen = now;
          return changed;
        },
        onNotice() {},
      },
      entriesOf: (json) => sql`(select key, value from json_each(${json}))`,
      valuesOf: (json) => sql`(select value from json_each(${json}))`,
      // "begin immediate" has the file's only write lock already, and its data version tells of the rest.
      async enter() {},
      async announce() {},
      async renumber() {},
    };
  } catch (error) {
    raw.close();
    throw error instanceof KeystoreError ? error : openError(path, error);
  }
}

function openFile(path: string): Database.Database {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    // SQLite gives its other files the mode of this one: they hold buyers' addresses and sealed keys.
    closeSync(openSync(path, 'a', 0o600));
    return new Database(path, { timeout: OPEN_BUSY_MS });
  } catch (error) {
    throw openError(path, error);
  }
}

/** Checks that the file is ours or empty before anything is written to it, then sets it up. */
function claimFile(raw: Database.Database, path: string): void {
  const applicationId = raw.pragma('application_id', { simple: true });
  if (applicationId !== APPLICATION_ID) {
    const tables = raw.prepare('select count(*) as n from sqlite_master').get() as { n: number };
    if (applicationId !== 0 || tables.n > 0) {
      throw new KeystoreOpenError(
        `${path} is a database of something else, not a Tollgate keystore. Set KEYSTORE_URL to another file.`,
        'NOT_A_KEYSTORE',
      );
    }
  }
  raw.pragma('journal_mode = WAL');
  setUp(raw);
  if (applicationId !== APPLICATION_ID) raw.pragma(`application_id = ${APPLICATION_ID}`);
}

function openError(path: string, error: unknown): KeystoreOpenError {
  const { code = 'UNKNOWN', message } = error as { code?: string; message: string };
  if (error instanceof KeystoreOpenError) return error;
  if (code === 'SQLITE_NOTADB') {
    return new KeystoreOpenError(
      `${path} is not a database, so not a Tollgate keystore. Set KEYSTORE_URL to another file.`,
      code,
      { cause: error },
    );
  }
  if (/^(SQLITE_READONLY|SQLITE_CANTOPEN|SQLITE_PERM|EACCES|EPERM|EROFS|ENOTDIR|EEXIST|EISDIR)/.test(code)) {
    return new KeystoreOpenError(
      `${path} cannot be written by this user (${code}). Check the owner and permissions of the file and its folder, or set KEYSTORE_URL to another file.`,
      code,
      { cause: error },
    );
  }
  return new KeystoreOpenError(`${path} cannot be opened as a keystore: ${message}`, code, { cause: error });
}

/** A number that changes whenever another connection commits to the file (SQLite, "PRAGMA data_version"). */
function dataVersion(raw: Database.Database): number {
  return raw.pragma('data_version', { simple: true }) as number;
}

/**
 * Kysely's SQLite dialect with what several processes on one file need: transactions that take the write lock at their
 * start (a later upgrade fails at once instead of waiting), migrations inside a transaction, errors of one kind.
 */
class ImmediateSqliteDialect implements Dialect {
  readonly #connection: ClosableConnection;

  constructor(connection: ClosableConnection) {
    this.#connection = connection;
  }

  createDriver(): Driver {
    return new ImmediateSqliteDriver(this.#connection);
  }

  createQueryCompiler(): QueryCompiler {
    return new SqliteQueryCompiler();
  }

  createAdapter(): DialectAdapter {
    return new TransactionalSqliteAdapter();
  }

  createIntrospector(db: Kysely<unknown>): DatabaseIntrospector {
    return new SqliteIntrospector(db);
  }
}

type ClosableConnection = DatabaseConnection & { close(): Promise<void> };

class TransactionalSqliteAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** All on one connection: Kysely gives it to one transaction at a time. */
class ImmediateSqliteDriver implements Driver {
  readonly #connection: ClosableConnection;

  constructor(connection: ClosableConnection) {
    this.#connection = connection;
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection;
  }

  async releaseConnection(): Promise<void> {}

  async beginTransaction(connection: DatabaseConnection, { accessMode }: TransactionSettings): Promise<void> {
    // One that only reads sees the file as it is at its first read, and holds up nobody.
    await connection.executeQuery(Query.raw(accessMode === 'read only' ? 'begin' : 'begin immediate'));
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(Query.raw('commit'));
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    try {
      await connection.executeQuery(Query.raw('rollback'));
    } catch (error) {
      // On a full disk or an I/O error SQLite has rolled back by itself; the first error is the one to report.
      if (!/no transaction is active/.test((error as Error).message)) throw error;
    }
  }

  async destroy(): Promise<void> {
    await this.#connection.close();
  }
}
