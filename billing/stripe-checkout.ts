import type Stripe from 'stripe';
import type { Mode } from '../shared/keys.ts';
import { ProblemError } from '../shared/problems.ts';
import { callStripe, lookUp } from './stripe-client.ts';
import { PURCHASE_ID_METADATA } from './stripe-look.ts';

/**
 * Opens a Checkout page for one price. A repeated call with the same purchase id answers with the first one's session.
 *
 * @returns the session's id and the page's address
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`, `idempotency_conflict`
 */
export async function openCheckout(
  stripe: Stripe,
  input: {
    priceId: string;
    recurring: boolean;
    planId: string;
    purchaseId: string;
    successUrl: string;
    cancelUrl: string;
    email: string | null;
    /** Days of a trial the subscription begins with; `null`: none. */
    trialDays: number | null;
  },
): Promise<{ sessionId: string; url: string }> {
  const metadata = { [PURCHASE_ID_METADATA]: input.purchaseId, tollgate_plan: input.planId };
  const session = await callStripe(() =>
    stripe.checkout.sessions.create(
      {
        mode: input.recurring ? 'subscription' : 'payment',
        line_items: [{ price: input.priceId, quantity: 1 }],
        success_url: input.successUrl,
        cancel_url: input.cancelUrl,
        metadata,
        // A session's metadata does not reach what it creates.
        ...(input.recurring
          ? {
              subscription_data: {
                metadata,
                ...(input.trialDays === null ? {} : { trial_period_days: input.trialDays }),
              },
            }
          : { customer_creation: 'always' as const }),
        ...(input.email ? { customer_email: input.email } : {}),
      },
      { idempotencyKey: `tollgate_checkout_${input.purchaseId}` },
    ),
  );
  if (!session.url) throw new ProblemError('stripe_refused', 'Stripe opened a checkout without an address.');
  return { sessionId: session.id, url: session.url };
}

/** A price as it is at Stripe; `unitAmount` is `null` where it is not a fixed one (tiers, customer's choice). */
export type PriceLook = { unitAmount: number | null; currency: string; interval: string | null };

/** Looks at a price. @throws ProblemError `stripe_unavailable`, `stripe_refused` */
export async function lookAtPrice(stripe: Stripe, priceId: string): Promise<PriceLook> {
  return priceOf(await callStripe(() => stripe.prices.retrieve(priceId)));
}

/**
 * Whether a price can be sold, and in which mode; `null`: Stripe has none with this id.
 *
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtPriceOnSale(
  stripe: Stripe,
  priceId: string,
): Promise<{ price: PriceLook; active: boolean; mode: Mode } | null> {
  const price = await lookUp(() => stripe.prices.retrieve(priceId));
  return price && { price: priceOf(price), active: price.active, mode: price.livemode ? 'live' : 'test' };
}

function priceOf({ unit_amount, currency, recurring }: Stripe.Price): PriceLook {
  const every =
    recurring && recurring.interval_count > 1
      ? `${recurring.interval_count} ${recurring.interval}s`
      : recurring?.interval;
  return { unitAmount: unit_amount, currency, interval: every ?? null };
}
