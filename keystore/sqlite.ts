import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { Kysely } from 'kysely';
import type { OpenDatabase } from './database.ts';
import { KeystoreError, KeystoreOpenError } from './errors.ts';
import { migrate } from './migrate.ts';
import { SQLITE_SQL } from './migrations.ts';
import type { Schema } from './schema.ts';
import { OPEN_BUSY_MS, SqliteConnection, setUp } from './sqlite-connection.ts';
import { ImmediateSqliteDialect, SQLITE } from './sqlite-dialect.ts';
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
    const thread = new ThreadConnection(path);
    const writer = new Kysely<Schema>({ dialect: new ImmediateSqliteDialect(thread) });
    let seen = dataVersion(raw);
    return {
      ...SQLITE,
      name: path,
      db,
      writer,
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
      // In its turn: no transaction of the writer is under way meanwhile.
      addUsage: (usage) => writer.connection().execute(() => thread.addUsage(usage)),
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
