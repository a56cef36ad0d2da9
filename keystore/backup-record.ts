import { z } from 'zod';
import { isPostgres, sqlitePath } from '../shared/keystore-url.ts';
import { closeDatabase, openDatabase } from './database.ts';
import { readMeta } from './meta.ts';
import { openAgain } from './sqlite-connection.ts';
import type { Store } from './store.ts';

/** A backup that was made: when (milliseconds since the epoch), and where it was written. */
export type BackupRecord = { at: number; file: string };

const NAME = 'last_backup';
const recordSchema = z.object({ at: z.number(), file: z.string() });
/** How long a note waits for whoever is writing, milliseconds. */
const WAIT_MS = 5000;

/** Notes in a keystore that it was backed up, without bringing its schema up to date: a backup comes before that. */
export async function recordBackup(url: string, record: BackupRecord): Promise<void> {
  const row = { name: NAME, value: JSON.stringify(record) };
  if (!isPostgres(url)) {
    const raw = openAgain(sqlitePath(url));
    try {
      raw.pragma(`busy_timeout = ${WAIT_MS}`);
      raw.prepare('insert or replace into meta (name, value) values (:name, :value)').run(row);
    } finally {
      raw.close();
    }
    return;
  }
  const database = await openDatabase(url);
  try {
    await database.db
      .insertInto('meta')
      .values(row)
      .onConflict((conflict) => conflict.column('name').doUpdateSet(row))
      .execute();
  } finally {
    await closeDatabase(database);
  }
}

/** The last backup that was made of this keystore; `null`: none that is known of. A backup holds the note of itself. */
export async function lastBackup(store: Pick<Store, 'db'>): Promise<BackupRecord | null> {
  const value = await readMeta(store, NAME);
  return value === undefined ? null : recordSchema.parse(JSON.parse(value));
}
