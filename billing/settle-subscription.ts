import { type SettleContext, type Settlement, settle } from './settle.ts';
import { planSold, snapshotOf } from './sold.ts';
import { findSessionOfSubscription, lookAtSubscription, type SubscriptionLook } from './stripe-look.ts';

/**
 * What was bought before this keystore was first used was bought without it: those customers get no key, and no mail,
 * out of the blue. `npm run reconcile -- --since` makes their keys. An hour is left for clocks that differ.
 */
const BEFORE_FIRST_USE_MS = 3_600_000;

/** What a look at a subscription came to. */
export type SubscriptionOutcome =
  | 'updated'
  | 'unchanged'
  | 'stale'
  /** Its price has left the catalogue: the customer keeps the plan. */
  | 'kept_plan'
  /** It was bought, and its price stands for no plan yet. */
  | 'purchase_waits'
  /** It sells something else in the same Stripe account. */
  | 'not_ours'
  | 'not_found'
  | Settlement['outcome'];

/**
 * Writes a subscription as it is at Stripe now; where nobody has a key for it yet, settles the checkout that it was
 * bought in.
 *
 * A price that stands for no plan any more leaves the plan as it was, while status and period are written all the
 * same: paying customers keep what they have. A change to a price that never stood for a plan is reported as
 * `unknown_price`: somebody has to map it.
 *
 * @throws ProblemError when Stripe cannot be asked; KeystoreError when nothing could be written
 */
export async function settleSubscription(
  context: SettleContext,
  subscriptionId: string,
  actor: string,
): Promise<{ outcome: SubscriptionOutcome; priceIds: readonly string[] }> {
  const look = await lookAtSubscription(context.stripe, subscriptionId);
  if (!look || look.mode !== context.mode) return { outcome: 'not_found', priceIds: [] };
  return writeSubscription(context, look, actor);
}

/** As {@link settleSubscription}, for a subscription that was looked at already. */
export async function writeSubscription(
  context: SettleContext,
  look: SubscriptionLook,
  actor: string,
): Promise<{ outcome: SubscriptionOutcome; priceIds: readonly string[] }> {
  const { keystore, log, mode } = context;
  const priceIds = look.items.map((item) => item.priceId);
  const known = await keystore.findSubscription(look.id);
  if (!known?.hasKey) {
    const session = await findSessionOfSubscription(context.stripe, look.id);
    if (session && session.createdAt >= (await keystore.boundAt()) - BEFORE_FIRST_USE_MS) {
      const { outcome } = await settle(context, session.id, actor);
      // The event of the checkout itself is the one that is kept as failed: one complaint a purchase is enough.
      const waits = outcome === 'unknown_price' || outcome === 'wrong_mode_price';
      return { priceIds, outcome: waits ? 'purchase_waits' : outcome };
    }
  }
  const sold = planSold(context.plans, look.items, mode);
  if (typeof sold === 'string' && !known) return { outcome: 'not_ours', priceIds };
  const subscription = snapshotOf(look, sold, known);
  const outcome = await keystore.syncSubscription({
    mode,
    buyer: { stripeCustomerId: look.stripeCustomerId, email: look.email },
    subscription,
    actor,
  });
  if (typeof sold !== 'string') return { outcome, priceIds };
  // Nothing was bought here but what the customer has had all along.
  if (priceIds.includes(subscription.priceId)) {
    log.warn(
      { subscription: look.id, prices: priceIds, plan: subscription.planId },
      'A subscription has a price that left the plan catalogue: the customer keeps the plan. Map the price again, or move the customer to another in Stripe',
    );
    return { outcome: 'kept_plan', priceIds };
  }
  return { outcome: sold, priceIds };
}
