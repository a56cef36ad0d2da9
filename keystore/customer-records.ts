import { sql } from 'kysely';
import type { SubscriptionStatus } from '../shared/access.ts';
import type { Store } from './store.ts';

/** A customer as the operator sees one. Times are milliseconds since the epoch. */
export type CustomerRecord = {
  id: string;
  stripeCustomerId: string | null;
  email: string | null;
  createdAt: number;
};

/** How many customers may have one e-mail address. */
const MATCHES = 500;

/**
 * Customers, newest first.
 *
 * @param filter.matching only those whose e-mail, id or id at Stripe, subscription or key is this
 * @param filter.before only those older than this one, for paging
 */
export async function browseCustomers(
  store: Store,
  filter: { limit: number; matching?: string; before?: { createdAt: number; id: string } },
): Promise<CustomerRecord[]> {
  const { limit, matching, before } = filter;
  const ids = matching === undefined ? undefined : await idsOf(store, matching);
  let query = recordsOf(store)
    // The plus keeps the database from going through all customers in this order to find those of a few ids.
    .orderBy(ids ? sql`+created_at` : 'created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit);
  if (ids) query = query.where('id', 'in', store.valuesOf(JSON.stringify(ids)));
  if (before) query = query.where(sql<boolean>`(created_at, id) < (${before.createdAt}, ${before.id})`);
  return query.execute();
}

/** A customer by our id. */
export async function findCustomerRecord(store: Store, id: string): Promise<CustomerRecord | undefined> {
  return recordsOf(store).where('id', '=', id).executeTakeFirst();
}

/** A customer's subscriptions, the newest first. */
export async function subscriptionsOf(
  store: Store,
  customerId: string,
): Promise<{ id: string; planId: string; status: SubscriptionStatus; currentPeriodEnd: number | null }[]> {
  return store.db
    .selectFrom('subscriptions')
    .select(['id', 'plan_id as planId', 'status', 'current_period_end as currentPeriodEnd'])
    .where('customer_id', '=', customerId)
    .orderBy('created_at', 'desc')
    .orderBy('id')
    .execute();
}

function recordsOf({ db }: Store) {
  return db
    .selectFrom('customers')
    .select(['id', 'stripe_customer_id as stripeCustomerId', 'email', 'created_at as createdAt']);
}

/** Customers that something names, as a query for their ids: one index after the other. */
export function customersNamed(text: string) {
  return sql`
    select id from customers where id = ${text}
    union select id from customers where stripe_customer_id = ${text}
    union select id from customers where lower(email) = lower(${text})`;
}

async function idsOf({ db }: Store, text: string): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    ${customersNamed(text)}
    union select customer_id as id from subscriptions where id = ${text}
    union select customer_id as id from keys where id = ${text} and customer_id is not null
    limit ${sql.lit(MATCHES)}`.execute(db);
  return rows.map(({ id }) => id);
}
