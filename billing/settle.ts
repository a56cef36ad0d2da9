import type { Keystore, Purchase } from '../keystore/keystore.ts';
import type { Mode } from '../shared/keys.ts';
import type { Logger } from '../shared/log.ts';
import type { Plan, PlanCatalogue } from '../shared/plans.ts';
import type { StripeClient } from './stripe-client.ts';
import { lookAtSession, lookAtSubscription, type SessionLook, type SubscriptionLook } from './stripe-look.ts';

/** What settling works with. */
export type SettleContext = {
  stripe: StripeClient;
  mode: Mode;
  keystore: Keystore;
  plans: PlanCatalogue;
  keyPrefix: string;
  /** Origins that buyers are sent back to: a checkout that leads there sells our plans. */
  ownOrigins: readonly string[];
  log: Logger;
};

/** What a checkout session came to. */
export type Settlement =
  | { outcome: 'provisioned' | 'already_provisioned'; purchase: Purchase }
  | { outcome: 'open' | 'processing' | 'failed' | 'canceled'; purchase: Purchase }
  /** Paid, but its price stands for no plan (in this mode): an operator has to act, and the money is safe at Stripe. */
  | { outcome: 'unknown_price' | 'wrong_mode_price'; purchase: Purchase; priceIds: readonly string[] }
  | { outcome: 'not_found' }
  /** It sells something else in the same Stripe account. */
  | { outcome: 'not_ours' };

/**
 * Decides what a checkout session means, from how it is at Stripe now, and writes that. The webhook and the success
 * page both come here: there is no second path to a key.
 *
 * @param actor who asks, for the audit log
 * @throws ProblemError when Stripe cannot be asked; KeystoreError when nothing could be written
 */
export async function settle(context: SettleContext, sessionId: string, actor: string): Promise<Settlement> {
  const { keystore, mode } = context;
  const look = await lookAtSession(context.stripe, sessionId);
  if (!look || look.mode !== mode) return { outcome: 'not_found' };
  const session = { sessionId, mode, actor, ...(look.purchaseId ? { purchaseId: look.purchaseId } : {}) };
  switch (look.payment) {
    case 'open':
    case 'processing':
      return { outcome: look.payment, purchase: await recordWaiting(context, look) };
    case 'failed':
      return {
        outcome: 'failed',
        purchase: await keystore.endPurchase({ ...session, status: 'failed', failure: 'payment_failed' }),
      };
    case 'expired':
      return {
        outcome: 'canceled',
        purchase: await keystore.endPurchase({ ...session, status: 'canceled', failure: 'expired' }),
      };
    case 'paid':
      return provision(context, look, actor);
  }
}

function recordWaiting({ keystore, plans, mode }: SettleContext, look: SessionLook): Promise<Purchase> {
  const sold = planOf(plans, look.priceIds, mode);
  return keystore.recordPurchase({
    sessionId: look.id,
    ...(look.purchaseId ? { purchaseId: look.purchaseId } : {}),
    mode,
    planId: typeof sold === 'string' ? null : sold.plan.id,
    priceId: typeof sold === 'string' ? null : sold.priceId,
  });
}

async function provision(context: SettleContext, look: SessionLook, actor: string): Promise<Settlement> {
  const { keystore, plans, mode, keyPrefix, log } = context;
  const sold = planOf(plans, look.priceIds, mode);
  if (sold === 'unknown_price' && !couldBeOurs(context, look)) {
    log.warn(
      { prices: look.priceIds, actor },
      'A purchase of a price that stands for no plan was taken for that of another product',
    );
    return { outcome: 'not_ours' };
  }
  if (typeof sold === 'string') {
    const failure = `${sold}: ${look.priceIds.join(', ') || 'no price'}`;
    const purchase = await keystore.endPurchase({
      sessionId: look.id,
      ...(look.purchaseId ? { purchaseId: look.purchaseId } : {}),
      mode,
      status: 'paid',
      failure,
      actor,
    });
    if (purchase.status !== 'provisioned') return { outcome: sold, purchase, priceIds: look.priceIds };
    return { outcome: 'already_provisioned', purchase };
  }
  const result = await keystore.provisionPurchase({
    sessionId: look.id,
    ...(look.purchaseId ? { purchaseId: look.purchaseId } : {}),
    mode,
    planId: sold.plan.id,
    priceId: sold.priceId,
    keyPrefix,
    buyer: { stripeCustomerId: look.stripeCustomerId, email: look.email },
    subscription: look.subscription && { ...look.subscription, planId: sold.plan.id, priceId: sold.priceId },
    amountTotal: look.amountTotal,
    currency: look.currency,
    actor,
  });
  if (result.outcome === 'provisioned') {
    const { id, keyId, planId } = result.purchase;
    log.info({ purchase: id, key: keyId, plan: planId, actor }, 'Purchase provisioned');
  }
  return result;
}

/** Whether a checkout with an unknown price may have been meant to sell a plan: ours, by payment link, or leading to us. */
function couldBeOurs({ ownOrigins }: SettleContext, look: SessionLook): boolean {
  if (look.purchaseId !== null || look.fromPaymentLink) return true;
  return (
    look.successUrl !== null &&
    URL.canParse(look.successUrl) &&
    ownOrigins.includes(new URL(look.successUrl).origin)
  );
}

/** What a look at a subscription came to. `not_ours`: it sells something else in the same Stripe account. */
export type SubscriptionOutcome =
  | 'updated'
  | 'unchanged'
  | 'stale'
  | 'not_ours'
  | 'not_found'
  | 'unknown_price'
  | 'wrong_mode_price';

/**
 * Writes a subscription as it is at Stripe now. When its price stands for no plan any more, status and period are
 * written all the same and the plan stays as it was: paying customers keep what they have, and the operator is told.
 *
 * @throws ProblemError when Stripe cannot be asked; KeystoreError when nothing could be written
 */
export async function settleSubscription(
  context: SettleContext,
  subscriptionId: string,
  actor: string,
): Promise<{ outcome: SubscriptionOutcome; priceIds: readonly string[] }> {
  const { keystore, plans, mode } = context;
  const look = await lookAtSubscription(context.stripe, subscriptionId);
  if (!look || look.mode !== mode) return { outcome: 'not_found', priceIds: [] };
  const { priceIds } = look;
  const sold = planOf(plans, priceIds, mode);
  const known = await keystore.findSubscription(subscriptionId);
  if (typeof sold === 'string' && !known) return { outcome: 'not_ours', priceIds };
  const kept =
    typeof sold === 'string'
      ? (known as { planId: string; priceId: string })
      : { planId: sold.plan.id, priceId: sold.priceId };
  const outcome = await keystore.syncSubscription({
    mode,
    buyer: { stripeCustomerId: look.stripeCustomerId, email: look.email },
    subscription: snapshotOf(look, kept),
    actor,
  });
  return { outcome: typeof sold === 'string' ? sold : outcome, priceIds };
}

function snapshotOf(look: SubscriptionLook, { planId, priceId }: { planId: string; priceId: string }) {
  const { id, status, currentPeriodEnd, cancelAtPeriodEnd, fetchedAt } = look;
  return { id, planId, priceId, status, currentPeriodEnd, cancelAtPeriodEnd, fetchedAt };
}

/** The first of these prices that stands for a plan; else why none does. */
function planOf(
  plans: PlanCatalogue,
  priceIds: readonly string[],
  mode: Mode,
): { plan: Plan; priceId: string } | 'unknown_price' | 'wrong_mode_price' {
  const found = priceIds.map((priceId) => ({ priceId, plan: plans.planForPrice(priceId, mode) }));
  for (const { priceId, plan } of found) if (typeof plan !== 'string') return { plan, priceId };
  return found.some(({ plan }) => plan === 'wrong_mode') ? 'wrong_mode_price' : 'unknown_price';
}
