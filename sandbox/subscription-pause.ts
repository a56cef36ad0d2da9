import { invalid } from './errors.ts';
import { emit, emitChanged } from './events.ts';
import { prorationLine } from './invoice-lines.ts';
import { closeInvoice, draftInvoice, finalizeInvoice, type Invoice, payInvoice } from './invoices.ts';
import { object, oneOf, type Parsed, required } from './params.ts';
import { addPendingLines, startPeriod, takePendingLines } from './renewals.ts';
import { methodFor } from './subscription-payment.ts';
import type { Subscription } from './subscriptions.ts';
import { hour, type World } from './world.ts';

/** How long the invoice of a resumption waits to be paid. */
const resumptionWithin = 23 * hour;

export const pauseShape = {
  type: oneOf('subscription'),
  invoicing_behavior: oneOf('invoice', 'pending_invoice_item'),
  bill_for: object({
    outstanding_usage_through: object({ type: required(oneOf('none', 'now')) }),
    unused_time_from: object({ type: required(oneOf('item_current_period_start', 'none', 'now')) }),
  }),
};

/**
 * Pauses a subscription: no invoices, no new periods. What is left of the period is credited, by default on the next
 * invoice. Events: customer.subscription.updated, customer.subscription.paused.
 *
 * @throws StripeError 400 unless it is active, trialing, past due or unpaid.
 */
export function pause(world: World, sub: Subscription, params: Parsed<typeof pauseShape>): Subscription {
  if (!['active', 'trialing', 'past_due', 'unpaid'].includes(sub.status)) {
    throw invalid(`Only a subscription that goes on can be paused: this one is ${sub.status}.`);
  }
  const from = params.bill_for?.unused_time_from?.type ?? 'now';
  if (sub.status === 'active' && from !== 'none') {
    const credits = sub.items.data.map((item) => {
      const since = from === 'now' ? world.clock.now() : item.current_period_start;
      return prorationLine(world, sub, item, item.price, item.quantity, true, since);
    });
    addPendingLines(
      sub,
      credits.filter(({ amount }) => amount !== 0),
    );
  }
  markPaused(world, sub, 'pause_requested');
  if (params.invoicing_behavior === 'invoice') {
    const customer = world.store.customers.get(sub.customer);
    const invoice = draftInvoice(
      world,
      { customer, sub, currency: sub.currency, reason: 'subscription_update' },
      (id) => takePendingLines(sub, id),
    );
    sub.latest_invoice = invoice.id;
    finalizeInvoice(world, invoice);
  }
  return sub;
}

/** Gives a subscription the status `paused`; `before` holds what else of it has changed. */
export function markPaused(
  world: World,
  sub: Subscription,
  reason: 'pause_requested' | 'trial_end_without_payment_method',
  before: Partial<Subscription> = {},
): void {
  const { status, status_details } = sub;
  sub.status = 'paused';
  sub.status_details = {
    paused: { subscription: { type: reason }, transitioned_at: world.clock.now(), type: 'subscription' },
  };
  emitChanged(world, 'customer.subscription.updated', sub, { status, status_details, ...before });
  emit(world, 'customer.subscription.paused', sub);
}

/**
 * Takes up a paused subscription again, with a new period from now. Without a payment method, or when only a payment
 * that succeeds resumes it, it stays paused until the invoice is paid; after 23 hours the invoice is void.
 * Events: customer.subscription.updated, customer.subscription.resumed.
 *
 * @throws StripeError 400 unless it is paused.
 */
export function resume(world: World, sub: Subscription, onlyOnSuccess: boolean): Subscription {
  if (sub.status !== 'paused') {
    throw invalid(`Subscription is not paused: only a paused subscription can be resumed.`);
  }
  sub.billing_cycle_anchor = world.clock.now();
  const invoice = startPeriod(world, sub, 'subscription_update');
  finalizeInvoice(world, invoice);
  // Nothing due: the invoice was paid, and the subscription resumed, in the same breath.
  if (invoice.status !== 'open') return sub;
  const method = methodFor(world, sub);
  if (!method || onlyOnSuccess) scheduleGivingUp(world, sub, invoice);
  else markResumed(world, sub);
  if (method) payInvoice(world, invoice, method, false);
  return sub;
}

/** Gives a paused subscription the status `active`. */
export function markResumed(world: World, sub: Subscription): void {
  const { status, status_details } = sub;
  sub.status = 'active';
  delete sub.status_details;
  emitChanged(world, 'customer.subscription.updated', sub, { status, status_details });
  emit(world, 'customer.subscription.resumed', sub);
}

function scheduleGivingUp(world: World, sub: Subscription, invoice: Invoice): void {
  world.clock.at(world.clock.now() + resumptionWithin, () => {
    if (sub.status === 'paused' && invoice.status === 'open') closeInvoice(world, invoice, 'void');
  });
}
