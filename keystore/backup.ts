import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { isPostgres, sqlitePath } from '../shared/keystore-url.ts';
import { type BackupRecord, lastBackup, recordBackup } from './backup-record.ts';
import { type CopyProgress, copyKeystore } from './copy.ts';
import { closeDatabase, type OpenDatabase, openDatabase } from './database.ts';
import { destroySeals } from './destroy-seals.ts';
import { KeystoreError } from './errors.ts';
import { secretCheck } from './key-hash.ts';
import type { Schema } from './schema.ts';
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
  const record: BackupRecord = { at: Date.now(), file };
  removeFile(unfinished);
  try {
    if (isPostgres(url)) await copyKeystore(url, `sqlite:${unfinished}`, onProgress);
    else await copyFile(sqlitePath(url), unfinished, onProgress);
    // On a full disk nothing can be noted, and then the copy matters all the more.
    await recordBackup(`sqlite:${unfinished}`, record).catch(() => undefined);
    checkFile(unfinished);
    renameSync(unfinished, file);
  } finally {
    removeFile(unfinished);
  }
  await recordBackup(url, record).catch(() => undefined);
}

/**
 * Tries whether a backup could be restored: copies it into a folder of its own, and opens the copy as a keystore of this
 * secret. The backup itself is only read.
 *
 * @returns how many keys are in it, and since when at the latest it has been as it is (milliseconds since the epoch; `null`:
 *   nothing in it says)
 * @throws KeystoreError `DAMAGED`, `WRONG_SECRET`, or as opening has it; the error of a file that cannot be read
 */
export async function tryRestore(
  file: string,
  serverSecret: string,
): Promise<{ keys: number; madeAt: number | null }> {
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
      return { keys: Number(keys), madeAt: await madeAt(database) };
    } finally {
      await closeDatabase(database);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A backup says of itself when it was made; one of an older version only what was done last before it. */
async function madeAt(database: OpenDatabase): Promise<number | null> {
  const [noted, audited] = await Promise.all([
    lastBackup(database),
    database.db
      .selectFrom('audit')
      .select(({ fn }) => fn.max<number | null>('at').as('at'))
      .executeTakeFirst(),
  ]);
  return Math.max(noted?.at ?? 0, Number(audited?.at ?? 0)) || null;
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
  /** Users of the console who were disabled after the backup was made, and stay disabled: their names. */
  stillDisabled: string[];
  /** Users of the console whose password and second factor are those of the keystore that was there. */
  usersAsBefore: number;
};

/**
 * Puts a backup in the place of a keystore. One that was there is kept beside it; what was revoked in it stays revoked, and
 * who may sign in to the console does so as there. Nobody may have it open, and nobody stays signed in.
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
    const stays = await takeOver(url, NOTHING);
    return { movedTo: null, ...stays };
  }
  const path = sqlitePath(url);
  const prepared = `${path}.restoring`;
  removeFile(prepared);
  try {
    copyFileSync(file, prepared);
    chmodSync(prepared, 0o600);
    const stays = await takeOver(
      `sqlite:${prepared}`,
      existsSync(path) ? standingIn(path, serverSecret) : NOTHING,
    );
    const movedTo = existsSync(path)
      ? `${path}.before-restore-${new Date().toISOString().replaceAll(/[-:.]/g, '')}`
      : null;
    flush(prepared);
    // Of a file that was moved away: SQLite would take the last writes to that one for writes to this one.
    if (movedTo === null) moveAside(path);
    replaceFile(path, prepared, movedTo);
    return { movedTo, ...stays };
  } finally {
    removeFile(prepared);
  }
}

/** Keeps what is left beside the place of a file that is not there any more. */
function moveAside(path: string): void {
  for (const ending of BESIDE) {
    if (existsSync(`${path}${ending}`)) renameSync(`${path}${ending}`, `${path}.before-restore${ending}`);
  }
}

/**
 * Puts a file in the place of another one, which is kept. Killed at any moment, one of the two is there: a start without a
 * keystore would make an empty one.
 */
function replaceFile(path: string, by: string, kept: string | null): void {
  if (kept !== null) {
    try {
      linkSync(path, kept);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
      // Not every file system has hard links.
      copyFileSync(path, kept, constants.COPYFILE_EXCL);
      flush(kept);
    }
  }
  renameSync(by, path);
  flush(dirname(path));
}

/** Waits until a file, or which files are in a folder, would survive a power cut. */
function flush(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

type Revocation = { id: string; at: number; reason: string };
type User = Schema['console_users'];
/** What an old backup must not bring back. */
type Standing = { revoked: readonly Revocation[]; users: readonly User[] };
const NOTHING: Standing = { revoked: [], users: [] };

/** Codes of SQLite that say more of who asks, or of the disk, than of what is in the file. */
const NOT_LET = /^SQLITE_(?:CANTOPEN|READONLY|IOERR|PERM|AUTH|FULL)/;
/** What stands beside a keystore's file, and is read with whatever file has its name. */
const BESIDE = ['-wal', '-shm', '-journal'];

/** Makes sure that nobody has the file open, and that all of it is in one file; what is to stay as it is in it. */
function standingIn(path: string, serverSecret: string): Standing {
  let raw: Database.Database | undefined;
  try {
    raw = new Database(path, { timeout: 0, fileMustExist: true });
    raw.pragma('locking_mode = EXCLUSIVE');
    // Leaving WAL takes a lock that nobody else may share, and leaves no other files behind.
    const mode = raw.pragma('journal_mode = DELETE', { simple: true });
    if (mode !== 'delete') throw Object.assign(new Error('in use'), { code: 'SQLITE_BUSY' });
    const revoked = raw
      .prepare('select id, revoked_at as at, revoked_reason as reason from keys where revoked_at is not null')
      .all() as Revocation[];
    return { revoked, users: usersIn(raw, serverSecret) };
  } catch (error) {
    const { code = '', message } = error as { code?: string; message: string };
    if (code.startsWith('SQLITE_BUSY'))
      throw new KeystoreError(
        `${path} is in use. Stop the gateway and billing first; nothing was changed.`,
        'IN_USE',
        { cause: error },
      );
    if (NOT_LET.test(code)) {
      throw new KeystoreError(
        `${path} cannot be opened: ${message}. Run this as the user that the gateway and billing run as; nothing was changed.`,
        code,
        { cause: error },
      );
    }
    throw new KeystoreError(
      `${path} cannot be read: ${message}. So nobody knows which keys were revoked in it and which users of the console were disabled; nothing was changed. Move it away, with the files beside it that end in -wal and -shm, restore again, and see to those yourself.`,
      'DAMAGED',
      { cause: error },
    );
  } finally {
    raw?.close();
  }
}

/** Those who may sign in to the console there, and those who may no longer. */
function usersIn(raw: Database.Database, serverSecret: string): User[] {
  const check = raw.prepare("select value from meta where name = 'secret_check'").pluck().get();
  // Nobody of another secret's keystore ever signed in here, and their second factors could not be opened.
  if (check !== secretCheck(serverSecret)) return [];
  const table = raw.prepare("select 1 from sqlite_master where name = 'console_users'").get();
  // A keystore of an older version has no such table, or no second factors in it.
  if (table === undefined) return [];
  const users = raw.prepare('select * from console_users order by name').all() as User[];
  return users.map((user) => ({
    ...user,
    totp_sealed: user.totp_sealed ?? null,
    totp_step: user.totp_step ?? null,
  }));
}

/** Nothing that was taken from somebody comes back by an old backup. */
async function takeOver(url: string, { revoked, users }: Standing): Promise<Omit<Restored, 'movedTo'>> {
  const database = await openDatabase(url);
  try {
    return await database.db.transaction().execute(async (trx) => {
      let stillRevoked = 0;
      for (const { id, at, reason } of revoked) {
        const { numUpdatedRows } = await trx
          .updateTable('keys')
          .set({ revoked_at: at, revoked_reason: reason as 'operator' })
          .where('id', '=', id)
          .where('revoked_at', 'is', null)
          .executeTakeFirstOrThrow();
        if (numUpdatedRows === 0n) continue;
        await destroySeals(trx, id);
        stillRevoked++;
      }
      await trx.deleteFrom('console_sessions').execute();
      const stillDisabled: string[] = [];
      for (const user of users) {
        const there = await trx
          .selectFrom('console_users')
          .select('disabled_at')
          .where('name', '=', user.name)
          .executeTakeFirst();
        if (user.disabled_at !== null && there?.disabled_at === null) stillDisabled.push(user.name);
        const { name, created_at, ...now } = user;
        const set = { ...now, disabled_at: there?.disabled_at ?? user.disabled_at };
        await trx
          .insertInto('console_users')
          .values({ name, created_at, ...set })
          .onConflict((conflict) => conflict.column('name').doUpdateSet(set))
          .execute();
      }
      return { stillRevoked, stillDisabled, usersAsBefore: users.length };
    });
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
