import type { PostgresPool, PostgresPoolClient, PostgresQueryResult } from 'kysely';
import pg from 'pg';
import { KeystoreError } from './errors.ts';

/** How to reach a database, and what its connections may take. */
export type PoolSettings = {
  /** As libpq takes it, without what is only ours. */
  connectionString: string;
  schema: string;
  /** Connections at most. */
  max: number;
  /** How long a statement may take, and a connection to be made, milliseconds. `null`: a statement as long as it likes. */
  limitMs: number | null;
  /** Called for each connection that is made. */
  onConnect?: (client: pg.PoolClient) => void;
};

/** How long a connection may take where nothing else is said. */
const CONNECT_MS = 15_000;
/** How long a transaction may wait for a lock. */
const LOCK_MS = 5000;
/** How long a process may keep a transaction open without doing anything: a stopped one must not hold up all others. */
const IDLE_IN_TRANSACTION_MS = 5000;
/** How much longer than the server's own limit an answer is waited for: then the server is not there any more. */
const ANSWER_MARGIN_MS = 1000;
/** How often a server that is silent is asked whether it is still there. */
const KEEP_ALIVE_MS = 10_000;

/** Numbers of 64 bits as numbers: all here are counts and milliseconds, far below 2^53. */
const TYPES: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format: 'text' | 'binary') =>
    oid === pg.types.builtins.INT8 && format !== 'binary'
      ? Number
      : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};

/**
 * A pool of connections as Kysely takes it, whose errors are {@link KeystoreError}s with PostgreSQL's own code or Node's. A
 * connection on which anything but a statement failed is not used again.
 */
export function openPool(settings: PoolSettings): PostgresPool {
  const { connectionString, schema, max, limitMs, onConnect } = settings;
  const pool = new pg.Pool({
    connectionString,
    max,
    types: TYPES,
    application_name: 'tollgate',
    options: `-c search_path=${schema}`,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    // Of a server that takes connections and says nothing, nobody would ever hear.
    connectionTimeoutMillis: limitMs ?? CONNECT_MS,
    ...(limitMs === null
      ? {}
      : {
          statement_timeout: limitMs,
          query_timeout: limitMs + ANSWER_MARGIN_MS,
          lock_timeout: LOCK_MS,
          idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
        }),
  });
  // One that nobody uses has ended. Whoever needs one next gets another, or the error.
  pool.on('error', () => {});
  // Wrapped here, not when `connect()` has answered: that comes a moment later, and what the server says in between (that it
  // is going down) would be an error nobody listens to, which ends the process.
  pool.on('connect', (client) => {
    wrapped.set(client, wrap(client));
    onConnect?.(client);
  });
  return {
    options: pool.options,
    async connect() {
      try {
        return wrapped.get(await pool.connect()) as PostgresPoolClient;
      } catch (error) {
        throw keystoreError(error);
      }
    },
    end: () => pool.end(),
  };
}

/** One object for a connection as long as it lives: Kysely keeps what it knows of a connection by it. */
const wrapped = new WeakMap<pg.PoolClient, PostgresPoolClient>();

function wrap(client: pg.PoolClient): PostgresPoolClient {
  let broken: Error | undefined;
  client.on('error', (error) => {
    broken = error;
  });
  async function query<Row>(text: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<Row>> {
    try {
      return (await client.query(text, parameters as unknown[])) as unknown as PostgresQueryResult<Row>;
    } catch (error) {
      // Only the server's own word on a statement leaves the connection as it was.
      if (!(error instanceof pg.DatabaseError) || error.severity === 'FATAL') broken = error as Error;
      throw keystoreError(error);
    }
  }
  // Kysely asks for cursors only where it streams, which the keystore does not.
  return { query: query as PostgresPoolClient['query'], release: () => client.release(broken) };
}

/** Errors of PostgreSQL carry its SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
function keystoreError(cause: unknown): KeystoreError {
  const { code = 'UNREACHABLE', message } = cause as { code?: string; message: string };
  return new KeystoreError(`The keystore failed: ${message || code}`, code, { cause });
}
