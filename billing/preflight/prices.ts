import { priceText } from '../../shared/price-text.ts';
import { lookAtPriceOnSale } from '../stripe-checkout.ts';
import { type Check, ok, type PreflightContext, skipped, stop } from './check.ts';

export const prices: Check = {
  id: 'prices',
  title: 'Prices at Stripe are those of the plan file',
  offline: false,
  async run(context) {
    const { config, mode } = context;
    const mapped = config.plans.pricesIn(mode);
    if (mapped.length === 0) return skipped(`No price is mapped for ${mode} mode.`);
    const faults: string[] = [];
    for (const { priceId, planId } of mapped) {
      const fault = await faultOf(context, priceId, planId);
      if (fault !== null) faults.push(`${priceId} (plan ${planId}) ${fault}.`);
    }
    if (faults.length === 0)
      return ok(
        `${mapped.length} mapped price${mapped.length === 1 ? '' : 's'}: there, and as the plan file says.`,
      );
    return stop(
      faults.join(' '),
      'Correct the plan file or the price map; npm run payment-link -- --plan <id> makes the price of a plan.',
    );
  },
};

/** What is wrong with a mapped price. An old one, which is sold no more, may cost something else. */
async function faultOf(
  { config, mode, stripe }: PreflightContext,
  priceId: string,
  planId: string,
): Promise<string | null> {
  const look = await lookAtPriceOnSale(stripe, priceId);
  if (look === null) return `is not a price of this Stripe account in ${mode} mode`;
  if (look.mode !== mode) return `is a ${look.mode} price`;
  const isSold = config.plans.priceForPlan(planId, mode) === priceId;
  if (!isSold) return null;
  if (!look.active) return 'is archived at Stripe, so nobody can buy at it';
  const plan = config.plans.plan(planId);
  if (!plan?.price) return null;
  const { price } = look;
  if (price.interval !== plan.price.interval) {
    return `is charged ${every(price.interval)} at Stripe, and ${every(plan.price.interval)} on the pricing page`;
  }
  if (price.unitAmount !== plan.price.unitAmount || price.currency !== plan.price.currency) {
    return `is not ${priceText(plan.price)} at Stripe, as the pricing page says, but ${price.unitAmount ?? 'a varying amount'} ${price.currency} (smallest unit)`;
  }
  return null;
}

function every(interval: string | null): string {
  return interval === null ? 'once' : `every ${interval}`;
}
