import Stripe from 'stripe';
import type { StripeConfig } from '../shared/config.ts';
import { ProblemError } from '../shared/problems.ts';
import { meteredHttpClient, type OnStripeCall } from './stripe-meter.ts';
import { pacedHttpClient } from './stripe-pace.ts';

/** The account that billing talks to; only billing/stripe* calls it. */
export type StripeClient = Stripe;

/**
 * How long one call may take and how often it is tried again. A buyer waits for a page, and it reloads itself; nobody
 * waits for the inbox.
 */
const PATIENCE = {
  page: { timeout: 5000, maxNetworkRetries: 1 },
  inbox: { timeout: 10_000, maxNetworkRetries: 2 },
} as const;

/** Stripe's official client for the configured account. */
export function createStripe(
  config: Pick<StripeConfig, 'secretKey' | 'apiBase' | 'requestsPerSecond'>,
  use: keyof typeof PATIENCE = 'inbox',
  onCall: OnStripeCall = () => {},
): Stripe {
  const client = meteredHttpClient(onCall);
  const base = config.apiBase ? new URL(config.apiBase) : null;
  return new Stripe(config.secretKey, {
    ...PATIENCE[use],
    httpClient: use === 'inbox' ? pacedHttpClient(config.requestsPerSecond, client) : client,
    telemetry: false,
    appInfo: { name: 'Tollgate' },
    ...(base && {
      protocol: base.protocol === 'http:' ? ('http' as const) : ('https' as const),
      host: base.hostname.replace(/^\[|\]$/g, ''),
      port: base.port || (base.protocol === 'http:' ? 80 : 443),
    }),
  });
}

/**
 * Runs a call to Stripe and turns its failures into answers of ours: out of reach or overloaded is
 * `stripe_unavailable` (worth a retry), anything else Stripe said no to is `stripe_refused`, with Stripe's own words
 * kept as the cause for the log.
 *
 * @throws ProblemError
 */
export async function callStripe<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw toProblem(error);
  }
}

/** As {@link callStripe}; `null` when Stripe has no such object. */
export async function lookUp<T>(call: () => Promise<T>): Promise<T | null> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof Stripe.errors.StripeInvalidRequestError && error.code === 'resource_missing')
      return null;
    throw toProblem(error);
  }
}

/** Every page of one of Stripe's lists. @throws ProblemError `stripe_unavailable`, `stripe_refused` */
export async function* pages<T extends { id: string }>(
  list: (after: { starting_after?: string }) => Promise<{ data: T[]; has_more: boolean }>,
): AsyncGenerator<T[]> {
  let after: { starting_after?: string } = {};
  for (;;) {
    const page = await callStripe(() => list(after));
    yield page.data;
    const last = page.data.at(-1);
    if (!page.has_more || !last) return;
    after = { starting_after: last.id };
  }
}

function toProblem(error: unknown): unknown {
  const { errors } = Stripe;
  if (!(error instanceof errors.StripeError)) return error;
  if (error instanceof errors.StripeIdempotencyError) {
    return new ProblemError(
      'idempotency_conflict',
      'This Idempotency-Key was used before with other parameters.',
      {},
      { cause: error },
    );
  }
  const busy = error instanceof errors.StripeRateLimitError || error.code === 'idempotency_key_in_use';
  if (busy || error instanceof errors.StripeConnectionError || (error.statusCode ?? 0) >= 500) {
    return new ProblemError('stripe_unavailable', 'Stripe did not answer as expected.', {}, { cause: error });
  }
  return new ProblemError('stripe_refused', 'Stripe refused this request.', {}, { cause: error });
}
