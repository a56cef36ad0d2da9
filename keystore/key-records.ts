import type { RevocationReason } from '../shared/access.ts';
import type { KeyFacts } from './keys.ts';
import type { Store } from './store.ts';
import { monthStartHour, usageSince } from './usage-ledger.ts';

/** A key as the operator sees it: everything but its hash. */
export type KeyRecord = Omit<KeyFacts, 'hash' | 'tag' | 'monthStartHour'> & {
  name: string | null;
  email: string | null;
  stripeCustomerId: string | null;
  subscriptionId: string | null;
  purchaseId: string | null;
  createdAt: number;
  revokedReason: RevocationReason | null;
  replacedBy: string | null;
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
  let query = store.db
    .selectFrom('keys')
    .leftJoin('subscriptions', 'subscriptions.id', 'keys.subscription_id')
    .leftJoin('customers', 'customers.id', 'keys.customer_id')
    .leftJoin('purchases', 'purchases.key_id', 'keys.root_id')
    .selectAll('keys')
    .select([
      'customers.email',
      'customers.stripe_customer_id',
      'purchases.id as purchase_id',
      'subscriptions.plan_id as subscription_plan_id',
      'subscriptions.status',
      'subscriptions.past_due_since',
      'subscriptions.current_period_end',
    ])
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
  const month = monthStartHour(store.now());
  const rows = await query.execute();
  return Promise.all(
    rows.map(async (row) => ({
      id: row.id,
      rootId: row.root_id,
      mode: row.mode,
      prefix: row.prefix,
      lastFour: row.last_four,
      name: row.name,
      planId: row.subscription_plan_id ?? row.plan_id,
      customerId: row.customer_id,
      email: row.email,
      stripeCustomerId: row.stripe_customer_id,
      subscriptionId: row.subscription_id,
      purchaseId: row.purchase_id,
      subscription: row.status
        ? { status: row.status, pastDueSince: row.past_due_since, currentPeriodEnd: row.current_period_end }
        : null,
      createdAt: row.created_at,
      expiresAt: row.expires_at,
      revokedAt: row.revoked_at,
      revokedReason: row.revoked_reason,
      replacedBy: row.replaced_by,
      usedThisMonth: await usageSince(store, row.root_id, month),
    })),
  );
}

/** One key as the operator sees it. */
export async function findKey(store: Store, id: string): Promise<KeyRecord | undefined> {
  return (await listKeys(store, { limit: 1, id }))[0];
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
