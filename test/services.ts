import { randomBytes } from 'node:crypto';
import type { TestContext } from 'vitest';

/** A PostgreSQL server whose user may make databases. */
export const POSTGRES_SERVER =
  process.env.TEST_POSTGRES_SERVER ?? 'postgres://postgres@127.0.0.1:5432/postgres';

/** The address of a PostgreSQL keystore that does not exist yet. */
export function newPostgresUrl(): string {
  const url = new URL(process.env.TEST_POSTGRES_URL as string);
  url.searchParams.set('schema', `t_${randomBytes(8).toString('hex')}`);
  url.searchParams.set('pool', '4');
  return url.href;
}

/** For `beforeEach`: skips a test that needs PostgreSQL where there is none. */
export function needsPostgres({ skip }: Pick<TestContext, 'skip'>): void {
  if (process.env.TEST_POSTGRES_MISSING) skip(process.env.TEST_POSTGRES_MISSING);
}
