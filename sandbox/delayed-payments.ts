import { invalid } from './errors.ts';
import { emit } from './events.ts';
import { type Invoice, invoicePaid } from './invoices.ts';
import { behaviourOf, type PaymentMethod } from './payment-methods.ts';
import { type PaymentIntent, settleIntent } from './payments.ts';
import { invoicePaymentFailed } from './subscription-payment.ts';
import type { World } from './world.ts';

/** Lets a delayed payment settle, or fail, by itself, if its account or the settings say so. */
export function settleLater(world: World, intent: PaymentIntent, method: PaymentMethod): void {
  const kind = behaviourOf(method);
  const succeeds = kind.delayed !== 'fails';
  const wait = kind.settlesAtOnce ? 0 : world.settings.settle_delayed_after_ms;
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
  const invoice = settleInvoice(world, intent, succeeds);
  const session = world.store.sessions
    .all()
    .find((one) => one.payment_intent === intent.id || (invoice !== undefined && one.invoice === invoice.id));
  if (session?.payment_status !== 'unpaid') return;
  if (succeeds) session.payment_status = 'paid';
  emit(world, `checkout.session.async_payment_${succeeds ? 'succeeded' : 'failed'}`, session);
}

/** What the end of a payment means for the invoice it is for, if there is one. */
export function settleInvoice(world: World, intent: PaymentIntent, succeeds: boolean): Invoice | undefined {
  const payment = world.store.invoicePayments.all().find((one) => one.payment.payment_intent === intent.id);
  const invoice = world.store.invoices.find(payment?.invoice);
  if (!invoice) return undefined;
  if (succeeds) invoicePaid(world, invoice);
  else invoicePaymentFailed(world, invoice);
  return invoice;
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
