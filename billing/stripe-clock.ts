import type Stripe from 'stripe';
import { callStripe } from './stripe-client.ts';

/**
 * By how many milliseconds the clock of this machine is ahead of Stripe's, to about a second.
 *
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function clockAhead(stripe: Stripe, now: () => number): Promise<number> {
  const asked = now();
  const { lastResponse } = await callStripe(() => stripe.prices.list({ limit: 1 }));
  const answered = now();
  // The header has whole seconds, cut off.
  const there = Date.parse(lastResponse.headers.date as string) + 500;
  return (asked + answered) / 2 - there;
}
