import { StripeError } from './errors.ts';

function refused(message: string): StripeError {
  return new StripeError(401, { type: 'invalid_request_error', message });
}

/**
 * Accepts any test key, as Bearer or as the user of Basic authentication.
 *
 * @throws StripeError 401 for no key, a malformed key, and any live key.
 */
export function authenticate(header: string | undefined): void {
  if (!header) {
    throw refused(
      "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.",
    );
  }
  const [scheme, credentials = ''] = header.split(' ', 2);
  const key =
    scheme?.toLowerCase() === 'basic'
      ? (Buffer.from(credentials, 'base64').toString('utf8').split(':')[0] ?? '')
      : credentials;
  if (/^(sk|rk)_live_/.test(key)) {
    throw refused(
      'This is the Tollgate sandbox, not Stripe: it refuses live keys. Use a key that begins with sk_test_, and consider rolling the live key.',
    );
  }
  if (!/^(sk|rk)_test_[A-Za-z0-9_]+$/.test(key)) throw refused(`Invalid API Key provided: ${masked(key)}`);
}

/** A key fit for a message: its kind, stars, its last four characters. */
function masked(key: string): string {
  const kind = /^(?:[a-z]{2}_(?:test|live)_)?/.exec(key)?.[0] ?? '';
  return `${kind}${'*'.repeat(Math.min(20, Math.max(4, key.length - kind.length - 4)))}${key.length > 12 ? key.slice(-4) : ''}`;
}
