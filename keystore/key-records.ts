import { factsOf, type KeyFacts, selectFacts } from './key-facts.ts';
import type { Store } from './store.ts';
import { monthStartHour } from './usage-ledger.ts';

/** A key as the operator sees it: everything but its hash. */
export type KeyRecord = Omit<KeyFacts, 'hash' | 'tag' | 'monthStartHour'> & {
  name: string | null;
  email: string | null;
  stripeCustomerId: string | null;
  subscriptionId: string | null;
  purchaseId: string | null;
};

/**
 * Keys, newest first.
 *
 * @param filter.before only keys older than this one (its `createdAt` and `id`), for paging
 * @param filter.matching only keys whose id, last four characters, email, customer or subscription id equal this
 */
export async function listKeys(
  store: Store,
  filter: {
    limit: number;
    planId?: string;
    matching?: string;
    id?: string;
    before?: { createdAt: number; id: string };
  },
): Promise<KeyRecord[]> {
  const month = monthStartHour(store.now());
  let query = selectFacts(store.db, month)
    .leftJoin('purchases', 'purchases.key_id', 'keys.root_id')
    .select(['customers.email', 'customers.stripe_customer_id', 'purchases.id as purchase_id'])
    .orderBy('keys.created_at', 'desc')
    .orderBy('keys.id', 'desc')
    .limit(filter.limit);
  const { id, planId, matching, before } = filter;
  if (id) query = query.where('keys.id', '=', id);
  if (planId)
    query = query.where((where) =>
      where(where.fn.coalesce('subscriptions.plan_id', 'keys.plan_id'), '=', planId),
    );
  if (matching) {
    query = query.where((where) =>
      where.or([
        where('keys.id', '=', matching),
        where('keys.last_four', '=', matching),
        where('customers.email', '=', matching),
        where('customers.stripe_customer_id', '=', matching),
        where('keys.customer_id', '=', matching),
        where('keys.subscription_id', '=', matching),
      ]),
    );
  }
  if (before) {
    query = query.where((where) =>
      where.or([
        where('keys.created_at', '<', before.createdAt),
        where.and([where('keys.created_at', '=', before.createdAt), where('keys.id', '<', before.id)]),
      ]),
    );
  }
  const rows = await query.execute();
  return rows.map((row) => {
    const { hash: _hash, tag: _tag, monthStartHour: _month, ...facts } = factsOf(row, month);
    return {
      ...facts,
      name: row.name,
      email: row.email,
      stripeCustomerId: row.stripe_customer_id,
      subscriptionId: row.subscription_id,
      purchaseId: row.purchase_id,
    };
  });
}

/** One key as the operator sees it. */
export async function findKey(store: Store, id: string): Promise<KeyRecord | undefined> {
  return (await listKeys(store, { limit: 1, id }))[0];
}

/** The key that another one, by its id, was made to replace; `undefined`: it replaces none. */
export async function findPredecessor(store: Store, id: string): Promise<KeyFacts | undefined> {
  const month = monthStartHour(store.now());
  const row = await selectFacts(store.db, month).where('keys.replaced_by', '=', id).executeTakeFirst();
  return row && factsOf(row, month);
}

/** What was done to a key, oldest first. */
export async function keyHistory(
  store: Store,
  id: string,
): Promise<{ at: number; actor: string; action: string; details: string | null }[]> {
  return store.db
    .selectFrom('audit')
    .select(['at', 'actor', 'action', 'details'])
    .where('key_id', '=', id)
    .orderBy('seq')
    .execute();
}
