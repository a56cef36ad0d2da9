import { type ColumnDefinitionBuilder, type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';

type Column = (column: ColumnDefinitionBuilder) => ColumnDefinitionBuilder;

/** What migrations need to know of the database they run on. */
export type MigrationSql = {
  /** A 64-bit primary key that counts up and never reuses a number, and the type of its column. */
  autoId: Column;
  autoIdType: 'integer' | 'bigint';
  bytes: 'blob' | 'bytea';
};

export const SQLITE_SQL: MigrationSql = {
  autoId: (column) => column.primaryKey().autoIncrement(),
  autoIdType: 'integer',
  bytes: 'blob',
};

export const POSTGRES_SQL: MigrationSql = {
  // By default only: rows that come from another keystore keep their numbers.
  autoId: (column) => column.primaryKey().generatedByDefaultAsIdentity(),
  autoIdType: 'bigint',
  bytes: 'bytea',
};

/** Every schema change, in order. A landed migration is never edited: a change is a new one. */
export function migrations({ autoId, autoIdType, bytes }: MigrationSql): Record<string, Migration> {
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
          .addColumn('sealed', bytes)
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
          .addColumn('seq', autoIdType, autoId)
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
          .addColumn('seq', autoIdType, autoId)
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
    '0004_licences': {
      async up(db: Kysely<unknown>) {
        await db.schema
          .createTable('devices')
          .addColumn('root_id', 'text', (column) => column.notNull().references('keys.id'))
          .addColumn('device_id', 'text', required)
          .addColumn('name', 'text')
          .addColumn('activated_at', 'bigint', required)
          .addColumn('last_seen_at', 'bigint', required)
          .addColumn('released_at', 'bigint')
          .addPrimaryKeyConstraint('devices_pk', ['root_id', 'device_id'])
          .execute();

        await db.schema
          .createTable('trials')
          .addColumn('id', 'text', id)
          .addColumn('mode', 'text', required)
          .addColumn('plan_id', 'text', required)
          .addColumn('email', 'text')
          .addColumn('email_hash', 'text')
          .addColumn('device_hash', 'text', required)
          .addColumn('code_hash', 'text')
          .addColumn('code_tries', 'integer', required)
          .addColumn('key_id', 'text', (column) => column.references('keys.id'))
          .addColumn('created_at', 'bigint', required)
          .addColumn('expires_at', 'bigint', required)
          .addColumn('began_at', 'bigint')
          .execute();
        await db.schema.createIndex('trials_email').on('trials').column('email_hash').execute();
        await db.schema.createIndex('trials_device').on('trials').column('device_hash').execute();

        await db.schema
          .createTable('licence_attempts')
          .addColumn('seq', autoIdType, autoId)
          .addColumn('at', 'bigint', required)
          .addColumn('key_id', 'text', required)
          .addColumn('action', 'text', required)
          .addColumn('device_id', 'text')
          .addColumn('outcome', 'text', required)
          .addColumn('address', 'text')
          .execute();
        await db.schema
          .createIndex('licence_attempts_key')
          .on('licence_attempts')
          .columns(['key_id', 'seq'])
          .execute();
        await db.schema.createIndex('licence_attempts_at').on('licence_attempts').column('at').execute();
      },
    },
    '0005_purchases_by_program': {
      async up(db: Kysely<unknown>) {
        await db.schema.alterTable('purchases').addColumn('claim_hash', 'text').execute();
        await db.schema.alterTable('purchases').addColumn('session_sealed', bytes).execute();
        await db.schema.alterTable('reveals').addColumn('claimed_by', 'text').execute();
      },
    },
    '0006_refusals': {
      async up(db: Kysely<unknown>) {
        await db.schema
          .createTable('refusals')
          .addColumn('seq', autoIdType, autoId)
          .addColumn('at', 'bigint', required)
          .addColumn('request_id', 'text', required)
          .addColumn('key_id', 'text', required)
          .addColumn('code', 'text', required)
          .addColumn('detail', 'text')
          .addColumn('method', 'text', required)
          .addColumn('host', 'text', required)
          .addColumn('path', 'text', required)
          .addColumn('route', 'text')
          .addColumn('address', 'text', required)
          .execute();
        await db.schema.createIndex('refusals_key').on('refusals').columns(['key_id', 'seq']).execute();
        await db.schema.createIndex('refusals_request').on('refusals').column('request_id').execute();
        await db.schema.createIndex('refusals_at').on('refusals').column('at').execute();
        await db.schema.alterTable('events').addColumn('request_id', 'text').execute();
      },
    },
    '0007_console': {
      async up(db: Kysely<unknown>) {
        await db.schema
          .createTable('console_users')
          .addColumn('name', 'text', id)
          .addColumn('password_hash', 'text', required)
          .addColumn('created_at', 'bigint', required)
          .addColumn('disabled_at', 'bigint')
          .execute();
        await db.schema
          .createTable('console_sessions')
          .addColumn('token_hash', 'text', id)
          .addColumn('user_name', 'text', (column) => column.notNull().references('console_users.name'))
          .addColumn('created_at', 'bigint', required)
          .addColumn('last_seen_at', 'bigint', required)
          .execute();
        await db.schema
          .createIndex('console_sessions_user')
          .on('console_sessions')
          .column('user_name')
          .execute();
        await db.schema.alterTable('audit').addColumn('address', 'text').execute();
        await db.schema
          .createIndex('keys_revoked')
          .on('keys')
          .columns(['created_at', 'id'])
          .where(sql.ref('revoked_at'), 'is not', null)
          .execute();
        await db.schema.createIndex('keys_last_four').on('keys').column('last_four').execute();
        await db.schema
          .createIndex('customers_email_folded')
          .on('customers')
          .expression(sql`lower(email)`)
          .execute();
        await db.schema.createIndex('events_received').on('events').columns(['received_at', 'id']).execute();
        await db.schema
          .createIndex('events_type_received')
          .on('events')
          .columns(['type', 'received_at', 'id'])
          .execute();
        await db.schema
          .createIndex('events_status_received')
          .on('events')
          .columns(['status', 'received_at', 'id'])
          .execute();
        await db.schema
          .createIndex('purchases_created')
          .on('purchases')
          .columns(['created_at', 'id'])
          .execute();
        await db.schema
          .createIndex('purchases_status_created')
          .on('purchases')
          .columns(['status', 'created_at', 'id'])
          .execute();
        await db.schema.createIndex('purchases_customer').on('purchases').column('customer_id').execute();
        await db.schema
          .createIndex('customers_created')
          .on('customers')
          .columns(['created_at', 'id'])
          .execute();
        await db.schema
          .createIndex('subscriptions_customer')
          .on('subscriptions')
          .column('customer_id')
          .execute();
      },
    },
    '0008_key_overrides': {
      async up(db: Kysely<unknown>) {
        const add = (name: string, type: 'text' | 'bigint') =>
          db.schema.alterTable('keys').addColumn(name, type).execute();
        await add('suspended_at', 'bigint');
        await add('suspended_note', 'text');
        await add('override_limits', 'text');
        await add('override_quota', 'bigint');
        await db.schema
          .createIndex('keys_suspended')
          .on('keys')
          .columns(['created_at', 'id'])
          .where(sql.ref('suspended_at'), 'is not', null)
          .execute();
      },
    },
    '0009_traffic': {
      async up(db: Kysely<unknown>) {
        for (const [table, time] of [
          ['traffic_by_hour', 'hour'],
          ['traffic_by_day', 'day'],
        ] as const) {
          await db.schema
            .createTable(table)
            .addColumn(time, 'integer', required)
            .addColumn('what', 'text', required)
            .addColumn('name', 'text', required)
            .addColumn('count', 'bigint', required)
            .addPrimaryKeyConstraint(`${table}_pk`, [time, 'what', 'name'])
            .execute();
        }
      },
    },
    '0010_income': {
      async up(db: Kysely<unknown>) {
        await db.schema
          .createTable('income')
          .addColumn('id', 'text', required)
          .addColumn('price_id', 'text', required)
          .addColumn('plan_id', 'text', required)
          .addColumn('mode', 'text', required)
          .addColumn('subscription_id', 'text')
          .addColumn('stripe_customer_id', 'text')
          .addColumn('currency', 'text', required)
          .addColumn('amount', 'bigint', required)
          .addColumn('given_back', 'bigint', required)
          .addColumn('paid_at', 'bigint', required)
          .addColumn('fetched_at', 'bigint', required)
          .addPrimaryKeyConstraint('income_pk', ['id', 'price_id'])
          .execute();
        await db.schema
          .createTable('income_days')
          .addColumn('day', 'integer', required)
          .addColumn('currency', 'text', required)
          .addColumn('plan_id', 'text', required)
          .addColumn('amount', 'bigint', required)
          .addColumn('given_back', 'bigint', required)
          .addColumn('payments', 'bigint', required)
          .addPrimaryKeyConstraint('income_days_pk', ['day', 'currency', 'plan_id'])
          .execute();
      },
    },
    '0011_totp': {
      async up(db: Kysely<unknown>) {
        await db.schema.alterTable('console_users').addColumn('totp_sealed', bytes).execute();
        await db.schema.alterTable('console_users').addColumn('totp_step', 'bigint').execute();
      },
    },
    '0012_usage_batches': {
      async up(db: Kysely<unknown>) {
        await db.schema
          .createTable('usage_batches')
          .addColumn('id', 'text', id)
          .addColumn('at', 'bigint', required)
          .execute();
        await db.schema.createIndex('usage_batches_at').on('usage_batches').column('at').execute();
      },
    },
  };
}
