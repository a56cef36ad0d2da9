import { emit } from './events.ts';
import { closeInvoice, subscriptionIdOf } from './invoices.ts';
import type { Subscription } from './subscriptions.ts';
import type { World } from './world.ts';

/** Whether a subscription is over for good. */
export function hasEnded({ status }: Subscription): boolean {
  return status === 'canceled' || status === 'incomplete_expired';
}

/** Ends a subscription now. Its open invoices are no longer collected. Event: customer.subscription.deleted. */
export function cancelNow(
  world: World,
  sub: Subscription,
  details: {
    reason: Subscription['cancellation_details']['reason'];
    comment?: string | null;
    feedback?: string | null;
  },
): void {
  if (hasEnded(sub)) return;
  const now = world.clock.now();
  delete sub.status_details;
  Object.assign(sub, {
    status: 'canceled',
    canceled_at: sub.canceled_at ?? now,
    ended_at: now,
    cancellation_details: {
      ...sub.cancellation_details,
      comment: details.comment ?? sub.cancellation_details.comment,
      feedback: details.feedback ?? sub.cancellation_details.feedback,
      reason: details.reason,
    },
  });
  for (const invoice of invoicesOf(world, sub)) {
    if (invoice.status === 'draft' || invoice.status === 'open') {
      invoice.auto_advance = false;
      invoice.next_payment_attempt = null;
    }
  }
  emit(world, 'customer.subscription.deleted', sub);
}

/** Ends a subscription whose first payment never came. Its invoice is void. Event: customer.subscription.updated. */
export function expireIncomplete(world: World, sub: Subscription): void {
  const previous = { status: sub.status, ended_at: null };
  sub.status = 'incomplete_expired';
  sub.ended_at = world.clock.now();
  for (const invoice of invoicesOf(world, sub))
    if (invoice.status === 'open') closeInvoice(world, invoice, 'void');
  emit(world, 'customer.subscription.updated', sub, previous);
}

function invoicesOf(world: World, sub: Subscription) {
  return world.store.invoices.all().filter((invoice) => subscriptionIdOf(invoice) === sub.id);
}
