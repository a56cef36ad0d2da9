import type { Mode } from '../../shared/keys.ts';
import type { Plan, PlanCatalogue } from '../../shared/plans.ts';
import { lookAtPriceOnSale, type PriceLook } from '../stripe-checkout.ts';
import type { StripeClient } from '../stripe-client.ts';

/** A plan and what it costs. */
export type Good = { plan: Plan; priceId: string; price: PriceLook & { unitAmount: number } };

/** What is bought, and what it is then changed to; `null`: there is nothing to change to. */
export type Goods = { first: Good; better: Good | null };

/**
 * Chooses what to buy: of the plans on sale the cheapest that renews, costs something and has no trial; else one that lacks the
 * last of these, and so on. It is changed to a dearer one, of the same currency, with licences if there is one.
 *
 * @returns `null` when no plan on sale has a fixed price
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function chooseGoods(
  stripe: StripeClient,
  plans: PlanCatalogue,
  mode: Mode,
): Promise<Goods | null> {
  const goods: Good[] = [];
  for (const plan of plans.plans.filter(({ hidden }) => !hidden)) {
    const priceId = plans.priceForPlan(plan.id, mode);
    const found = priceId === undefined ? null : await lookAtPriceOnSale(stripe, priceId);
    if (priceId === undefined || !found?.active || found.price.unitAmount === null) continue;
    goods.push({ plan, priceId, price: { ...found.price, unitAmount: found.price.unitAmount } });
  }
  const [first] = goods.toSorted(
    (a, b) => fitness(b) - fitness(a) || a.price.unitAmount - b.price.unitAmount,
  );
  if (!first) return null;
  const dearer = goods
    .filter(
      ({ price }) =>
        first.price.interval !== null &&
        price.interval !== null &&
        price.currency === first.price.currency &&
        price.unitAmount > first.price.unitAmount,
    )
    .toSorted((a, b) => a.price.unitAmount - b.price.unitAmount);
  return { first, better: dearer.find(({ plan }) => plan.licence !== null) ?? dearer[0] ?? null };
}

function fitness({ plan, price }: Good): number {
  return (price.interval === null ? 0 : 4) + (price.unitAmount > 0 ? 2 : 0) + (plan.trial === null ? 1 : 0);
}

/** The plan that the key has after the change. */
export function lastPlan({ first, better }: Goods): Plan {
  return (better ?? first).plan;
}
