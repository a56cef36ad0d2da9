import { invalid } from './errors.ts';
import { emit } from './events.ts';
import { invoicePaid } from './invoices.ts';
import { type PaymentIntent, settleIntent } from './payments.ts';
import { invoicePaymentFailed } from './subscription-payment.ts';
import type { World } from './world.ts';

/** Lets a delayed payment settle, or fail, by itself, if the settings say so. */
export function settleLater(world: World, intent: PaymentIntent, succeeds: boolean): void {
  const wait = world.settings.settle_delayed_after_ms;
  if (wait === null) return;
  world.clock.after(wait, () => {
    if (world.store.paymentIntents.find(intent.id) && intent.status === 'processing')
      settle(world, intent, succeeds);
  });
}

/**
 * Ends the wait for a delayed payment, with all that hangs on it: charge, payment intent, invoice and subscription,
 * and checkout.session.async_payment_succeeded or async_payment_failed.
 *
 * @throws StripeError 400 when no payment is on its way.
 */
export function settle(world: World, intent: PaymentIntent, succeeds: boolean): void {
  if (intent.status !== 'processing') {
    throw invalid(`The payment intent ${intent.id} is not processing but ${intent.status}.`, 'id');
  }
  settleIntent(world, intent, succeeds);
  const payment = world.store.invoicePayments.all().find((one) => one.payment.payment_intent === intent.id);
  const invoice = world.store.invoices.find(payment?.invoice);
  if (invoice) {
    if (succeeds) invoicePaid(world, invoice);
    else invoicePaymentFailed(world, invoice);
  }
  const session = world.store.sessions
    .all()
    .find((one) => one.payment_intent === intent.id || (invoice !== undefined && one.invoice === invoice.id));
  if (session?.payment_status !== 'unpaid') return;
  if (succeeds) session.payment_status = 'paid';
  emit(world, `checkout.session.async_payment_${succeeds ? 'succeeded' : 'failed'}`, session);
}

/** The payment intent whose money a session waits for. @throws StripeError 400 if it waits for none. */
export function intentOfSession(world: World, sessionId: string): PaymentIntent {
  const session = world.store.sessions.get(sessionId);
  const payment = world.store.invoicePayments
    .all()
    .find((one) => session.invoice && one.invoice === session.invoice);
  const intent = world.store.paymentIntents.find(session.payment_intent ?? payment?.payment.payment_intent);
  if (!intent) throw invalid('This Checkout Session waits for no payment.', 'id');
  return intent;
}
