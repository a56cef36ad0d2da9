import { invalid } from './errors.ts';
import { emit } from './events.ts';
import { newId } from './ids.ts';
import type { Refund } from './refunds.ts';
import type { World } from './world.ts';

/** Lets a pending refund succeed by itself, if the settings say so. */
export function settleRefundLater(world: World, refund: Refund): void {
  const wait = world.settings.settle_delayed_after_ms;
  if (wait === null) return;
  world.clock.after(wait, () => {
    if (world.store.refunds.find(refund.id) === refund && refund.status === 'pending')
      settleRefund(world, refund);
  });
}

/** The money of a pending refund has arrived. Events: refund.updated, charge.refund.updated. @throws StripeError 400. */
export function settleRefund(world: World, refund: Refund): void {
  if (refund.status !== 'pending') {
    throw invalid(`The refund ${refund.id} is not pending but ${refund.status}.`, 'id');
  }
  const previous = { status: refund.status, pending_reason: refund.pending_reason };
  refund.status = 'succeeded';
  delete refund.pending_reason;
  emit(world, 'refund.updated', refund, previous);
  emit(world, 'charge.refund.updated', refund, previous);
}

/**
 * The money of a refund came back, which can happen after it succeeded too: the charge counts as refunded by so much
 * less. Stripe sends no event about the charge. Events: refund.failed, refund.updated, charge.refund.updated.
 *
 * @throws StripeError 400 for a refund that has failed already.
 */
export function failRefund(world: World, refund: Refund, reason: string): void {
  if (refund.status === 'failed') throw invalid(`The refund ${refund.id} has failed already.`, 'id');
  const previous = {
    failure_balance_transaction: null,
    failure_reason: null,
    ...(refund.pending_reason ? { pending_reason: refund.pending_reason } : {}),
    status: refund.status,
  };
  refund.status = 'failed';
  refund.failure_reason = reason;
  refund.failure_balance_transaction = newId('txn');
  delete refund.pending_reason;
  const charge = world.store.charges.get(refund.charge);
  charge.amount_refunded -= refund.amount;
  charge.refunded = false;
  emit(world, 'refund.failed', refund, previous);
  emit(world, 'refund.updated', refund, previous);
  emit(world, 'charge.refund.updated', refund, previous);
}
