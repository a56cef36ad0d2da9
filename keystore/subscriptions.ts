import type { SubscriptionStatus } from '../shared/access.ts';
import type { Mode } from '../shared/keys.ts';
import { type Buyer, linkCustomer } from './customers.ts';
import type { SubscriptionTable } from './schema.ts';
import { inOneStep, type Step, type Store } from './store.ts';
import { isOlderLook, type SyncOutcome } from './sync.ts';

/** A subscription as Stripe showed it; `fetchedAt` is when the fetch began. Times in milliseconds. */
export type SubscriptionSnapshot = {
  id: string;
  planId: string;
  priceId: string;
  quantity: number;
  status: SubscriptionStatus;
  currentPeriodEnd: number | null;
  cancelAtPeriodEnd: boolean;
  cancelAt: number | null;
  trialEnd: number | null;
  /** When the oldest payment that is still owed first failed; `null` while nothing is owed, or it cannot be told. */
  pastDueSince: number | null;
  fetchedAt: number;
};

/** A subscription as it stands here. */
export type SubscriptionRecord = Omit<SubscriptionSnapshot, 'fetchedAt'> & {
  customerId: string;
  fetchedAt: number;
  /** Whether a key belongs to it. */
  hasKey: boolean;
  /** Whether a key that is not revoked does. */
  hasLivingKey: boolean;
};

/**
 * Writes a subscription as Stripe showed it. An older look never overwrites a newer one, and an ended subscription
 * never comes back. Every gateway learns of it when access could differ.
 */
export async function syncSubscription(
  store: Store,
  input: { mode: Mode; buyer: Buyer; subscription: SubscriptionSnapshot; actor: string },
): Promise<SyncOutcome> {
  return inOneStep(store, async (step) => {
    const customerId = await linkCustomer(step, input.mode, input.buyer);
    return writeSubscription(step, input.mode, customerId, input.subscription, input.actor);
  });
}

/** A known subscription; `undefined` when it is not in the keystore. */
export async function findSubscription(store: Store, id: string): Promise<SubscriptionRecord | undefined> {
  return (await subscriptionsWhere(store, { id, after: '', limit: 1 }))[0];
}

/** Known subscriptions in the order of their ids, a page at a time. @param input.after the last id of the page before */
export async function listSubscriptions(
  store: Store,
  input: { after: string; limit: number },
): Promise<SubscriptionRecord[]> {
  return subscriptionsWhere(store, input);
}

async function subscriptionsWhere(
  { db }: Store,
  { id, after, limit }: { id?: string; after: string; limit: number },
): Promise<SubscriptionRecord[]> {
  const rows = await db
    .selectFrom('subscriptions')
    .selectAll()
    .select(({ selectFrom, fn }) => [
      selectFrom('keys')
        .whereRef('keys.subscription_id', '=', 'subscriptions.id')
        .select(fn.countAll().as('n'))
        .as('keys'),
      selectFrom('keys')
        .whereRef('keys.subscription_id', '=', 'subscriptions.id')
        .where('revoked_at', 'is', null)
        .select(fn.countAll().as('n'))
        .as('living_keys'),
    ])
    .$if(id !== undefined, (query) => query.where('id', '=', id as string))
    .where('id', '>', after)
    .orderBy('id')
    .limit(limit)
    .execute();
  return rows.map((row) => ({
    id: row.id,
    customerId: row.customer_id,
    planId: row.plan_id,
    priceId: row.price_id,
    quantity: row.quantity,
    status: row.status,
    currentPeriodEnd: row.current_period_end,
    cancelAtPeriodEnd: row.cancel_at_period_end === 1,
    cancelAt: row.cancel_at,
    trialEnd: row.trial_end,
    pastDueSince: row.past_due_since,
    fetchedAt: row.fetched_at,
    hasKey: Number(row.keys) > 0,
    hasLivingKey: Number(row.living_keys) > 0,
  }));
}

/** As {@link syncSubscription}, inside a larger step. */
export async function writeSubscription(
  step: Step,
  mode: Mode,
  customerId: string,
  snapshot: SubscriptionSnapshot,
  actor: string,
): Promise<SyncOutcome> {
  const { trx, now } = step;
  const existing = await trx
    .selectFrom('subscriptions')
    .selectAll()
    .where('id', '=', snapshot.id)
    .executeTakeFirst();
  if (existing && isOlderLook(existing.fetched_at, snapshot.fetchedAt, now)) return 'stale';
  // Stripe never revives these two ("canceled" and "incomplete_expired" are terminal states).
  const ended = existing?.status === 'canceled' || existing?.status === 'incomplete_expired';
  if (ended && existing.status !== snapshot.status) return 'stale';

  const row: SubscriptionTable = {
    id: snapshot.id,
    mode,
    customer_id: customerId,
    plan_id: snapshot.planId,
    price_id: snapshot.priceId,
    status: snapshot.status,
    current_period_end: snapshot.currentPeriodEnd,
    cancel_at_period_end: snapshot.cancelAtPeriodEnd ? 1 : 0,
    cancel_at: snapshot.cancelAt,
    trial_end: snapshot.trialEnd,
    past_due_since:
      snapshot.status === 'past_due'
        ? (snapshot.pastDueSince ?? existing?.past_due_since ?? snapshot.fetchedAt)
        : snapshot.pastDueSince,
    quantity: snapshot.quantity,
    fetched_at: snapshot.fetchedAt,
    created_at: existing?.created_at ?? now,
    updated_at: now,
  };
  await trx
    .insertInto('subscriptions')
    .values(row)
    .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
    .execute();
  const watched = [
    'plan_id',
    'status',
    'current_period_end',
    'cancel_at_period_end',
    'cancel_at',
    'trial_end',
    'past_due_since',
    'quantity',
  ] as const;
  const changed = watched.filter((column) => existing?.[column] !== row[column]);
  if (changed.length === 0) return 'unchanged';

  const keys = await trx.selectFrom('keys').select('id').where('subscription_id', '=', snapshot.id).execute();
  await step.changed(keys.map((key) => key.id));
  const details = {
    subscription: snapshot.id,
    ...Object.fromEntries(
      changed.map((column) => [column, { from: existing?.[column] ?? null, to: row[column] }]),
    ),
  };
  const action = existing ? 'subscription.updated' : 'subscription.created';
  const concerned = keys.length > 0 ? keys.map((key) => key.id) : [null];
  for (const keyId of concerned) await step.audit({ actor, action, customerId, keyId, details });
  const newlyOwed = row.past_due_since !== null && row.past_due_since !== existing?.past_due_since;
  if (row.status === 'past_due' && newlyOwed && keys.length > 0)
    await step.mail('payment_failed', `subscription:${row.id}`, `${row.id}_${row.past_due_since}`, mode);
  return 'updated';
}
