import type { SettleContext } from './settle.ts';
import { rulesOf } from './sold.ts';
import { lookAtPayment } from './stripe-payments.ts';

/** What a look at a payment came to. */
export type PaymentOutcome = 'updated' | 'unchanged' | 'stale' | 'not_found';

/**
 * Writes what happened to a payment after it was made: given back in full or lost in a dispute it ends the keys it
 * bought, in dispute it suspends them.
 *
 * @throws ProblemError when Stripe cannot be asked; KeystoreError when nothing could be written
 */
export async function settlePayment(
  context: SettleContext,
  chargeId: string,
  actor: string,
): Promise<{ outcome: PaymentOutcome }> {
  const { keystore, log, mode, plans, stripe } = context;
  const look = await lookAtPayment(stripe, chargeId);
  if (!look || look.mode !== mode) return { outcome: 'not_found' };
  const known = await keystore.findPayment(chargeId);
  // Most payments are never touched, and nothing is kept of them.
  if (look.untouched && !known) return { outcome: 'unchanged' };
  const { mode: _mode, untouched, ...seen } = look;
  const { outcome, keys, ended } = await keystore.syncPayment({
    mode,
    payment: seen,
    rulesOf: rulesOf(plans),
    actor,
  });
  if (outcome !== 'updated' || keys.length === 0) return { outcome };
  const about = { charge: chargeId, keys, dispute: look.dispute, refunded: look.refundedAt !== null, actor };
  log.warn(about, ended ? 'A payment was lost: its keys are revoked' : 'Something happened to a payment');
  const goesOn = ended && look.subscriptionId && (await keystore.findSubscription(look.subscriptionId));
  if (goesOn && goesOn.status !== 'canceled' && goesOn.status !== 'incomplete_expired') {
    log.error(
      { subscription: look.subscriptionId, keys },
      'A subscription goes on at Stripe although its keys are revoked: cancel it there, or the customer pays for nothing',
    );
  }
  return { outcome };
}
