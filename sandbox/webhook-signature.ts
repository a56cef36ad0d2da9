import { createHmac } from 'node:crypto';

/**
 * The `Stripe-Signature` header of a payload: `v1` is the HMAC-SHA256 of `timestamp.payload` under the endpoint's
 * secret; test mode adds a `v0` that is to be ignored (https://docs.stripe.com/webhooks#verify-manually).
 */
export function signatureHeader(payload: string, secret: string, timestamp: number): string {
  const v1 = createHmac('sha256', secret).update(`${timestamp}.${payload}`).digest('hex');
  const v0 = createHmac('sha256', 'v0').update(`${timestamp}.${payload}`).digest('hex');
  return `t=${timestamp},v1=${v1},v0=${v0}`;
}
