import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import pg from 'pg';
import { isPostgres, postgresAddress, sqlitePath } from '../shared/keystore-url.ts';

/** Runs one statement on a keystore's database, past the keystore. Its rows, if it has any. */
export async function rawQuery(url: string, sql: string): Promise<Record<string, unknown>[]> {
  if (isPostgres(url)) return withClient(url, async (client) => (await client.query(sql)).rows);
  const raw = new Database(sqlitePath(url), { timeout: 5000 });
  try {
    const statement = raw.prepare(sql);
    if (statement.reader) return statement.all() as Record<string, unknown>[];
    statement.run();
    return [];
  } finally {
    raw.close();
  }
}

/** All that a keystore keeps, as text: every byte of SQLite's files, or every row of every table. */
export async function everythingStored(url: string): Promise<string> {
  if (!isPostgres(url)) {
    const folder = dirname(sqlitePath(url));
    return readdirSync(folder)
      .map((name) => readFileSync(join(folder, name), 'latin1'))
      .join('');
  }
  return withClient(url, async (client) => {
    const tables = await client.query<{ name: string }>(
      'select table_name as name from information_schema.tables where table_schema = current_schema()',
    );
    let text = '';
    for (const { name } of tables.rows) {
      const { rows } = await client.query(`select row_to_json(${name}) as row from ${name}`);
      text += rows.map(({ row }) => JSON.stringify(row)).join('\n');
    }
    return text;
  });
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const { connectionString, schema } = postgresAddress(url);
  const client = new pg.Client({ connectionString, options: `-c search_path=${schema}` });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
