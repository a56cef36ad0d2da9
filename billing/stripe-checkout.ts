import type Stripe from 'stripe';
import { ProblemError } from '../shared/problems.ts';
import { callStripe } from './stripe-client.ts';
import { PURCHASE_ID_METADATA } from './stripe-look.ts';

/**
 * Opens a Checkout page for one price.
 *
 * @param input.idempotencyKey makes a repeated call answer with the first one's session
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
    idempotencyKey: string | null;
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
      input.idempotencyKey ? { idempotencyKey: input.idempotencyKey } : {},
    ),
  );
  if (!session.url) throw new ProblemError('stripe_refused', 'Stripe opened a checkout without an address.');
  return { sessionId: session.id, url: session.url };
}

/** A price as it is at Stripe; `unitAmount` is `null` where it is not a fixed one (tiers, customer's choice). */
export type PriceLook = { unitAmount: number | null; currency: string; interval: string | null };

/** Looks at a price. @throws ProblemError `stripe_unavailable`, `stripe_refused` */
export async function lookAtPrice(stripe: Stripe, priceId: string): Promise<PriceLook> {
  const { unit_amount, currency, recurring } = await callStripe(() => stripe.prices.retrieve(priceId));
  const every =
    recurring && recurring.interval_count > 1
      ? `${recurring.interval_count} ${recurring.interval}s`
      : recurring?.interval;
  return { unitAmount: unit_amount, currency, interval: every ?? null };
}
