import { moneyText } from '../../shared/currency.ts';
import { cancelNow, closeCheckout, refundAll } from '../stripe-changes.ts';
import type { StripeClient } from '../stripe-client.ts';
import { type Bought, type Finding, ok, wrong } from './step.ts';

/** Leaves nothing at Stripe that costs anybody anything: whatever of a checkout is unpaid, running or not given back yet. */
export async function giveBack(
  stripe: StripeClient,
  { sessionId, purchaseId }: Pick<Bought, 'sessionId' | 'purchaseId'>,
): Promise<Finding> {
  const { status, subscriptionId, paid } = await closeCheckout(stripe, sessionId);
  if (status === 'expired') return ok('Nobody paid, and the checkout is closed.');
  // The refund is tried although the subscription goes on, and the other way round.
  const [canceled, refunded] = await Promise.allSettled([
    subscriptionId === null ? null : cancelNow(stripe, subscriptionId),
    refundAll(stripe, sessionId),
  ]);
  const left: string[] = [];
  if (canceled.status === 'rejected') left.push(`${subscriptionId} goes on`);
  if (refunded.status === 'rejected') left.push('what was paid was not given back');
  if (!paid) left.push('a payment may still be on its way');
  if (left.length > 0) {
    return wrong(
      `Not all of it: ${left.join(', ')}.`,
      `In the Stripe dashboard, look for ${subscriptionId ?? purchaseId}, cancel and refund it there. The key of the account needs the permissions that the README lists for this.`,
    );
  }
  const given = refunded.status === 'fulfilled' ? refunded.value : null;
  const parts = [
    ...(subscriptionId === null ? [] : [`${subscriptionId} is canceled`]),
    given ? `${moneyText(given.amount, given.currency)} are given back` : 'nothing was paid',
  ];
  return ok(`${parts.join(', ')}.`);
}
