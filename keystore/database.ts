import type { Kysely, RawBuilder, Transaction } from 'kysely';
import { isPostgres, sqlitePath } from '../shared/keystore-url.ts';
import type { FeedSource } from './change-feed.ts';
import type { Schema } from './schema.ts';
import { openSqlite } from './sqlite.ts';
import type { AddUsage } from './usage-ledger.ts';

/** A database behind the keystore, with what differs from one kind to the next. */
export type OpenDatabase = {
  /** What to call it in messages: a path, or an address without its password. */
  name: string;
  db: Kysely<Schema>;
  /** The same for writes that may take the disk's time: nothing else in this process waits for them. */
  writer: Kysely<Schema>;
  /** Adds usage to the ledger, all of it or nothing, with as little of it as can be in the way of this process. */
  addUsage: AddUsage;
  feed: FeedSource;
  /** Rows `key` and `value` of a JSON object, as a table in parentheses. */
  entriesOf(json: string): RawBuilder<unknown>;
  /** What is in a JSON list, as a query in parentheses. */
  valuesOf(json: string): RawBuilder<string>;
  /**
   * Begins a transaction: `alone` waits until no other process is in one, and keeps all others out until it is over;
   * `together` lets others that are entered so in beside it. What is read after it includes all that was committed before.
   */
  enter(trx: Transaction<Schema>, how: 'alone' | 'together'): Promise<void>;
  /** Tells the change feeds of all processes, once the transaction is committed, that there is something to read. */
  announce(trx: Transaction<Schema>): Promise<void>;
  /** Has numbers that the database gives go on after the highest there is, once rows with numbers of their own were put in. */
  renumber(): Promise<void>;
};

/** Closes all connections to a database. */
export async function closeDatabase({ feed, writer, db }: OpenDatabase): Promise<void> {
  for (const each of new Set([feed.db, writer, db])) await each.destroy();
}

/**
 * Opens the database of a keystore and brings its schema up to date.
 *
 * @param url `sqlite:<path>` or `postgres://...`
 * @throws KeystoreOpenError when it cannot be used, with the remedy in its message
 */
export async function openDatabase(url: string): Promise<OpenDatabase> {
  if (!isPostgres(url)) return openSqlite(sqlitePath(url));
  // Its driver costs a process that does not need it time at the start, and memory.
  const { openPostgres } = await import('./postgres.ts');
  return openPostgres(url);
}
