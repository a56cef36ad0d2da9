import { sql } from 'kysely';
import { customersNamed } from './customer-records.ts';
import type { PurchaseStatus } from './schema.ts';
import type { Store } from './store.ts';

/** A purchase as the operator sees it. Times are milliseconds since the epoch. */
export type PurchaseRecord = {
  id: string;
  status: PurchaseStatus;
  failure: string | null;
  planId: string | null;
  priceId: string | null;
  customerId: string | null;
  email: string | null;
  subscriptionId: string | null;
  paymentIntentId: string | null;
  keyId: string | null;
  /** In the smallest unit of the currency. */
  amountTotal: number | null;
  currency: string | null;
  createdAt: number;
  provisionedAt: number | null;
};

/** How many purchases one thing that is searched for may lead to. */
const MATCHES = 500;

/**
 * Purchases, newest first.
 *
 * @param filter.matching only those whose id, e-mail, customer, subscription, payment or key is this
 * @param filter.before only those older than this one, for paging
 */
export async function browsePurchases(
  store: Store,
  filter: {
    limit: number;
    status?: PurchaseStatus;
    matching?: string;
    before?: { createdAt: number; id: string };
  },
): Promise<PurchaseRecord[]> {
  const { limit, status, matching, before } = filter;
  const ids = matching === undefined ? undefined : await idsOf(store, matching);
  let query = recordsOf(store)
    // The plus keeps the database from going through all purchases in this order to find those of a few ids.
    .orderBy(ids ? sql`+purchases.created_at` : 'purchases.created_at', 'desc')
    .orderBy('purchases.id', 'desc')
    .limit(limit);
  if (ids) query = query.where('purchases.id', 'in', store.valuesOf(JSON.stringify(ids)));
  if (status) query = query.where('purchases.status', '=', status);
  if (before)
    query = query.where(
      sql<boolean>`(purchases.created_at, purchases.id) < (${before.createdAt}, ${before.id})`,
    );
  return query.execute();
}

/** Purchases counted: that there are more is enough to know, and they would be counted for each page. */
export const PURCHASES_COUNTED = 100_000;

/** How many purchases were begun since a moment and are provisioned by now, up to {@link PURCHASES_COUNTED}. */
export async function countPurchases({ db }: Store, input: { since: number }): Promise<number> {
  const row = await db
    .selectFrom((counted) =>
      counted
        .selectFrom('purchases')
        .select('id')
        .where('status', '=', 'provisioned')
        .where('created_at', '>=', input.since)
        .limit(PURCHASES_COUNTED)
        .as('counted'),
    )
    .select(({ fn }) => fn.countAll<number>().as('n'))
    .executeTakeFirstOrThrow();
  return Number(row.n);
}

/** A purchase by its own id. */
export async function findPurchaseRecord(store: Store, id: string): Promise<PurchaseRecord | undefined> {
  return recordsOf(store).where('purchases.id', '=', id).executeTakeFirst();
}

function recordsOf({ db }: Store) {
  return db
    .selectFrom('purchases')
    .leftJoin('customers', 'customers.id', 'purchases.customer_id')
    .select([
      'purchases.id',
      'status',
      'failure',
      'plan_id as planId',
      'price_id as priceId',
      'customer_id as customerId',
      'email',
      'subscription_id as subscriptionId',
      'payment_intent_id as paymentIntentId',
      'key_id as keyId',
      'amount_total as amountTotal',
      'currency',
      'purchases.created_at as createdAt',
      'provisioned_at as provisionedAt',
    ]);
}

async function idsOf({ db }: Store, text: string): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    with owner as (${customersNamed(text)})
    select id from purchases where id = ${text}
    union select id from purchases where key_id = ${text}
    union select id from purchases where subscription_id = ${text}
    union select id from purchases where payment_intent_id = ${text}
    union select id from purchases where customer_id in (select id from owner)
    limit ${sql.lit(MATCHES)}`.execute(db);
  return rows.map(({ id }) => id);
}
