import type Stripe from 'stripe';
import type { SubscriptionStatus } from '../shared/access.ts';
import type { Mode } from '../shared/keys.ts';
import { callStripe, lookUp } from './stripe-client.ts';

/** A checkout session as it is at Stripe now, in our words. */
export type SessionLook = {
  id: string;
  mode: Mode;
  /** Whether the money is there; `open`: the buyer has not finished; `expired`: never will. */
  payment: 'open' | 'expired' | 'paid' | 'processing' | 'failed';
  /** Our purchase id, where this checkout was opened by us. */
  purchaseId: string | null;
  /** Whether it was opened by a payment link. */
  fromPaymentLink: boolean;
  /** Where the buyer is sent after paying. */
  successUrl: string | null;
  stripeCustomerId: string | null;
  email: string | null;
  /** The prices bought: of the subscription's items as they are now, else of the session's lines. */
  priceIds: readonly string[];
  subscription: SubscriptionLook | null;
  amountTotal: number | null;
  currency: string | null;
  createdAt: number;
};

/** A subscription as it is at Stripe now, in our words. Times in milliseconds. */
export type SubscriptionLook = {
  id: string;
  mode: Mode;
  status: SubscriptionStatus;
  stripeCustomerId: string;
  email: string | null;
  priceIds: readonly string[];
  currentPeriodEnd: number | null;
  cancelAtPeriodEnd: boolean;
  /** When this look began: an older one must not overwrite a newer one. */
  fetchedAt: number;
};

/** Metadata that ties a session to the purchase it was opened for. */
export const PURCHASE_ID_METADATA = 'tollgate_purchase_id';

/**
 * Looks at a checkout session.
 *
 * @returns `null` when Stripe has no such session
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtSession(stripe: Stripe, sessionId: string): Promise<SessionLook | null> {
  const fetchedAt = Date.now();
  const session = await lookUp(() =>
    stripe.checkout.sessions.retrieve(sessionId, {
      expand: ['line_items', 'subscription', 'payment_intent'],
    }),
  );
  if (!session) return null;
  const subscription = session.subscription as Stripe.Subscription | null;
  return {
    id: session.id,
    mode: session.livemode ? 'live' : 'test',
    payment: await paymentOf(stripe, session),
    purchaseId: session.metadata?.[PURCHASE_ID_METADATA] ?? null,
    fromPaymentLink: session.payment_link !== null,
    successUrl: session.success_url ?? session.return_url ?? null,
    stripeCustomerId: idOf(session.customer),
    email: session.customer_details?.email ?? session.customer_email,
    priceIds: subscription ? pricesOf(subscription) : await pricesOfLines(stripe, session),
    subscription:
      subscription && toSubscriptionLook(subscription, session.customer_details?.email ?? null, fetchedAt),
    amountTotal: session.amount_total,
    currency: session.currency,
    createdAt: session.created * 1000,
  };
}

/**
 * Looks at an event: what it is about. Stripe keeps events for 30 days.
 *
 * @returns `null` when Stripe has no such event (any more)
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtEvent(
  stripe: Stripe,
  eventId: string,
): Promise<{ objectId: string | null } | null> {
  const event = await lookUp(() => stripe.events.retrieve(eventId));
  return event && { objectId: (event.data.object as { id?: string }).id ?? null };
}

/**
 * Looks at a subscription.
 *
 * @returns `null` when Stripe has no such subscription
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtSubscription(
  stripe: Stripe,
  subscriptionId: string,
): Promise<SubscriptionLook | null> {
  const fetchedAt = Date.now();
  const subscription = await lookUp(() =>
    stripe.subscriptions.retrieve(subscriptionId, { expand: ['customer'] }),
  );
  if (!subscription) return null;
  const customer = subscription.customer as Stripe.Customer | Stripe.DeletedCustomer;
  return toSubscriptionLook(subscription, customer.deleted ? null : customer.email, fetchedAt);
}

function toSubscriptionLook(
  subscription: Stripe.Subscription,
  email: string | null,
  fetchedAt: number,
): SubscriptionLook {
  // Since 2025-03-31 the period is on the items; of several, access lasts to the end of the longest.
  const ends = subscription.items.data.map((item) => item.current_period_end * 1000);
  return {
    id: subscription.id,
    mode: subscription.livemode ? 'live' : 'test',
    status: subscription.status as SubscriptionStatus,
    stripeCustomerId: idOf(subscription.customer) as string,
    email,
    priceIds: pricesOf(subscription),
    currentPeriodEnd: ends.length > 0 ? Math.max(...ends) : null,
    cancelAtPeriodEnd: subscription.cancel_at_period_end,
    fetchedAt,
  };
}

async function paymentOf(stripe: Stripe, session: Stripe.Checkout.Session): Promise<SessionLook['payment']> {
  if (session.status === 'expired') return 'expired';
  if (session.status !== 'complete') return 'open';
  if (session.payment_status !== 'unpaid') return 'paid';
  const intent =
    (session.payment_intent as Stripe.PaymentIntent | null) ??
    (await intentOfInvoice(stripe, idOf(session.invoice)));
  // The session stays `unpaid` when its invoice is paid in another way after a failure; the intent knows.
  if (intent?.status === 'succeeded') return 'paid';
  // A delayed payment is `processing` until it settles; when it fails, the intent asks for another payment method.
  const failed = intent?.status === 'requires_payment_method' || intent?.status === 'canceled';
  return failed ? 'failed' : 'processing';
}

async function intentOfInvoice(
  stripe: Stripe,
  invoiceId: string | null,
): Promise<Stripe.PaymentIntent | null> {
  if (!invoiceId) return null;
  const payments = await callStripe(() =>
    stripe.invoicePayments.list({ invoice: invoiceId, limit: 1, expand: ['data.payment.payment_intent'] }),
  );
  const intent = payments.data[0]?.payment.payment_intent;
  return intent && typeof intent !== 'string' ? intent : null;
}

function pricesOf(subscription: Stripe.Subscription): string[] {
  return subscription.items.data.map((item) => item.price.id);
}

/** An expanded list has the first ten entries only. */
async function pricesOfLines(stripe: Stripe, session: Stripe.Checkout.Session): Promise<string[]> {
  const expanded = session.line_items;
  const lines = expanded?.has_more
    ? (await callStripe(() => stripe.checkout.sessions.listLineItems(session.id, { limit: 100 }))).data
    : (expanded?.data ?? []);
  return lines.flatMap((line) => (line.price ? [line.price.id] : []));
}

function idOf(reference: string | { id: string } | null | undefined): string | null {
  if (!reference) return null;
  return typeof reference === 'string' ? reference : reference.id;
}
