import type { RulesOf, SubscriptionRecord, SubscriptionSnapshot } from '../keystore/keystore.ts';
import type { Mode } from '../shared/keys.ts';
import type { Plan, PlanCatalogue } from '../shared/plans.ts';
import type { BoughtItem, SubscriptionLook } from './stripe-look.ts';

/** The plan that was bought, at which price, and how many of it. */
export type Sold = { plan: Plan; priceId: string; quantity: number };

/**
 * The plan that these items stand for. Of several plans in one subscription the one that stands last in the catalogue
 * counts: plans are listed from small to large. Items that stand for no plan are add-ons, and say nothing.
 */
export function planSold(
  plans: PlanCatalogue,
  items: readonly BoughtItem[],
  mode: Mode,
): Sold | 'unknown_price' | 'wrong_mode_price' {
  let sold: Sold | undefined;
  let wrongMode = false;
  for (const { priceId, quantity } of items) {
    const plan = plans.planForPrice(priceId, mode);
    if (plan === 'wrong_mode') wrongMode = true;
    if (typeof plan === 'string') continue;
    if (sold?.plan === plan) sold.quantity += quantity;
    else if (!sold || plans.plans.indexOf(plan) > plans.plans.indexOf(sold.plan))
      sold = { plan, priceId, quantity };
  }
  return sold ?? (wrongMode ? 'wrong_mode_price' : 'unknown_price');
}

/** What to write of a subscription; where its price stands for no plan, it stays with the plan it had. */
export function snapshotOf(
  look: SubscriptionLook,
  sold: Sold | string,
  known: SubscriptionRecord | undefined,
): SubscriptionSnapshot {
  const { id, status, currentPeriodEnd, cancelAtPeriodEnd, cancelAt, trialEnd, pastDueSince, fetchedAt } =
    look;
  const kept =
    typeof sold === 'string'
      ? {
          planId: known?.planId ?? '',
          priceId: known?.priceId ?? '',
          quantity:
            look.items.find((item) => item.priceId === known?.priceId)?.quantity ?? known?.quantity ?? 1,
        }
      : { planId: sold.plan.id, priceId: sold.priceId, quantity: sold.quantity };
  return {
    id,
    ...kept,
    status,
    currentPeriodEnd,
    cancelAtPeriodEnd,
    cancelAt,
    trialEnd,
    pastDueSince,
    fetchedAt,
  };
}

/** What each plan does about refunds and disputes. */
export function rulesOf(plans: PlanCatalogue): RulesOf {
  return (planId) => plans.plan(planId)?.access ?? {};
}
