import { isAbsolute, resolve } from 'node:path';

/** A PostgreSQL keystore's address, taken apart. */
export type PostgresAddress = {
  /** What to call it in messages: without password and options. */
  name: string;
  /** For the driver: without the options that are only ours. */
  connectionString: string;
  /** The schema that holds the tables. */
  schema: string;
  /** Connections at most, of each process. */
  pool: number;
};

const DEFAULT_SCHEMA = 'tollgate';
/** Enough to keep a database busy from one process; eleven processes then fit into the hundred connections of a small server. */
const DEFAULT_POOL = 8;
const MAX_POOL = 100;

/** Whether a keystore's address is one of a PostgreSQL database. */
export function isPostgres(keystoreUrl: string): boolean {
  return /^postgres(ql)?:/.test(keystoreUrl);
}

/** The file of a `sqlite:` keystore address, absolute. */
export function sqlitePath(keystoreUrl: string): string {
  return resolve(pathIn(keystoreUrl));
}

/** Whether a `sqlite:` keystore address names the same file from every folder. */
export function isAbsolutePath(keystoreUrl: string): boolean {
  return isAbsolute(pathIn(keystoreUrl));
}

/** What to call a keystore in messages: its file, absolute, or its address without password and options. */
export function keystoreName(keystoreUrl: string): string {
  return isPostgres(keystoreUrl) ? postgresAddress(keystoreUrl).name : sqlitePath(keystoreUrl);
}

function pathIn(keystoreUrl: string): string {
  return keystoreUrl.replace(/^sqlite:(\/\/(?=\/))?/, '');
}

/** What is wrong with a keystore's address, without any part of it that is secret; `null`: nothing. */
export function keystoreUrlFault(url: string): string | null {
  if (/^sqlite:.+/.test(url)) return null;
  if (!isPostgres(url)) return 'is not the address of a keystore: it begins with sqlite: or postgres://';
  try {
    postgresAddress(url);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Takes apart `postgres://user:password@host:port/database?options`. Options of ours are `schema` (default `tollgate`) and
 * `pool` (connections of each process, default 8); all others are the driver's, such as `sslmode` and `sslrootcert`.
 *
 * @throws Error saying what is wrong with it, without any part of it that is secret
 */
export function postgresAddress(url: string): PostgresAddress {
  if (!URL.canParse(url)) throw new Error('is not an address');
  const parsed = new URL(url);
  const schema = parsed.searchParams.get('schema') ?? DEFAULT_SCHEMA;
  const pool = Number(parsed.searchParams.get('pool') ?? DEFAULT_POOL);
  if (!/^[a-z_][a-z0-9_]{0,40}$/.test(schema))
    throw new Error('has a "schema" that is not a plain lower-case name');
  if (!(Number.isInteger(pool) && pool >= 2 && pool <= MAX_POOL))
    throw new Error(`has a "pool" that is not a whole number from 2 to ${MAX_POOL}`);
  if (parsed.pathname.length < 2) throw new Error('names no database after the host');
  parsed.searchParams.delete('schema');
  parsed.searchParams.delete('pool');
  const { protocol, host, pathname, username } = parsed;
  const inSchema = schema === DEFAULT_SCHEMA ? '' : ` (schema ${schema})`;
  return {
    name: `${protocol}//${username && `${username}@`}${host}${pathname}${inSchema}`,
    connectionString: parsed.href,
    schema,
    pool,
  };
}

/** Whether what passes between here and the database is encrypted, or need not be, or the operator said that it is not. */
export function saysWhetherEncrypted(url: string): boolean {
  const { hostname, searchParams } = new URL(url);
  const local =
    hostname === '' || hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname);
  return (
    local ||
    searchParams.has('sslmode') ||
    searchParams.has('ssl') ||
    searchParams.get('host')?.startsWith('/') === true
  );
}
