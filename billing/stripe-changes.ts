import type Stripe from 'stripe';
import { callStripe, lookUp } from './stripe-client.ts';
import { idOf } from './stripe-look.ts';

/**
 * Moves a subscription to another price.
 *
 * @param difference what becomes of it: paid at once (`always_invoice`), as in the customer portal, or let go (`none`)
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function changePrice(
  stripe: Stripe,
  subscriptionId: string,
  price: string,
  difference: 'always_invoice' | 'none',
): Promise<void> {
  const { items } = await callStripe(() => stripe.subscriptions.retrieve(subscriptionId));
  await callStripe(() =>
    stripe.subscriptions.update(subscriptionId, {
      items: [{ id: String(items.data[0]?.id), price }],
      proration_behavior: difference,
    }),
  );
}

/**
 * Ends a subscription now; one that has ended stays as it is.
 *
 * @returns its status afterwards
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function cancelNow(stripe: Stripe, subscriptionId: string): Promise<string> {
  const { status } = await callStripe(() => stripe.subscriptions.retrieve(subscriptionId));
  if (status === 'canceled' || status === 'incomplete_expired') return status;
  return (await callStripe(() => stripe.subscriptions.cancel(subscriptionId))).status;
}

/** What was given back of a purchase, in the currency's smallest unit. */
export type GivenBack = {
  amount: number;
  currency: string;
  /** Whether all of it is with the buyer; a refund to some payment methods takes days. */
  settled: boolean;
};

/**
 * Gives back everything that was paid in a checkout and for its subscription since, but for what was given back before.
 *
 * @returns what was given back, now and before; `null`: nothing was paid
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function refundAll(stripe: Stripe, sessionId: string): Promise<GivenBack | null> {
  const session = await callStripe(() => stripe.checkout.sessions.retrieve(sessionId));
  const intents = [
    idOf(session.payment_intent),
    ...(await intentsOfSubscription(stripe, idOf(session.subscription))),
  ];
  const charges: GivenBack[] = [];
  for (const id of new Set(intents.filter((intent) => intent !== null))) {
    const intent = await callStripe(() => stripe.paymentIntents.retrieve(id, { expand: ['latest_charge'] }));
    const charge = intent.latest_charge as Stripe.Charge | null;
    if (!charge?.captured || charge.amount_captured === 0) continue;
    const left = charge.amount_captured - charge.amount_refunded;
    if (left > 0) await callStripe(() => stripe.refunds.create({ charge: charge.id }));
    const { data } = await callStripe(() => stripe.refunds.list({ charge: charge.id, limit: 100 }));
    const arrived = data.every(({ status }) => status === 'succeeded');
    charges.push({ amount: charge.amount_captured, currency: charge.currency, settled: arrived });
  }
  const [first] = charges;
  return first
    ? {
        amount: charges.reduce((sum, { amount }) => sum + amount, 0),
        currency: first.currency,
        settled: charges.every(({ settled }) => settled),
      }
    : null;
}

/**
 * Sees to it that nobody can pay a checkout any more that nobody has paid.
 *
 * @returns `expired`: nobody did, and nobody will; `complete`: somebody had finished it
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function closeCheckout(
  stripe: Stripe,
  sessionId: string,
): Promise<{ status: 'expired' | 'complete'; subscriptionId: string | null; paid: boolean }> {
  let session = await callStripe(() => stripe.checkout.sessions.retrieve(sessionId));
  if (session.status === 'open') {
    // Paid in the moment between: Stripe refuses, and the look tells.
    await callStripe(() => stripe.checkout.sessions.expire(sessionId)).catch(() => {});
    session = await callStripe(() => stripe.checkout.sessions.retrieve(sessionId));
  }
  if (session.status === 'open') throw new Error('The checkout could not be closed.');
  return {
    status: session.status === 'complete' ? 'complete' : 'expired',
    subscriptionId: idOf(session.subscription),
    paid: session.payment_status !== 'unpaid',
  };
}

/** The newest event that says that a checkout was completed or its payment arrived; `null`: Stripe has none yet. */
export async function findPaidEvent(stripe: Stripe, sessionId: string): Promise<string | null> {
  const session = await lookUp(() => stripe.checkout.sessions.retrieve(sessionId));
  if (!session) return null;
  const { data } = await callStripe(() =>
    stripe.events.list({
      types: ['checkout.session.completed', 'checkout.session.async_payment_succeeded'],
      created: { gte: session.created },
      limit: 100,
    }),
  );
  return data.find(({ data: { object } }) => (object as { id?: string }).id === sessionId)?.id ?? null;
}

async function intentsOfSubscription(
  stripe: Stripe,
  subscriptionId: string | null,
): Promise<(string | null)[]> {
  if (subscriptionId === null) return [];
  const { data } = await callStripe(() =>
    stripe.invoices.list({
      subscription: subscriptionId,
      status: 'paid',
      limit: 100,
      expand: ['data.payments'],
    }),
  );
  return data.flatMap(({ payments }) =>
    (payments?.data ?? []).map(({ payment }) => idOf(payment.payment_intent)),
  );
}
