import { Kysely } from 'kysely';
import type { Schema } from './schema.ts';
import { type ClosableConnection, ImmediateSqliteDialect, SQLITE } from './sqlite-dialect.ts';
import { type AddUsage, addUsage } from './usage-ledger.ts';

/** Adds usage over a connection, on which no other transaction may be under way. */
export function ledgerOver(connection: ClosableConnection): AddUsage {
  const writer = new Kysely<Schema>({ dialect: new ImmediateSqliteDialect(connection) });
  return (usage) => addUsage({ ...SQLITE, writer }, usage);
}
