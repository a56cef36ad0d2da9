import type { Kysely } from 'kysely';
import { Migrator } from 'kysely/migration';
import { KeystoreOpenError } from './errors.ts';
import { type MigrationSql, migrations } from './migrations.ts';
import type { Schema } from './schema.ts';

/**
 * Brings the schema of a database up to date.
 *
 * @param where.name what to call the database in messages
 * @param where.schema the schema of the tables, in databases that have several
 * @throws KeystoreOpenError when a newer version wrote it
 */
export async function migrate(
  db: Kysely<Schema>,
  { name, schema, sql }: { name: string; schema?: string; sql: MigrationSql },
): Promise<void> {
  const known = migrations(sql);
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (tables.some((table) => table.name === 'kysely_migration' && table.schema === schema)) {
    const applied = await (db as unknown as Kysely<{ kysely_migration: { name: string } }>)
      .selectFrom('kysely_migration')
      .select('name')
      .execute();
    const unknown = applied.find((migration) => !(migration.name in known));
    if (unknown) {
      throw new KeystoreOpenError(
        `${name} was written by a newer version of Tollgate (it has "${unknown.name}"). Update this program.`,
        'NEWER_THAN_CODE',
      );
    }
    if (applied.length === Object.keys(known).length) return;
  }
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => known },
    ...(schema === undefined ? {} : { migrationTableSchema: schema }),
  });
  const { error } = await migrator.migrateToLatest();
  if (error) throw error;
}
