import { type ColumnDefinitionBuilder, type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';

type Column = (column: ColumnDefinitionBuilder) => ColumnDefinitionBuilder;

/** What migrations need to know of the database they run on. */
export type MigrationDialect = {
  /** A 64-bit primary key that counts up and never reuses a number. */
  autoId: (column: ColumnDefinitionBuilder) => ColumnDefinitionBuilder;
};

/** Every schema change, in order. A landed migration is never edited: a change is a new one. */
export function migrations({ autoId }: MigrationDialect): Record<string, Migration> {
  const id: Column = (column) => column.primaryKey();
  const required: Column = (column) => column.notNull();
  return {
    '0001_keystore': {
      async up(db: Kysely<unknown>) {
        await db.schema
          .createTable('meta')
          .addColumn('name', 'text', id)
          .addColumn('value', 'text', required)
          .execute();

        await db.schema
          .createTable('customers')
          .addColumn('id', 'text', id)
          .addColumn('mode', 'text', required)
          .addColumn('stripe_customer_id', 'text', (column) => column.unique())
          .addColumn('email', 'text')
          .addColumn('created_at', 'bigint', required)
          .addColumn('updated_at', 'bigint', required)
          .execute();
        await db.schema.createIndex('customers_email').on('customers').column('email').execute();

        await db.schema
          .createTable('subscriptions')
          .addColumn('id', 'text', id)
          .addColumn('mode', 'text', required)
          .addColumn('customer_id', 'text', (column) => column.notNull().references('customers.id'))
          .addColumn('plan_id', 'text', required)
          .addColumn('price_id', 'text', required)
          .addColumn('status', 'text', required)
          .addColumn('current_period_end', 'bigint')
          .addColumn('cancel_at_period_end', 'integer', required)
          .addColumn('past_due_since', 'bigint')
          .addColumn('fetched_at', 'bigint', required)
          .addColumn('created_at', 'bigint', required)
          .addColumn('updated_at', 'bigint', required)
          .execute();

        await db.schema
          .createTable('keys')
          .addColumn('id', 'text', id)
          .addColumn('root_id', 'text', required)
          .addColumn('mode', 'text', required)
          .addColumn('prefix', 'text', required)
          .addColumn('hash', 'text', required)
          .addColumn('tag', 'integer', required)
          .addColumn('last_four', 'text', required)
          .addColumn('plan_id', 'text', required)
          .addColumn('customer_id', 'text', (column) => column.references('customers.id'))
          .addColumn('subscription_id', 'text', (column) => column.references('subscriptions.id'))
          .addColumn('name', 'text')
          .addColumn('created_at', 'bigint', required)
          .addColumn('expires_at', 'bigint')
          .addColumn('revoked_at', 'bigint')
          .addColumn('revoked_reason', 'text')
          .addColumn('replaced_by', 'text')
          .execute();
        await db.schema.createIndex('keys_root').on('keys').column('root_id').execute();
        await db.schema.createIndex('keys_subscription').on('keys').column('subscription_id').execute();
        await db.schema.createIndex('keys_customer').on('keys').column('customer_id').execute();
        await db.schema.createIndex('keys_created').on('keys').columns(['created_at', 'id']).execute();

        await db.schema
          .createTable('purchases')
          .addColumn('id', 'text', id)
          .addColumn('session_hash', 'text', (column) => column.notNull().unique())
          .addColumn('mode', 'text', required)
          .addColumn('plan_id', 'text')
          .addColumn('price_id', 'text')
          .addColumn('status', 'text', required)
          .addColumn('failure', 'text')
          .addColumn('customer_id', 'text', (column) => column.references('customers.id'))
          .addColumn('subscription_id', 'text')
          .addColumn('key_id', 'text', (column) => column.unique().references('keys.id'))
          .addColumn('amount_total', 'bigint')
          .addColumn('currency', 'text')
          .addColumn('created_at', 'bigint', required)
          .addColumn('provisioned_at', 'bigint')
          .addColumn('updated_at', 'bigint', required)
          .execute();

        await db.schema
          .createTable('reveals')
          .addColumn('purchase_id', 'text', (column) => column.primaryKey().references('purchases.id'))
          .addColumn('key_id', 'text', (column) => column.notNull().unique().references('keys.id'))
          .addColumn('sealed', 'blob')
          .addColumn('created_at', 'bigint', required)
          .addColumn('expires_at', 'bigint', required)
          .addColumn('claimed_at', 'bigint')
          .execute();
        await db.schema.createIndex('reveals_expiry').on('reveals').column('expires_at').execute();

        await db.schema
          .createTable('usage')
          .addColumn('key_id', 'text', required)
          .addColumn('hour', 'integer', required)
          .addColumn('requests', 'bigint', required)
          .addColumn('refused', 'bigint', required)
          .addPrimaryKeyConstraint('usage_pk', ['key_id', 'hour'])
          .execute();

        await db.schema
          .createTable('events')
          .addColumn('id', 'text', id)
          .addColumn('type', 'text', required)
          .addColumn('mode', 'text', required)
          .addColumn('api_version', 'text')
          .addColumn('object_id', 'text')
          .addColumn('payload', 'text', required)
          .addColumn('status', 'text', required)
          .addColumn('outcome', 'text')
          .addColumn('attempts', 'integer', required)
          .addColumn('next_attempt_at', 'bigint', required)
          .addColumn('leased_by', 'text')
          .addColumn('leased_until', 'bigint')
          .addColumn('error', 'text')
          .addColumn('created_at', 'bigint', required)
          .addColumn('received_at', 'bigint', required)
          .addColumn('processed_at', 'bigint')
          .execute();
        await db.schema
          .createIndex('events_due')
          .on('events')
          .columns(['status', 'next_attempt_at'])
          .execute();
        await db.schema
          .createIndex('events_processed')
          .on('events')
          .columns(['status', 'processed_at'])
          .execute();
        await db.schema.createIndex('events_object').on('events').column('object_id').execute();

        await db.schema
          .createTable('audit')
          .addColumn('seq', 'integer', autoId)
          .addColumn('at', 'bigint', required)
          .addColumn('actor', 'text', required)
          .addColumn('action', 'text', required)
          .addColumn('key_id', 'text')
          .addColumn('customer_id', 'text')
          .addColumn('purchase_id', 'text')
          .addColumn('details', 'text')
          .execute();
        await db.schema.createIndex('audit_key').on('audit').columns(['key_id', 'seq']).execute();

        await db.schema
          .createIndex('purchases_updated')
          .on('purchases')
          .columns(['status', 'updated_at'])
          .execute();

        await db.schema
          .createTable('changes')
          .addColumn('seq', 'integer', autoId)
          .addColumn('key_id', 'text', required)
          .addColumn('at', 'bigint', required)
          .execute();
      },
    },
    '0002_life_of_a_subscription': {
      async up(db: Kysely<unknown>) {
        const one: Column = (column) => column.notNull().defaultTo(1);
        const add = (table: string, name: string, type: 'text' | 'integer' | 'bigint', column?: Column) =>
          db.schema.alterTable(table).addColumn(name, type, column).execute();
        await add('customers', 'entitlements', 'text');
        await add('customers', 'fetched_at', 'bigint');
        await add('customers', 'entitlements_fetched_at', 'bigint');
        await add('subscriptions', 'quantity', 'integer', one);
        await add('subscriptions', 'cancel_at', 'bigint');
        await add('subscriptions', 'trial_end', 'bigint');
        await add('purchases', 'payment_intent_id', 'text');
        await add('keys', 'quantity', 'integer', one);
        await add('keys', 'disputed_since', 'bigint');
        await add('keys', 'first_used_at', 'bigint');
        await add('events', 'group_key', 'text');
        const events = db as Kysely<{ events: { type: string; object_id: string; group_key: string } }>;
        await events
          .updateTable('events')
          .set({ object_id: sql<string>`'subscription:' || object_id` })
          .where('type', 'like', 'customer.subscription.%')
          .where('object_id', 'not like', '%:%')
          .execute();
        await events.updateTable('events').set({ group_key: sql<string>`coalesce(object_id, id)` }).execute();
        await db.schema.createIndex('keys_replaced_by').on('keys').column('replaced_by').execute();
        await db.schema.createIndex('purchases_intent').on('purchases').column('payment_intent_id').execute();
        await db.schema
          .createIndex('purchases_subscription')
          .on('purchases')
          .column('subscription_id')
          .execute();
        await db.schema
          .createIndex('events_group')
          .on('events')
          .columns(['group_key', 'status', 'leased_until'])
          .execute();

        await db.schema
          .createTable('payments')
          .addColumn('charge_id', 'text', id)
          .addColumn('mode', 'text', required)
          .addColumn('payment_intent_id', 'text')
          .addColumn('subscription_id', 'text')
          .addColumn('refunded_at', 'bigint')
          .addColumn('paid_until', 'bigint')
          .addColumn('dispute', 'text')
          .addColumn('disputed_since', 'bigint')
          .addColumn('fetched_at', 'bigint', required)
          .addColumn('created_at', 'bigint', required)
          .addColumn('updated_at', 'bigint', required)
          .execute();
        await db.schema.createIndex('payments_intent').on('payments').column('payment_intent_id').execute();
        await db.schema
          .createIndex('payments_subscription')
          .on('payments')
          .column('subscription_id')
          .execute();

        await db.schema.createIndex('payments_dispute').on('payments').column('dispute').execute();
        await db.schema
          .createTable('recoveries')
          .addColumn('id', 'text', id)
          .addColumn('key_id', 'text', (column) => column.notNull().references('keys.id'))
          .addColumn('created_at', 'bigint', required)
          .addColumn('expires_at', 'bigint', required)
          .addColumn('used_at', 'bigint')
          .execute();
        await db.schema.createIndex('recoveries_key').on('recoveries').column('key_id').execute();
        await db.schema.createIndex('recoveries_expiry').on('recoveries').column('expires_at').execute();
      },
    },
    '0003_allowed_addresses': {
      async up(db: Kysely<unknown>) {
        await db.schema.alterTable('keys').addColumn('allowed_addresses', 'text').execute();
      },
    },
  };
}
