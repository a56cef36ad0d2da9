import { crc32 } from 'node:zlib';
import { Kysely, PostgresDialect, sql, type Transaction } from 'kysely';
import { type PostgresAddress, postgresAddress } from '../shared/keystore-url.ts';
import type { OpenDatabase } from './database.ts';
import { type KeystoreError, KeystoreOpenError } from './errors.ts';
import { migrate } from './migrate.ts';
import { POSTGRES_SQL } from './migrations.ts';
import { openPool } from './postgres-pool.ts';
import type { Schema } from './schema.ts';
import { addUsage } from './usage-ledger.ts';

/** How long a statement may take, milliseconds. Those here take a few. */
const LIMIT_MS = 10_000;
/** The change feed has a connection of its own, and no patience: it is how a gateway notices that the database is away. */
const FEED_LIMIT_MS = 2000;
/** How often it looks, should a notification have been lost. */
const FEED_POLL_MS = 500;

/** "TLGT": the first half of the advisory locks' names; the other says which keystore of the database is meant. */
const OURS = 0x544c4754;

/**
 * Opens a keystore in a PostgreSQL database, in a schema of its own that is made when missing, and brings it up to date. Of
 * any number of processes that do so at the same moment, one does the work.
 *
 * @throws KeystoreOpenError when it cannot be reached, used, or is newer than this code
 */
export async function openPostgres(url: string): Promise<OpenDatabase> {
  const address = postgresAddress(url);
  const { name, schema, connectionString, pool } = address;
  await prepare(address);
  const db = kysely({ connectionString, schema, max: pool, limitMs: LIMIT_MS });
  let wake = () => {};
  const notices = channelOf(schema);
  const feedDb = kysely({
    connectionString,
    schema,
    max: 1,
    limitMs: FEED_LIMIT_MS,
    onConnect(client) {
      client.on('notification', () => wake());
      // What fails here fails again with the next statement, whose error somebody sees.
      client.query(`listen ${notices}`).catch(() => {});
    },
  });
  const lock = crc32(schema) | 0;
  const dialect: Pick<OpenDatabase, 'entriesOf' | 'valuesOf' | 'enter'> = {
    entriesOf: (json) => sql`json_each_text(${json}::json)`,
    valuesOf: (json) => sql`(select value from json_array_elements_text(${json}::json))`,
    async enter(trx: Transaction<Schema>, how) {
      await (how === 'alone'
        ? sql`select pg_advisory_xact_lock(${OURS}::int, ${lock}::int)`
        : sql`select pg_advisory_xact_lock_shared(${OURS}::int, ${lock}::int)`
      ).execute(trx);
    },
  };
  return {
    ...dialect,
    name,
    db,
    writer: db,
    addUsage: (usage) => addUsage({ ...dialect, writer: db }, usage),
    feed: {
      db: feedDb,
      pollMs: FEED_POLL_MS,
      // A look is one indexed read, and also shows that the database is there.
      mayHaveChanged: () => true,
      onNotice(listener) {
        wake = listener;
      },
    },
    async announce(trx: Transaction<Schema>) {
      await sql`select pg_notify(${notices}, '')`.execute(trx);
    },
    async renumber() {
      for (const table of ['audit', 'licence_attempts', 'refusals']) {
        await sql`select setval(pg_get_serial_sequence(${table}, 'seq'), max(seq)) from ${sql.table(table)}`.execute(
          db,
        );
      }
    },
  };
}

/** Makes the schema and brings it up to date, one process after the other. */
async function prepare({ name, schema, connectionString }: PostgresAddress): Promise<void> {
  const db = kysely({ connectionString, schema, max: 2, limitMs: null });
  try {
    await db.transaction().execute(async (trx) => {
      await sql`select pg_advisory_xact_lock(${OURS}::int, ${~crc32(schema)}::int)`.execute(trx);
      const exists = await sql`select 1 from pg_namespace where nspname = ${schema}`.execute(trx);
      // Outside of this transaction, which only holds the lock.
      if (exists.rows.length === 0) await db.schema.createSchema(schema).ifNotExists().execute();
      await migrate(db, { name, schema, sql: POSTGRES_SQL });
    });
  } catch (error) {
    throw openError(name, schema, error);
  } finally {
    await db.destroy();
  }
}

function kysely(settings: Parameters<typeof openPool>[0]): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: new PostgresDialect({ pool: openPool(settings) }) });
}

function channelOf(schema: string): string {
  return `tollgate_changes_${schema}`;
}

function openError(name: string, schema: string, error: unknown): KeystoreOpenError {
  if (error instanceof KeystoreOpenError) return error;
  const { code = 'UNKNOWN', message } = error as KeystoreError;
  return new KeystoreOpenError(
    `${name} cannot be opened as a keystore: ${remedy(code, schema, message)}`,
    code,
    {
      cause: error,
    },
  );
}

/** What to do about it, by SQLSTATE or Node's code. */
function remedy(code: string, schema: string, message: string): string {
  switch (code) {
    case 'ECONNREFUSED':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'ETIMEDOUT':
    case 'UNREACHABLE':
      return `no PostgreSQL answers there (${code}). Check the host and port in KEYSTORE_URL, and that the server is up.`;
    case '28P01':
    case '28000':
      return 'the server does not let this user in. Check the user name and password in KEYSTORE_URL.';
    case '3D000':
      return 'there is no such database. Create it (createdb), or check its name in KEYSTORE_URL.';
    case '42501':
      return `this user may not create or use the schema "${schema}" there. Grant it CREATE on the database, or create the schema for it.`;
    default:
      return message;
  }
}
