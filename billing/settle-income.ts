import type { IncomeSnapshot, SyncOutcome } from '../keystore/keystore.ts';
import type { SettleContext } from './settle.ts';
import type { IncomeLook } from './stripe-income.ts';

/**
 * Writes what a payment brought in. What was paid for prices that stand for no plan is no income of ours.
 *
 * @param look what the payment is at Stripe now; `null`: there is none
 * @throws KeystoreError when nothing could be written
 */
export async function settleIncome(
  context: SettleContext,
  look: IncomeLook | null,
): Promise<{ outcome: SyncOutcome | 'not_ours' }> {
  const income = await incomeFrom(context, look);
  if (!income) return { outcome: 'not_ours' };
  return context.keystore.syncIncome({ mode: context.mode, income });
}

/**
 * The plans that a payment was for. A subscription whose price has left the plan catalogue keeps its plan, and so does what
 * is paid for it.
 */
export async function incomeFrom(
  { keystore, mode, plans }: SettleContext,
  look: IncomeLook | null,
): Promise<IncomeSnapshot | null> {
  if (!look || look.mode !== mode) return null;
  const { mode: _mode, parts, ...income } = look;
  const known =
    look.subscriptionId === null ? undefined : await keystore.findSubscription(look.subscriptionId);
  return {
    ...income,
    parts: parts.map((part) => {
      const plan = plans.planForPrice(part.priceId, mode);
      const kept = known?.priceId === part.priceId ? known.planId : null;
      return { ...part, planId: typeof plan === 'string' ? kept : plan.id };
    }),
  };
}
