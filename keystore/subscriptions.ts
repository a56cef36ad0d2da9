import { randomBase62 } from '../shared/base62.ts';
import type { Mode } from '../shared/keys.ts';
import type { Buyer, SubscriptionSnapshot } from './purchases.ts';
import { inOneStep, type Step, type Store } from './store.ts';

/** How far apart the clocks of two machines may be, milliseconds. */
const CLOCK_SKEW_MS = 60_000;

/** What came of a look at Stripe. `stale`: a newer look was written before, so this one changed nothing. */
export type SyncOutcome = 'updated' | 'unchanged' | 'stale';

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

/** What a known subscription was last seen to be for; `undefined` when it is not in the keystore. */
export async function findSubscription(
  store: Store,
  subscriptionId: string,
): Promise<{ planId: string; priceId: string } | undefined> {
  return store.db
    .selectFrom('subscriptions')
    .select(['plan_id as planId', 'price_id as priceId'])
    .where('id', '=', subscriptionId)
    .executeTakeFirst();
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
  // A look from the future was stamped by a clock that has been set back since; it must not shut out all others.
  if (existing && existing.fetched_at > snapshot.fetchedAt && existing.fetched_at <= now + CLOCK_SKEW_MS) {
    return 'stale';
  }
  // Stripe never revives these two ("canceled" and "incomplete_expired" are terminal states).
  const ended = existing?.status === 'canceled' || existing?.status === 'incomplete_expired';
  if (ended && existing.status !== snapshot.status) return 'stale';

  const row = {
    id: snapshot.id,
    mode,
    customer_id: customerId,
    plan_id: snapshot.planId,
    price_id: snapshot.priceId,
    status: snapshot.status,
    current_period_end: snapshot.currentPeriodEnd,
    cancel_at_period_end: snapshot.cancelAtPeriodEnd ? 1 : 0,
    past_due_since: snapshot.status === 'past_due' ? (existing?.past_due_since ?? snapshot.fetchedAt) : null,
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
    'past_due_since',
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
  return 'updated';
}

/** Finds or makes the customer behind a purchase or subscription, and keeps the newest email. Returns our id. */
export async function linkCustomer({ trx, now }: Step, mode: Mode, buyer: Buyer): Promise<string> {
  if (buyer.stripeCustomerId) {
    const existing = await trx
      .selectFrom('customers')
      .select(['id', 'email'])
      .where('stripe_customer_id', '=', buyer.stripeCustomerId)
      .executeTakeFirst();
    if (existing) {
      if (buyer.email && buyer.email !== existing.email) {
        await trx
          .updateTable('customers')
          .set({ email: buyer.email, updated_at: now })
          .where('id', '=', existing.id)
          .execute();
      }
      return existing.id;
    }
  }
  const id = `cust_${randomBase62(16)}`;
  await trx
    .insertInto('customers')
    .values({
      id,
      mode,
      stripe_customer_id: buyer.stripeCustomerId,
      email: buyer.email,
      created_at: now,
      updated_at: now,
    })
    .execute();
  return id;
}
