import Stripe from 'stripe';

type HttpClient = ReturnType<typeof Stripe.createNodeHttpClient>;

/** Told of each call to Stripe, repeated ones too. @param status `null`: there was no answer */
export type OnStripeCall = (resource: string, status: number | null, seconds: number) => void;

/** Parts of Stripe's API that have several kinds of objects below them. */
const SPACES = new Set(['billing_portal', 'checkout', 'core', 'entitlements']);

/** An HTTP client for Stripe's SDK that tells of each call, how it ended and how long it took. */
export function meteredHttpClient(onCall: OnStripeCall): HttpClient {
  const client = Stripe.createNodeHttpClient();
  return {
    getClientName: () => client.getClientName(),
    async makeRequest(...request) {
      const [, , path] = request;
      const begun = performance.now();
      const tell = (status: number | null) =>
        onCall(resourceOf(path), status, (performance.now() - begun) / 1000);
      try {
        const response = await client.makeRequest(...request);
        tell(response.getStatusCode());
        return response;
      } catch (error) {
        tell(null);
        throw error;
      }
    },
  };
}

/** What a call is about, without ids: `/v1/checkout/sessions/cs_1/line_items` is about `checkout/sessions`. */
export function resourceOf(path: string): string {
  const [, , first = '', second = ''] = path.split('?', 1)[0]?.split('/') ?? [];
  return SPACES.has(first) ? `${first}/${second}` : first;
}
