import { periodEnd } from './billing-periods.ts';
import type { Customer } from './customers.ts';
import { emit, emitChanged } from './events.ts';
import { type Line, periodLines } from './invoice-lines.ts';
import { closeInvoice, draftInvoice, finalizeInvoice, type Invoice, payInvoice } from './invoices.ts';
import type { Recurring } from './prices.ts';
import { cancelNow, expireIncomplete, hasEnded } from './subscription-end.ts';
import { isProcessing, methodFor } from './subscription-payment.ts';
import type { Subscription } from './subscriptions.ts';
import { endTrialWithoutMethod } from './trial-end.ts';
import { day, hour, type World } from './world.ts';

/** How long a subscription may wait for its first payment (https://docs.stripe.com/billing/subscriptions/overview). */
export const firstPaymentWithin = 23 * hour;

const trialWarning = 3 * day;
const pendingLines = new WeakMap<Subscription, Line[]>();

/** Prorations that wait for the next invoice. */
export function addPendingLines(sub: Subscription, lines: Line[]): void {
  pendingLines.set(sub, [...(pendingLines.get(sub) ?? []), ...lines]);
}

export function takePendingLines(sub: Subscription, invoice: string): Line[] {
  const lines = pendingLines.get(sub) ?? [];
  pendingLines.delete(sub);
  return lines.map((line) => ({ ...line, invoice }));
}

function isCurrent(world: World, sub: Subscription): boolean {
  return world.store.subscriptions.find(sub.id) === sub && !hasEnded(sub);
}

/** Sees to what the end of the current period, or trial, brings. */
export function schedulePeriod(world: World, sub: Subscription): void {
  const end = sub.items.data[0]?.current_period_end as number;
  world.clock.at(end, () => {
    if (isCurrent(world, sub) && sub.items.data[0]?.current_period_end === end) endPeriod(world, sub);
  });
  if (sub.status !== 'trialing' || sub.trial_end === null) return;
  const trialEnd = sub.trial_end;
  world.clock.at(Math.max(world.clock.now(), trialEnd - trialWarning), () => {
    if (isCurrent(world, sub) && sub.status === 'trialing' && sub.trial_end === trialEnd) {
      emit(world, 'customer.subscription.trial_will_end', sub);
    }
  });
}

/** Sees to a cancellation at a set time. */
export function scheduleCancelAt(world: World, sub: Subscription): void {
  const due = sub.cancel_at;
  if (due === null) return;
  world.clock.at(due, () => {
    if (isCurrent(world, sub) && sub.cancel_at === due)
      cancelNow(world, sub, { reason: 'cancellation_requested' });
  });
}

/** Sees to it that a subscription without its first payment expires; money on its way is waited for. */
export function scheduleFirstPayment(world: World, sub: Subscription): void {
  world.clock.at(sub.created + firstPaymentWithin, () => {
    const waiting = isProcessing(world, world.store.invoices.find(sub.latest_invoice));
    if (isCurrent(world, sub) && sub.status === 'incomplete' && !waiting) expireIncomplete(world, sub);
  });
}

function endPeriod(world: World, sub: Subscription): void {
  if (sub.status === 'incomplete' || sub.status === 'paused') return;
  if (sub.cancel_at_period_end) {
    cancelNow(world, sub, { reason: 'cancellation_requested' });
    return;
  }
  if (sub.status === 'trialing' && endTrialWithoutMethod(world, sub)) return;
  startPeriod(world, sub, 'subscription_cycle');
}

/**
 * Begins the next period, at the end of the last or now: new dates, a draft invoice, later finalized and charged.
 * Events: invoice.created, customer.subscription.updated.
 */
export function startPeriod(
  world: World,
  sub: Subscription,
  reason: 'subscription_cycle' | 'subscription_update',
): Invoice {
  const start = world.clock.now();
  const before = structuredClone({
    items: sub.items,
    latest_invoice: sub.latest_invoice,
    status: sub.status,
  });
  const recurring = sub.items.data[0]?.price.recurring as Recurring;
  const end = periodEnd(sub.billing_cycle_anchor, recurring, start);
  if (sub.status === 'trialing') sub.status = 'active';
  for (const item of sub.items.data)
    Object.assign(item, { current_period_start: start, current_period_end: end });
  const customer = world.store.customers.get(sub.customer) as Customer;
  const invoice = draftInvoice(world, { customer, sub, currency: sub.currency, reason }, (id) => [
    ...takePendingLines(sub, id),
    ...periodLines(world, sub, id),
  ]);
  sub.latest_invoice = invoice.id;
  emitChanged(world, 'customer.subscription.updated', sub, before);
  schedulePeriod(world, sub);
  if (sub.status === 'unpaid') invoice.auto_advance = false;
  else if (reason === 'subscription_cycle') scheduleFinalization(world, sub, invoice);
  return invoice;
}

function scheduleFinalization(world: World, sub: Subscription, invoice: Invoice): void {
  const due = world.clock.now() + world.settings.draft_seconds;
  invoice.automatically_finalizes_at = due;
  world.clock.at(due, () => {
    if (invoice.status === 'draft' && invoice.auto_advance && isCurrent(world, sub))
      collect(world, sub, invoice);
  });
}

/** Finalizes a draft and charges it, unless collection is paused. */
export function collect(world: World, sub: Subscription, invoice: Invoice): void {
  const paused = sub.pause_collection?.behavior;
  if (paused === 'keep_as_draft') {
    invoice.auto_advance = false;
    return;
  }
  finalizeInvoice(world, invoice);
  if (invoice.status === 'paid') return;
  if (paused) closeInvoice(world, invoice, paused === 'void' ? 'void' : 'uncollectible');
  else payInvoice(world, invoice, methodFor(world, sub), false);
}
