import { change, emit } from './events.ts';
import { type Invoice, payInvoice, paymentOf, subscriptionIdOf } from './invoices.ts';
import type { PaymentMethod } from './payment-methods.ts';
import { firstPaymentWithin } from './renewals.ts';
import { cancelNow, expireIncomplete, hasEnded } from './subscription-end.ts';
import { markResumed } from './subscription-pause.ts';
import type { Subscription } from './subscriptions.ts';
import { day, type World } from './world.ts';

function subscriptionOf(world: World, invoice: Invoice): Subscription | undefined {
  return world.store.subscriptions.find(subscriptionIdOf(invoice));
}

/** What a subscription's invoices are paid with: its own method, else the customer's default. */
export function methodFor(world: World, sub: Subscription): PaymentMethod | null {
  const customer = world.store.customers.find(sub.customer);
  return (
    world.store.paymentMethods.find(sub.default_payment_method) ??
    world.store.paymentMethods.find(customer?.invoice_settings.default_payment_method) ??
    null
  );
}

/** What an invoice is paid with: its own method, its subscription's, else the customer's default. */
export function methodForInvoice(world: World, invoice: Invoice): PaymentMethod | null {
  const sub = subscriptionOf(world, invoice);
  const customer = world.store.customers.find(invoice.customer);
  return (
    world.store.paymentMethods.find(invoice.default_payment_method) ??
    (sub
      ? methodFor(world, sub)
      : (world.store.paymentMethods.find(customer?.invoice_settings.default_payment_method) ?? null))
  );
}

/** An invoice was paid: its subscription, if it waited for that, is active (again). */
export function invoicePaidFor(world: World, invoice: Invoice): void {
  const sub = subscriptionOf(world, invoice);
  if (!sub || hasEnded(sub)) return;
  if (sub.status === 'paused' && sub.latest_invoice === invoice.id) {
    markResumed(world, sub);
    return;
  }
  const waited = sub.status === 'incomplete' || sub.status === 'past_due' || sub.status === 'unpaid';
  if (waited && sub.latest_invoice === invoice.id) {
    change(world, 'customer.subscription.updated', sub, { status: 'active' });
  }
}

/**
 * An attempt to collect an invoice failed: when it is tried again, and what that makes of the subscription.
 * Events: invoice.payment_failed, customer.subscription.updated or, after the last retry, customer.subscription.deleted.
 */
export function invoicePaymentFailed(world: World, invoice: Invoice): void {
  const sub = subscriptionOf(world, invoice);
  const first = invoice.billing_reason === 'subscription_create';
  const wait =
    first || !sub || sub.status === 'paused'
      ? undefined
      : world.settings.retry_days[invoice.attempt_count - 1];
  invoice.next_payment_attempt = wait === undefined ? null : world.clock.now() + wait * day;
  emit(world, 'invoice.payment_failed', invoice);
  if (wait !== undefined) scheduleRetry(world, invoice);
  if (!sub || hasEnded(sub) || sub.status === 'paused') return;
  if (first) {
    if (world.clock.now() >= sub.created + firstPaymentWithin && sub.status === 'incomplete')
      expireIncomplete(world, sub);
    return;
  }
  if (wait !== undefined || world.settings.after_final_retry === 'past_due') {
    if (sub.status === 'active') change(world, 'customer.subscription.updated', sub, { status: 'past_due' });
  } else if (world.settings.after_final_retry === 'unpaid') {
    change(world, 'customer.subscription.updated', sub, { status: 'unpaid' });
  } else {
    cancelNow(world, sub, { reason: 'payment_failed' });
  }
}

function scheduleRetry(world: World, invoice: Invoice): void {
  const due = invoice.next_payment_attempt as number;
  world.clock.at(due, () => {
    const sub = subscriptionOf(world, invoice);
    if (invoice.status !== 'open' || invoice.next_payment_attempt !== due || !sub || sub.pause_collection)
      return;
    payInvoice(world, invoice, methodFor(world, sub), false);
  });
}

/** Whether money for the invoice is on its way. */
export function isProcessing(world: World, invoice: Invoice | undefined): boolean {
  const payment = invoice && paymentOf(world, invoice);
  return world.store.paymentIntents.find(payment?.payment.payment_intent)?.status === 'processing';
}
