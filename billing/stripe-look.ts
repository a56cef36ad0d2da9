import type Stripe from 'stripe';
import type { EventObject } from '../keystore/keystore.ts';
import type { SubscriptionStatus } from '../shared/access.ts';
import type { Mode } from '../shared/keys.ts';
import { callStripe, lookUp, pages } from './stripe-client.ts';
import { readEventObject, readThinObject } from './stripe-events.ts';

/** A checkout session as it is at Stripe now, in our words. */
export type SessionLook = {
  id: string;
  mode: Mode;
  /** Whether the money is there; `open`: the buyer has not finished; `expired`: never will. */
  payment: 'open' | 'expired' | 'paid' | 'processing' | 'failed';
  /** Whether it sells anything: one in setup mode only takes down a card. */
  sells: boolean;
  /** Our purchase id, where this checkout was opened by us. */
  purchaseId: string | null;
  /** Whether it was opened by a payment link. */
  fromPaymentLink: boolean;
  /** Where the buyer is sent after paying. */
  successUrl: string | null;
  stripeCustomerId: string | null;
  email: string | null;
  /** What was bought: the subscription's items as they are now, else the session's lines. */
  items: readonly BoughtItem[];
  /** The session's lines: what was sold, whatever the subscription was changed to since. */
  soldItems: readonly BoughtItem[];
  subscription: SubscriptionLook | null;
  /** Of a one-time purchase that cost something. */
  paymentIntentId: string | null;
  amountTotal: number | null;
  currency: string | null;
  createdAt: number;
};

/** A price, and how many of it were bought. */
export type BoughtItem = { priceId: string; quantity: number };

/** A subscription as it is at Stripe now, in our words. Times in milliseconds. */
export type SubscriptionLook = {
  id: string;
  mode: Mode;
  status: SubscriptionStatus;
  stripeCustomerId: string;
  email: string | null;
  items: readonly BoughtItem[];
  currentPeriodEnd: number | null;
  cancelAtPeriodEnd: boolean;
  cancelAt: number | null;
  trialEnd: number | null;
  /** When the oldest payment that is still owed first failed; `null` when nothing is owed, or it cannot be told. */
  pastDueSince: number | null;
  createdAt: number;
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
  const soldItems = await itemsOfLines(stripe, session);
  return {
    id: session.id,
    mode: session.livemode ? 'live' : 'test',
    sells: session.mode !== 'setup',
    payment: await paymentOf(stripe, session),
    purchaseId: session.metadata?.[PURCHASE_ID_METADATA] ?? null,
    fromPaymentLink: session.payment_link !== null,
    successUrl: session.success_url ?? session.return_url ?? null,
    stripeCustomerId: idOf(session.customer),
    email: session.customer_details?.email ?? session.customer_email,
    items: subscription ? itemsOf(subscription) : soldItems,
    soldItems,
    subscription:
      subscription &&
      (await toSubscriptionLook(stripe, subscription, session.customer_details?.email ?? null, fetchedAt)),
    paymentIntentId: idOf(session.payment_intent),
    amountTotal: session.amount_total,
    currency: session.currency,
    createdAt: session.created * 1000,
  };
}

/**
 * Looks at an event: what it is about. Stripe keeps events for 30 days.
 *
 * @returns `null` when Stripe has no such event (any more), or it is about nothing of ours
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtEvent(stripe: Stripe, eventId: string): Promise<EventObject | null> {
  const event = await lookUp(() => stripe.events.retrieve(eventId));
  return event && readEventObject(event.type, event.data.object).object;
}

/** As {@link lookAtEvent}, for a thin event. */
export async function lookAtThinEvent(stripe: Stripe, eventId: string): Promise<EventObject | null> {
  const event = await lookUp(() => stripe.v2.core.events.retrieve(eventId));
  if (!event) return null;
  // Some events are about an object without an id of its own.
  const related = (event as { related_object?: { id?: string } | null }).related_object;
  const { type, snapshot_event: snapshotId = null } = event;
  return readThinObject({ type, relatedId: related?.id ?? null, snapshotId });
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
  return fromList(stripe, subscription, fetchedAt);
}

/**
 * Looks at every subscription of the account that was ever made, a page at a time, the newest first.
 *
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function* lookAtAllSubscriptions(stripe: Stripe): AsyncGenerator<SubscriptionLook[]> {
  let fetchedAt = 0;
  const list = pages((after) => {
    fetchedAt = Date.now();
    return stripe.subscriptions.list({ status: 'all', limit: 100, expand: ['data.customer'], ...after });
  });
  for await (const page of list)
    yield await Promise.all(page.map((subscription) => fromList(stripe, subscription, fetchedAt)));
}

/** A subscription that was fetched with its customer. */
function fromList(
  stripe: Stripe,
  subscription: Stripe.Subscription,
  fetchedAt: number,
): Promise<SubscriptionLook> {
  const customer = subscription.customer as Stripe.Customer | Stripe.DeletedCustomer;
  return toSubscriptionLook(stripe, subscription, customer.deleted ? null : customer.email, fetchedAt);
}

/** The checkout that a subscription was bought in; `null` where it came about in another way. */
export async function findSessionOfSubscription(
  stripe: Stripe,
  subscriptionId: string,
): Promise<{ id: string; createdAt: number } | null> {
  const { data } = await callStripe(() =>
    stripe.checkout.sessions.list({ subscription: subscriptionId, limit: 1 }),
  );
  return data[0] ? { id: data[0].id, createdAt: data[0].created * 1000 } : null;
}

/** The ids of checkouts that led to a subscription, a payment, or were made by a customer; the newest hundred. */
export async function findSessions(
  stripe: Stripe,
  by: { subscription: string } | { payment_intent: string } | { customer: string | null },
): Promise<string[]> {
  if ('customer' in by && by.customer === null) return [];
  const filter = by as Stripe.Checkout.SessionListParams;
  const { data } = await callStripe(() => stripe.checkout.sessions.list({ ...filter, limit: 100 }));
  return data.map((session) => session.id);
}

async function toSubscriptionLook(
  stripe: Stripe,
  subscription: Stripe.Subscription,
  email: string | null,
  fetchedAt: number,
): Promise<SubscriptionLook> {
  const status = subscription.status as SubscriptionStatus;
  const trialEnd = milliseconds(subscription.trial_end);
  return {
    id: subscription.id,
    mode: subscription.livemode ? 'live' : 'test',
    status,
    stripeCustomerId: idOf(subscription.customer) as string,
    email,
    items: itemsOf(subscription),
    currentPeriodEnd: periodEndOf(subscription),
    cancelAtPeriodEnd: subscription.cancel_at_period_end,
    cancelAt:
      milliseconds(subscription.cancel_at) ??
      (subscription.cancel_at_period_end ? periodEndOf(subscription) : null),
    trialEnd,
    pastDueSince: status === 'past_due' ? await owedSince(stripe, subscription.id) : null,
    createdAt: subscription.created * 1000,
    fetchedAt,
  };
}

/** Since 2025-03-31 the period is on the items, before that on the subscription; of several, access lasts to the latest end. */
function periodEndOf(subscription: Stripe.Subscription): number | null {
  const old = (subscription as { current_period_end?: number }).current_period_end;
  const ends = subscription.items.data
    .map((item) => item.current_period_end as number | undefined)
    .filter((end) => end !== undefined);
  if (ends.length > 0) return Math.max(...ends) * 1000;
  return milliseconds(old ?? null);
}

/** When the oldest invoice that is still open was first tried, or was due where the customer pays by hand. */
async function owedSince(stripe: Stripe, subscriptionId: string): Promise<number | null> {
  const { data } = await callStripe(() =>
    stripe.invoices.list({ subscription: subscriptionId, status: 'open', limit: 100 }),
  );
  const failed = data.flatMap((invoice) => {
    if (invoice.collection_method === 'send_invoice') return invoice.due_date ?? [];
    // The first attempt is made when the invoice is finalized.
    return invoice.attempted ? (invoice.status_transitions.finalized_at ?? invoice.created) : [];
  });
  return failed.length > 0 ? Math.min(...failed) * 1000 : null;
}

function milliseconds(seconds: number | null): number | null {
  return seconds === null ? null : seconds * 1000;
}

async function paymentOf(stripe: Stripe, session: Stripe.Checkout.Session): Promise<SessionLook['payment']> {
  if (session.status === 'expired') return 'expired';
  if (session.status !== 'complete') return 'open';
  if (session.payment_status !== 'unpaid') return 'paid';
  const invoiceId = idOf(session.invoice);
  const invoice = invoiceId && (await lookUp(() => stripe.invoices.retrieve(invoiceId)));
  // The session stays `unpaid` when its invoice is paid in another way after a failure, at Stripe or outside it.
  if (invoice && invoice.status === 'paid') return 'paid';
  const intent =
    (session.payment_intent as Stripe.PaymentIntent | null) ?? (await intentOfInvoice(stripe, invoiceId));
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

function itemsOf(subscription: Stripe.Subscription): BoughtItem[] {
  return subscription.items.data.map((item) => ({ priceId: item.price.id, quantity: item.quantity ?? 1 }));
}

/** An expanded list has the first ten entries only. */
async function itemsOfLines(stripe: Stripe, session: Stripe.Checkout.Session): Promise<BoughtItem[]> {
  const expanded = session.line_items;
  const lines = expanded?.has_more
    ? (await callStripe(() => stripe.checkout.sessions.listLineItems(session.id, { limit: 100 }))).data
    : (expanded?.data ?? []);
  return lines.flatMap((line) =>
    line.price ? [{ priceId: line.price.id, quantity: line.quantity ?? 1 }] : [],
  );
}

/** The id of what Stripe gave as an id or in full. */
export function idOf(reference: string | { id: string } | null | undefined): string | null {
  if (!reference) return null;
  return typeof reference === 'string' ? reference : reference.id;
}
