import type { Keystore, Purchase } from '../keystore/keystore.ts';
import type { Mode } from '../shared/keys.ts';
import type { Logger } from '../shared/log.ts';
import type { PlanCatalogue } from '../shared/plans.ts';
import type { BillingMetrics } from './metrics.ts';
import { planSold, rulesOf, type Sold, snapshotOf } from './sold.ts';
import type { StripeClient } from './stripe-client.ts';
import { hadTrialBefore } from './stripe-customers.ts';
import { lookAtSession, type SessionLook } from './stripe-look.ts';
import { wasPaidFor } from './stripe-payments.ts';

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
  /** Of the request that this comes from, where one does. */
  requestId?: string;
  /** Without it nothing is counted: nobody asks an operator's command for its metrics. */
  metrics?: BillingMetrics;
};

/** What a checkout session came to. */
export type Settlement =
  | { outcome: 'provisioned' | 'already_provisioned'; purchase: Purchase }
  | { outcome: 'open' | 'processing' | 'failed' | 'canceled'; purchase: Purchase }
  /** A trial that the plan gives a person only once: the key is made when the subscription is paid. */
  | { outcome: 'trial_used'; purchase: Purchase }
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
  if (!look.sells) return { outcome: 'not_ours' };
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
  const sold = planSold(plans, look.items, mode);
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
  const sold = planSold(plans, look.items, mode);
  const priceIds = look.items.map((item) => item.priceId);
  if (sold === 'unknown_price' && !couldBeOurs(context, look)) {
    log.warn(
      { prices: priceIds, actor },
      'A purchase of a price that stands for no plan was taken for that of another product',
    );
    return { outcome: 'not_ours' };
  }
  if (typeof sold === 'string') {
    const failure = `${sold}: ${priceIds.join(', ') || 'no price'}`;
    const purchase = await keystore.endPurchase({
      sessionId: look.id,
      ...(look.purchaseId ? { purchaseId: look.purchaseId } : {}),
      mode,
      status: 'paid',
      failure,
      actor,
    });
    if (purchase.status !== 'provisioned') return { outcome: sold, purchase, priceIds };
    return { outcome: 'already_provisioned', purchase };
  }
  if (await isRepeatedTrial(context, look, sold)) {
    const purchase = await keystore.endPurchase({
      sessionId: look.id,
      ...(look.purchaseId ? { purchaseId: look.purchaseId } : {}),
      mode,
      status: 'pending',
      failure: 'trial_used',
      actor,
    });
    if (purchase.status !== 'provisioned') return { outcome: 'trial_used', purchase };
    return { outcome: 'already_provisioned', purchase };
  }
  const { accessDays } = sold.plan;
  const result = await keystore.provisionPurchase({
    sessionId: look.id,
    ...(look.purchaseId ? { purchaseId: look.purchaseId } : {}),
    mode,
    planId: sold.plan.id,
    priceId: sold.priceId,
    keyPrefix,
    buyer: { stripeCustomerId: look.stripeCustomerId, email: look.email },
    subscription: look.subscription && snapshotOf(look.subscription, sold, undefined),
    paymentIntentId: look.paymentIntentId,
    quantity: sold.quantity,
    accessMs: look.subscription || accessDays === null ? null : accessDays * 86_400_000,
    rulesOf: rulesOf(plans),
    amountTotal: look.amountTotal,
    currency: look.currency,
    actor,
    ...(context.requestId === undefined ? {} : { requestId: context.requestId }),
  });
  if (result.outcome === 'provisioned') {
    const { id, keyId, planId } = result.purchase;
    context.metrics?.purchaseProvisioned(planId, actor);
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

/**
 * Whether this is a trial of a plan that gives a person one only, not the person's first, and nothing was paid for it since.
 * The plan that was sold counts: a change to another one and back must not bring a key.
 */
async function isRepeatedTrial(context: SettleContext, look: SessionLook, sold: Sold): Promise<boolean> {
  const { stripe, plans, mode } = context;
  const { subscription, stripeCustomerId, email } = look;
  const first = planSold(plans, look.soldItems, mode);
  const { trial } = typeof first === 'string' ? sold.plan : first.plan;
  if (!trial?.once || !subscription?.trialEnd) return false;
  const before = await hadTrialBefore(
    stripe,
    { stripeCustomerId, email, before: subscription.createdAt, subscriptionId: subscription.id },
    (priceId) => typeof plans.planForPrice(priceId, mode) !== 'string',
  );
  // The end of the trial brings no money yet: a first payment that fails would else give a key, and grace on top.
  return before && !(await wasPaidFor(stripe, subscription.id));
}
