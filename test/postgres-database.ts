import pg from 'pg';
import { POSTGRES_SERVER } from './services.ts';

const NAME = `tollgate_test_${process.pid}_${Date.now()}`;

/** Gives a test run a PostgreSQL database of its own, and removes it in the end. Without a server, its tests are skipped. */
export async function setup(): Promise<void> {
  try {
    await onServer(`create database ${NAME}`);
    // It does not outlast the run: nobody has to wait for the disk.
    await onServer(`alter database ${NAME} set synchronous_commit to off`);
  } catch (error) {
    process.env.TEST_POSTGRES_MISSING = `no PostgreSQL at ${POSTGRES_SERVER}: ${(error as Error).message || (error as { code?: string }).code}`;
    return;
  }
  const address = new URL(POSTGRES_SERVER);
  address.pathname = `/${NAME}`;
  process.env.TEST_POSTGRES_URL = address.href;
}

export async function teardown(): Promise<void> {
  if (process.env.TEST_POSTGRES_URL) await onServer(`drop database ${NAME} with (force)`);
}

async function onServer(sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: POSTGRES_SERVER, connectionTimeoutMillis: 3000 });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
