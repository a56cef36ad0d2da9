import { setTimeout as pause } from 'node:timers/promises';
import { RateLimiterMemory, RateLimiterQueue } from 'rate-limiter-flexible';
import type Stripe from 'stripe';

type HttpClient = ReturnType<typeof Stripe.createNodeHttpClient>;

/** The share of Stripe's limit that background work takes; the rest is for buyers, who are waiting. */
const SHARE = 0.8;
/** Calls are spread over slices of this length, so that no second sees more than the share, seconds. */
const SLICE_S = 0.25;
/** How often a call that Stripe had no room for is made again, before it counts as failed. */
const RETRIES = 6;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8000;

/**
 * An HTTP client for Stripe's SDK that keeps to a rate, first come first served, and waits with growing, scattered
 * pauses when Stripe answers 429 all the same (https://docs.stripe.com/rate-limits).
 *
 * @param client what makes the calls
 * @param perSecond Stripe's limit for the account: 100 requests a second live, 25 in test mode; `null`: no limit
 */
export function pacedHttpClient(perSecond: number | null, client: HttpClient): HttpClient {
  const queue =
    perSecond === null
      ? null
      : new RateLimiterQueue(
          new RateLimiterMemory({
            points: Math.max(1, Math.floor(perSecond * SHARE * SLICE_S)),
            duration: SLICE_S,
          }),
        );
  return {
    getClientName: () => client.getClientName(),
    async makeRequest(...request) {
      for (let attempt = 0; ; attempt++) {
        await queue?.removeTokens(1);
        const response = await client.makeRequest(...request);
        if (response.getStatusCode() !== 429 || attempt === RETRIES) return response;
        await response.toJSON().catch(() => {});
        await pause(Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2));
      }
    },
  };
}
