import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type Stripe from 'stripe';
import { stringify } from 'yaml';
import { temporaryFolder } from './keystores.ts';

/** What of a plan the model of `convergence-model.ts` goes by. */
export type PlanTerms = {
  /** In whole dollars. */
  amount: number;
  per: 'week' | 'month' | 'year' | 'once';
  perUnit?: true;
  graceDays?: number;
  trial?: { days: number; once: boolean };
  access?: Record<string, string>;
};

/** For how many devices each plan is a licence; of one that is sold by unit, each. */
export const DEVICES = 2;

/** From small to large: of several in one subscription, the last counts. */
export const PLANS: Readonly<Record<string, PlanTerms>> = {
  free: { amount: 0, per: 'month' },
  weekly: { amount: 3, per: 'week' },
  lenient: {
    amount: 8,
    per: 'month',
    graceDays: 30,
    access: { paused: 'allow', unpaid: 'allow', dispute: 'allow' },
  },
  basic: { amount: 10, per: 'month' },
  strict: { amount: 12, per: 'month', access: { past_due: 'suspend', trialing: 'suspend' } },
  tryout: { amount: 15, per: 'month', trial: { days: 7, once: true } },
  pro: { amount: 20, per: 'month', graceDays: 3 },
  seats: { amount: 25, per: 'month', perUnit: true },
  annual: { amount: 200, per: 'year' },
  lifetime: { amount: 300, per: 'once' },
  goodwill: { amount: 50, per: 'once', access: { refund: 'keep', lost_dispute: 'keep', dispute: 'allow' } },
};

/** Plans that a subscription may change to. */
export const CHANGEABLE = Object.keys(PLANS).filter((plan) => PLANS[plan]?.per !== 'once');
/** Plans that can stand beside another one in a subscription. */
export const MONTHLY = Object.keys(PLANS).filter((plan) => PLANS[plan]?.per === 'month');

/** Writes {@link PLANS} as a plan file. */
export function writePlanFile(): string {
  const plans = Object.entries(PLANS).map(([id, plan]) => [
    id,
    {
      name: id,
      price: { amount: plan.amount, currency: 'usd', per: plan.per },
      limits: [{ requests: 10, per: 'second' }],
      devices: DEVICES,
      ...(plan.perUnit ? { per_unit: true } : {}),
      ...(plan.graceDays === undefined ? {} : { grace_days: plan.graceDays }),
      ...(plan.trial ? { trial: plan.trial } : {}),
      ...(plan.access ? { access: plan.access } : {}),
    },
  ]);
  const file = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(file, stringify({ plans: Object.fromEntries(plans) }));
  return file;
}

/** Prices that stand for no plan: of something sold beside a plan, and of another product in the same account. */
export async function otherPrices(stripe: Stripe): Promise<{ addOn: string; foreign: string }> {
  const make = async (name: string, unit_amount: number) =>
    (
      await stripe.prices.create({
        currency: 'usd',
        unit_amount,
        recurring: { interval: 'month' },
        product_data: { name },
      })
    ).id;
  return { addOn: await make('Add-on', 400), foreign: await make('Something else', 700) };
}
