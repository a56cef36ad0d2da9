import { chmodSync, copyFileSync, existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { isPostgres, sqlitePath } from '../shared/keystore-url.ts';
import { recordBackup } from './backup-record.ts';
import { type CopyProgress, copyKeystore } from './copy.ts';
import { closeDatabase, openDatabase } from './database.ts';
import { destroySeals } from './destroy-seals.ts';
import { KeystoreError } from './errors.ts';
import { secretCheck } from './key-hash.ts';
import { openAgain } from './sqlite-connection.ts';

/** Pages that are copied at once: others go on writing in between. */
const PAGES = 1000;

/**
 * Writes a consistent copy of a keystore, which may be in use, to a new SQLite file that only its owner may read.
 *
 * @throws KeystoreError `FILE_EXISTS`, or `DAMAGED` when the copy fails SQLite's own check
 */
export async function backupKeystore(
  url: string,
  file: string,
  onProgress: (progress: CopyProgress) => void = () => {},
): Promise<void> {
  if (existsSync(file)) {
    throw new KeystoreError(`${file} exists already. Name a new file, or move that one away.`, 'FILE_EXISTS');
  }
  const unfinished = `${file}.unfinished`;
  removeFile(unfinished);
  try {
    if (isPostgres(url)) await copyKeystore(url, `sqlite:${unfinished}`, onProgress);
    else await copyFile(sqlitePath(url), unfinished, onProgress);
    checkFile(unfinished);
    renameSync(unfinished, file);
  } finally {
    removeFile(unfinished);
  }
  // On a full disk nothing can be noted, and then the copy matters all the more.
  await recordBackup(url, { at: Date.now(), file }).catch(() => undefined);
}

/**
 * Tries whether a backup could be restored: copies it into a folder of its own, and opens the copy as a keystore of this
 * secret. The backup itself is only read.
 *
 * @returns how many keys are in it
 * @throws KeystoreError `DAMAGED`, `WRONG_SECRET`, or as opening has it; the error of a file that cannot be read
 */
export async function tryRestore(file: string, serverSecret: string): Promise<{ keys: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-restore-'));
  const copy = join(folder, 'keystore.sqlite');
  try {
    copyFileSync(file, copy);
    checkFile(copy);
    checkSecret(copy, serverSecret);
    const database = await openDatabase(`sqlite:${copy}`);
    try {
      const { keys } = await database.db
        .selectFrom('keys')
        .select(({ fn }) => fn.countAll<number>().as('keys'))
        .executeTakeFirstOrThrow();
      return { keys: Number(keys) };
    } finally {
      await closeDatabase(database);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function copyFile(
  path: string,
  file: string,
  onProgress: (progress: CopyProgress) => void,
): Promise<void> {
  const raw = openAgain(path);
  try {
    await raw.backup(file, {
      progress({ totalPages, remainingPages }) {
        onProgress({
          phase: 'copying',
          table: 'pages',
          done: totalPages - remainingPages,
          total: totalPages,
        });
        return PAGES;
      },
    });
    chmodSync(file, 0o600);
  } finally {
    raw.close();
  }
}

/** What a restore came to. */
export type Restored = {
  /** Where the keystore that was there is now; `null`: there was none. */
  movedTo: string | null;
  /** Keys that were revoked after the backup was made, and stay revoked. */
  stillRevoked: number;
};

/**
 * Puts a backup in the place of a keystore. One that was there is kept beside it, and what was revoked in it stays revoked.
 * Nobody may have it open.
 *
 * @param serverSecret the backup has to belong to it
 * @throws KeystoreError `IN_USE`, `DAMAGED`, `WRONG_SECRET`, or as opening the backup has it; nothing has changed then
 */
export async function restoreKeystore(
  file: string,
  url: string,
  serverSecret: string,
  onProgress: (progress: CopyProgress) => void = () => {},
): Promise<Restored> {
  checkFile(file);
  checkSecret(file, serverSecret);
  if (isPostgres(url)) {
    // It refuses a database that has been in use.
    await copyKeystore(`sqlite:${file}`, url, onProgress);
    return { movedTo: null, stillRevoked: 0 };
  }
  const path = sqlitePath(url);
  const prepared = `${path}.restoring`;
  removeFile(prepared);
  try {
    copyFileSync(file, prepared);
    chmodSync(prepared, 0o600);
    const revoked = existsSync(path) ? revokedIn(path) : [];
    const stillRevoked = await revokeAgain(prepared, revoked);
    const movedTo = existsSync(path)
      ? `${path}.before-restore-${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '')}`
      : null;
    if (movedTo !== null) renameSync(path, movedTo);
    renameSync(prepared, path);
    return { movedTo, stillRevoked };
  } finally {
    removeFile(prepared);
  }
}

type Revocation = { id: string; at: number; reason: string };

/** Makes sure that nobody has the file open, and that all of it is in one file; the keys that are revoked in it. */
function revokedIn(path: string): Revocation[] {
  const raw = new Database(path, { timeout: 0, fileMustExist: true });
  try {
    raw.pragma('locking_mode = EXCLUSIVE');
    // Leaving WAL takes a lock that nobody else may share, and leaves no other files behind.
    const mode = raw.pragma('journal_mode = DELETE', { simple: true });
    if (mode !== 'delete') throw Object.assign(new Error('in use'), { code: 'SQLITE_BUSY' });
    return raw
      .prepare('select id, revoked_at as at, revoked_reason as reason from keys where revoked_at is not null')
      .all() as Revocation[];
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== 'SQLITE_BUSY') throw error;
    throw new KeystoreError(
      `${path} is in use. Stop the gateway and billing first; nothing was changed.`,
      'IN_USE',
      { cause: error },
    );
  } finally {
    raw.close();
  }
}

/** Nothing brings a revoked key back, an old backup neither. Returns how many it would have brought back. */
async function revokeAgain(path: string, revoked: readonly Revocation[]): Promise<number> {
  const database = await openDatabase(`sqlite:${path}`);
  try {
    let count = 0;
    await database.db.transaction().execute(async (trx) => {
      for (const { id, at, reason } of revoked) {
        const { numUpdatedRows } = await trx
          .updateTable('keys')
          .set({ revoked_at: at, revoked_reason: reason as 'operator' })
          .where('id', '=', id)
          .where('revoked_at', 'is', null)
          .executeTakeFirstOrThrow();
        if (numUpdatedRows === 0n) continue;
        await destroySeals(trx, id);
        count++;
      }
    });
    return count;
  } finally {
    await closeDatabase(database);
  }
}

function checkFile(file: string): void {
  let said: unknown;
  try {
    const raw = new Database(file, { readonly: true, fileMustExist: true });
    said = raw.pragma('integrity_check', { simple: true });
    raw.close();
  } catch (error) {
    said = (error as Error).message;
  }
  if (said !== 'ok') {
    throw new KeystoreError(`${file} is no sound backup of a keystore: ${said}.`, 'DAMAGED');
  }
}

function checkSecret(file: string, serverSecret: string): void {
  const raw = new Database(file, { readonly: true, fileMustExist: true });
  try {
    const tables = raw.prepare("select 1 from sqlite_master where name = 'meta'").get();
    const stored =
      tables && (raw.prepare("select value from meta where name = 'secret_check'").pluck().get() as string);
    if (stored === undefined)
      throw new KeystoreError(`${file} is a database of something else, not a keystore.`, 'DAMAGED');
    if (stored !== secretCheck(serverSecret)) {
      throw new KeystoreError(
        `${file} belongs to another TOLLGATE_SECRET. Set TOLLGATE_SECRET to that one; nothing was changed.`,
        'WRONG_SECRET',
      );
    }
  } finally {
    raw.close();
  }
}

function removeFile(file: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
}
