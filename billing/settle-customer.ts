import type { SyncOutcome } from '../keystore/keystore.ts';
import type { SettleContext } from './settle.ts';
import { settleSubscription } from './settle-subscription.ts';
import { lookAtCustomer } from './stripe-customers.ts';

/**
 * Writes a customer as it is at Stripe now. One that was deleted there has no address any more, and its subscriptions
 * have ended: they are looked at too.
 *
 * @param what `entitlements`: also the features the customer is entitled to
 * @throws ProblemError when Stripe cannot be asked; KeystoreError when nothing could be written
 */
export async function settleCustomer(
  context: SettleContext,
  stripeCustomerId: string,
  what: 'customer' | 'entitlements',
  actor: string,
): Promise<{ outcome: SyncOutcome | 'not_ours' | 'not_found' }> {
  const { keystore, stripe } = context;
  const look = await lookAtCustomer(stripe, stripeCustomerId, what);
  if (!look) return { outcome: 'not_found' };
  const { deleted, ...customer } = look;
  const outcome = await keystore.syncCustomer({ customer, actor });
  if (deleted && outcome !== 'not_ours') {
    for (const id of await keystore.openSubscriptionsOf(stripeCustomerId))
      await settleSubscription(context, id, actor);
  }
  return { outcome };
}
