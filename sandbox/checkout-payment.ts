import { itemsOf } from './checkout-items.ts';
import { type CheckoutSession, type CheckoutTerms, detailsFor } from './checkout-sessions.ts';
import { type Customer, createCustomer } from './customers.ts';
import { settleLater } from './delayed-payments.ts';
import { declined, invalid, StripeError } from './errors.ts';
import { change, emit, inObservedOrder } from './events.ts';
import { finalizeInvoice, payInvoice } from './invoices.ts';
import { attach, createMethod, type PaymentMethod, typeOf } from './payment-methods.ts';
import { confirm, createIntent, type PaymentOutcome } from './payments.ts';
import { startSubscription } from './subscription-start.ts';
import type { TestMethod } from './test-methods.ts';
import type { World } from './world.ts';

/** Whether a buyer must choose how to pay: not when nothing will ever be due. */
export function needsMethod(world: World, session: CheckoutSession): boolean {
  if ((session.amount_total ?? 0) > 0) return true;
  const laterDue = itemsOf(world, session.id).some(({ price }) => price.recurring && price.unit_amount > 0);
  return laterDue && session.payment_method_collection === 'always';
}

/**
 * Completes a session as its hosted page does when the buyer presses the button.
 *
 * `given` is a payment method that exists already; without it one of the `kind` is made.
 *
 * @throws StripeError 402 `card_error` when the card is declined: the session stays open. 400 when it is not open, or
 *   does not take payments of that kind.
 */
export function paySession(
  world: World,
  session: CheckoutSession,
  kind: TestMethod | null,
  email: string | null,
  given?: PaymentMethod,
): void {
  if (session.status !== 'open') {
    throw new StripeError(400, {
      type: 'invalid_request_error',
      message: `This Checkout Session is ${session.status}.`,
    });
  }
  if (kind && !session.payment_method_types.includes(typeOf(kind, session.currency))) {
    throw invalid('This Checkout Session does not take payments of this type.', 'payment_method');
  }
  const refusal = kind && declinedAtCheckout(world, session, kind);
  if (refusal) {
    failAttempt(world, session, kind, refusal, email);
    throw declined(refusal);
  }
  inObservedOrder(world, () => complete(world, session, kind, email, given));
}

function declinedAtCheckout(world: World, session: CheckoutSession, kind: TestMethod): string | undefined {
  // Without an amount due now the card is only checked, and a rule for the next charge waits for a charge.
  const rule = world.failNext.find(({ customer }) => customer === null || customer === session.customer);
  if (rule && (session.amount_total ?? 0) > 0) return rule.decline_code;
  return kind.declines;
}

/** A declined attempt leaves a payment intent and a failed charge behind; for subscriptions they are not the session's. */
function failAttempt(
  world: World,
  session: CheckoutSession,
  kind: TestMethod,
  code: string,
  email: string | null,
): void {
  const amount = session.amount_total ?? 0;
  if (amount === 0) return;
  const method = createMethod(world, { ...kind, declines: code }, session.currency, email);
  const intent =
    world.store.paymentIntents.find(session.payment_intent) ??
    createIntent(world, { amount, currency: session.currency, customer: session.customer, email });
  if (session.mode === 'payment') session.payment_intent = intent.id;
  confirm(world, intent, method, true);
}

function complete(
  world: World,
  session: CheckoutSession,
  kind: TestMethod | null,
  email: string | null,
  given?: PaymentMethod,
): void {
  const terms = world.terms.get(session.id) as CheckoutTerms;
  const details = detailsFor(world, session);
  session.customer_details = {
    ...details,
    email: emailOf(world, session, email),
    name: details.name ?? given?.billing_details.name ?? null,
    address: details.address ?? (given?.billing_details.name ? given.billing_details.address : null),
  };
  const customer = buyer(world, session, session.customer_details.email);
  const method =
    given ?? (kind && createMethod(world, kind, session.currency, session.customer_details.email));
  const paid =
    session.mode === 'subscription'
      ? subscribe(world, session, customer as Customer, method, terms)
      : payOnce(world, session, customer, method, terms);
  session.status = 'complete';
  session.url = null;
  session.payment_status =
    session.amount_total === 0 ? 'no_payment_required' : paid === 'succeeded' ? 'paid' : 'unpaid';
  emit(world, 'checkout.session.completed', session);
  const link = world.store.paymentLinks.find(session.payment_link);
  if (link?.restrictions) link.restrictions.completed_sessions.count += 1;
}

function emailOf(world: World, session: CheckoutSession, typed: string | null): string | null {
  return world.store.customers.find(session.customer)?.email ?? session.customer_email ?? typed;
}

function buyer(world: World, session: CheckoutSession, email: string | null): Customer | null {
  const known = world.store.customers.find(session.customer);
  if (known) {
    if (!known.email && email) change(world, 'customer.updated', known, { email });
    return known;
  }
  if (session.mode === 'payment' && session.customer_creation !== 'always') return null;
  const customer = createCustomer(world, { email });
  session.customer = customer.id;
  return customer;
}

function subscribe(
  world: World,
  session: CheckoutSession,
  customer: Customer,
  method: PaymentMethod | null,
  terms: CheckoutTerms,
): PaymentOutcome {
  if (method) attach(world, method, customer);
  const { subscription, invoice } = startSubscription(world, {
    customer,
    items: itemsOf(world, session.id).map(({ price, quantity }) => ({ price, quantity })),
    method,
    metadata: terms.subscription.metadata,
    description: terms.subscription.description,
    trialEnd: terms.subscription.trialEnd,
    missingMethod: terms.subscription.missingMethod,
  });
  session.subscription = subscription.id;
  session.invoice = invoice.id;
  finalizeInvoice(world, invoice);
  if (invoice.status === 'paid') return 'succeeded';
  return payInvoice(world, invoice, method, true);
}

function payOnce(
  world: World,
  session: CheckoutSession,
  customer: Customer | null,
  method: PaymentMethod | null,
  terms: CheckoutTerms,
): PaymentOutcome {
  if (!method || !session.amount_total) return 'succeeded';
  const intent =
    world.store.paymentIntents.find(session.payment_intent) ??
    createIntent(world, {
      amount: session.amount_total,
      currency: session.currency,
      customer: customer?.id ?? null,
      description: terms.intent.description,
      metadata: terms.intent.metadata,
      shipping: terms.intent.shipping,
      setupFutureUsage: terms.intent.setupFutureUsage,
      types: session.allowed_payment_method_types ?? undefined,
    });
  if (customer && intent.setup_future_usage) attach(world, method, customer);
  intent.customer = customer?.id ?? null;
  session.payment_intent = intent.id;
  const outcome = confirm(world, intent, method, true);
  if (outcome === 'processing') settleLater(world, intent, method);
  return outcome;
}
