import { type Kysely, sql, type Transaction } from 'kysely';
import { isPostgres } from '../shared/keystore-url.ts';
import { closeDatabase, type OpenDatabase, openDatabase } from './database.ts';
import { KeystoreError } from './errors.ts';
import type { Schema } from './schema.ts';

/** How far a copy is. */
export type CopyProgress = {
  phase: 'comparing' | 'copying' | 'verifying';
  table: string;
  /** Rows of this table that are done, of how many. */
  done: number;
  total: number;
};

/** What a copy came to: rows by table, and how many of all had to be written. */
export type Copied = { tables: { name: string; rows: number }[]; rows: number; written: number };

type Row = Record<string, unknown>;

/**
 * All tables but the change notices and the batches of usage, which are for who was there when they were written; each after
 * those it refers to.
 * `lasting`: its rows are never deleted, so one that is in the target only was made there.
 */
const TABLES: readonly { name: keyof Schema; key: readonly [string, ...string[]]; lasting?: true }[] = [
  { name: 'meta', key: ['name'] },
  { name: 'customers', key: ['id'], lasting: true },
  { name: 'subscriptions', key: ['id'], lasting: true },
  { name: 'keys', key: ['id'], lasting: true },
  { name: 'purchases', key: ['id'] },
  { name: 'reveals', key: ['purchase_id'] },
  { name: 'payments', key: ['charge_id'] },
  { name: 'income', key: ['id', 'price_id'], lasting: true },
  { name: 'income_days', key: ['day', 'currency', 'plan_id'] },
  { name: 'recoveries', key: ['id'] },
  { name: 'devices', key: ['root_id', 'device_id'] },
  { name: 'trials', key: ['id'] },
  { name: 'licence_attempts', key: ['seq'] },
  { name: 'usage', key: ['key_id', 'hour'], lasting: true },
  { name: 'traffic_by_hour', key: ['hour', 'what', 'name'] },
  { name: 'traffic_by_day', key: ['day', 'what', 'name'] },
  { name: 'refusals', key: ['seq'] },
  { name: 'events', key: ['id'] },
  { name: 'audit', key: ['seq'], lasting: true },
  { name: 'console_users', key: ['name'], lasting: true },
  { name: 'console_sessions', key: ['token_hash'] },
];
type Table = (typeof TABLES)[number];

/** Rows read and written at once. */
const BATCH = 500;

/**
 * Makes a keystore equal to another one, of whatever kind, row by row, and compares every row afterwards. The source may be in
 * use: it is copied as it is at one moment. What is equal already is not written again, so a copy that was interrupted goes on
 * where it was, and a second one takes what changed since the first.
 *
 * @param from, to addresses as `KEYSTORE_URL` has them; the target is made when missing
 * @throws KeystoreError `TARGET_IN_USE` before anything is written, when the target holds what the source does not;
 *   `COPY_DIFFERS` when a row is not equal in the end
 */
export async function copyKeystore(
  from: string,
  to: string,
  onProgress: (progress: CopyProgress) => void = () => {},
): Promise<Copied> {
  const source = await openDatabase(from);
  try {
    const target = await openDatabase(to);
    try {
      return await source.db
        .transaction()
        .setIsolationLevel('repeatable read')
        .setAccessMode('read only')
        .execute(async (snapshot) => {
          // It stands still for as long as the other one is written to.
          if (isPostgres(from))
            await sql`set local idle_in_transaction_session_timeout = 0`.execute(snapshot);
          return new Copy(snapshot, target, onProgress).run();
        });
    } finally {
      await closeDatabase(target);
    }
  } finally {
    await closeDatabase(source);
  }
}

class Copy {
  readonly #source: Transaction<Schema>;
  readonly #target: OpenDatabase;
  readonly #onProgress: (progress: CopyProgress) => void;

  constructor(
    source: Transaction<Schema>,
    target: OpenDatabase,
    onProgress: (progress: CopyProgress) => void,
  ) {
    this.#source = source;
    this.#target = target;
    this.#onProgress = onProgress;
  }

  async run(): Promise<Copied> {
    const gone = new Map<Table, Row[]>();
    for (const table of TABLES) gone.set(table, await this.#onlyInTarget(table));
    for (const table of TABLES.toReversed()) await this.#delete(table, gone.get(table) as Row[]);
    let written = 0;
    for (const table of TABLES) written += await this.#copy(table);
    await this.#target.renumber();
    const tables: Copied['tables'] = [];
    for (const table of TABLES) tables.push({ name: table.name, rows: await this.#verify(table) });
    return { tables, rows: tables.reduce((sum, { rows }) => sum + rows, 0), written };
  }

  /** Rows that the source had and has no longer. */
  async #onlyInTarget(table: Table): Promise<Row[]> {
    const { db } = this.#target;
    const gone: Row[] = [];
    for await (const rows of this.#pages('comparing', table, db)) {
      const there = await counterparts(this.#source, table, rows);
      for (const row of rows) {
        const original = there.get(keyOf(table, row));
        if (table.lasting && isOfItsOwn(table, row, original)) {
          throw new KeystoreError(
            `${this.#target.name} has been in use: it has ${table.name} that the source does not have. Nothing was changed. Copy to an empty database or schema (?schema=...).`,
            'TARGET_IN_USE',
          );
        }
        if (original === undefined) gone.push(row);
      }
    }
    return gone;
  }

  async #delete(table: Table, rows: readonly Row[]): Promise<void> {
    for (const row of rows) {
      const where = table.key.map((column) => sql`${sql.ref(column)} = ${row[column]}`);
      await sql`delete from ${sql.table(table.name)} where ${sql.join(where, sql` and `)}`.execute(
        this.#target.db,
      );
    }
  }

  async #copy(table: Table): Promise<number> {
    const { db, enter } = this.#target;
    let written = 0;
    for await (const rows of this.#pages('copying', table, this.#source)) {
      const there = await counterparts(db, table, rows);
      const missing = rows.filter((row) => textOf(row) !== textOf(there.get(keyOf(table, row))));
      if (missing.length === 0) continue;
      await db.transaction().execute(async (trx) => {
        await enter(trx, 'alone');
        await put(trx, table, missing);
      });
      written += missing.length;
    }
    return written;
  }

  async #verify(table: Table): Promise<number> {
    const { db } = this.#target;
    let count = 0;
    for await (const rows of this.#pages('verifying', table, this.#source)) {
      const there = await counterparts(db, table, rows);
      const differing = rows.find((row) => textOf(row) !== textOf(there.get(keyOf(table, row))));
      if (differing !== undefined) throw this.#differs(table, `the row ${keyOf(table, differing)}`);
      count += rows.length;
    }
    const inTarget = await countOf(db, table);
    if (inTarget !== count)
      throw this.#differs(table, `the number of rows (${inTarget} instead of ${count})`);
    return count;
  }

  #differs({ name }: Table, what: string): KeystoreError {
    return new KeystoreError(
      `The copy is not equal to its source: in ${name}, ${what}. Is anything else writing to ${this.#target.name}? Run the copy again.`,
      'COPY_DIFFERS',
    );
  }

  /** All rows of a table, in the order of its key. */
  async *#pages(
    phase: CopyProgress['phase'],
    table: Table,
    db: Kysely<Schema>,
  ): AsyncGenerator<readonly Row[]> {
    const total = await countOf(db, table);
    const columns = sql.join(table.key.map((column) => sql.ref(column)));
    let last: Row | undefined;
    for (let done = 0; ; ) {
      const after =
        last === undefined
          ? sql``
          : sql`where (${columns}) > (${sql.join(table.key.map((column) => (last as Row)[column]))})`;
      const { rows } = await sql<Row>`
        select * from ${sql.table(table.name)} ${after} order by ${columns} limit ${sql.lit(BATCH)}`.execute(
        db,
      );
      if (rows.length === 0) return;
      yield rows;
      done += rows.length;
      last = rows.at(-1);
      this.#onProgress({ phase, table: table.name, done, total: Math.max(total, done) });
    }
  }
}

/** Whether a row of the target was made, or has grown, there. */
function isOfItsOwn({ name }: Table, row: Row, original: Row | undefined): boolean {
  if (original === undefined) return true;
  // An entry of the audit log stays as it is, and usage only grows.
  if (name === 'audit') return textOf(row) !== textOf(original);
  return name === 'usage' && Number(row.requests) > Number(original.requests);
}

/** The rows of the same keys in another database, and perhaps some more. */
async function counterparts(
  db: Kysely<Schema>,
  table: Table,
  rows: readonly Row[],
): Promise<Map<string, Row>> {
  const [first] = table.key;
  const values = [...new Set(rows.map((row) => row[first]))];
  const found = await sql<Row>`
    select * from ${sql.table(table.name)} where ${sql.ref(first)} in (${sql.join(values)})`.execute(db);
  return new Map(found.rows.map((row) => [keyOf(table, row), row]));
}

async function put(trx: Transaction<Schema>, { name, key }: Table, rows: readonly Row[]): Promise<void> {
  const columns = Object.keys(rows[0] as Row);
  const refs = (names: readonly string[]) => sql.join(names.map((column) => sql.ref(column)));
  const values = rows.map((row) => sql`(${sql.join(columns.map((column) => row[column]))})`);
  const others = columns.filter((column) => !key.includes(column));
  const set = others.map((column) => sql`${sql.ref(column)} = ${sql.ref(`excluded.${column}`)}`);
  await sql`
    insert into ${sql.table(name)} (${refs(columns)}) values ${sql.join(values)}
    on conflict (${refs(key)}) do update set ${sql.join(set)}`.execute(trx);
}

async function countOf(db: Kysely<Schema>, { name }: Table): Promise<number> {
  const { rows } = await sql<{ n: number }>`select count(*) as n from ${sql.table(name)}`.execute(db);
  return Number(rows[0]?.n);
}

function keyOf({ key }: Table, row: Row): string {
  return key.map((column) => String(row[column])).join(' ');
}

/** A row as text that is the same for equal rows, whatever database they come from. */
function textOf(row: Row | undefined): string {
  if (row === undefined) return '';
  return JSON.stringify(
    Object.keys(row)
      .sort()
      .map((column) => {
        const value = row[column];
        return [column, value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value];
      }),
  );
}
