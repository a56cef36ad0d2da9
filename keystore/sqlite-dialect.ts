import {
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type DialectAdapter,
  type Driver,
  type Kysely,
  CompiledQuery as Query,
  type QueryCompiler,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  sql,
  type TransactionSettings,
} from 'kysely';
import type { OpenDatabase } from './database.ts';

/** What SQLite says differently from others. */
export const SQLITE: Pick<OpenDatabase, 'entriesOf' | 'valuesOf' | 'enter'> = {
  entriesOf: (json) => sql`(select key, value from json_each(${json}))`,
  valuesOf: (json) => sql`(select value from json_each(${json}))`,
  // "begin immediate" has the file's only write lock already, and its data version tells of the rest.
  async enter() {},
};

/**
 * Kysely's SQLite dialect with what several processes on one file need: transactions that take the write lock at their
 * start (a later upgrade fails at once instead of waiting), migrations inside a transaction, errors of one kind.
 */
export class ImmediateSqliteDialect implements Dialect {
  readonly #connection: ClosableConnection;

  constructor(connection: ClosableConnection) {
    this.#connection = connection;
  }

  createDriver(): Driver {
    return new ImmediateSqliteDriver(this.#connection);
  }

  createQueryCompiler(): QueryCompiler {
    return new SqliteQueryCompiler();
  }

  createAdapter(): DialectAdapter {
    return new TransactionalSqliteAdapter();
  }

  createIntrospector(db: Kysely<unknown>): DatabaseIntrospector {
    return new SqliteIntrospector(db);
  }
}

export type ClosableConnection = DatabaseConnection & { close(): Promise<void> };

class TransactionalSqliteAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** All on one connection: Kysely gives it to one transaction at a time. */
class ImmediateSqliteDriver implements Driver {
  readonly #connection: ClosableConnection;

  constructor(connection: ClosableConnection) {
    this.#connection = connection;
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection;
  }

  async releaseConnection(): Promise<void> {}

  async beginTransaction(connection: DatabaseConnection, { accessMode }: TransactionSettings): Promise<void> {
    // One that only reads sees the file as it is at its first read, and holds up nobody.
    await connection.executeQuery(Query.raw(accessMode === 'read only' ? 'begin' : 'begin immediate'));
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(Query.raw('commit'));
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    try {
      await connection.executeQuery(Query.raw('rollback'));
    } catch (error) {
      // On a full disk or an I/O error SQLite has rolled back by itself; the first error is the one to report.
      if (!/no transaction is active/.test((error as Error).message)) throw error;
    }
  }

  async destroy(): Promise<void> {
    await this.#connection.close();
  }
}
