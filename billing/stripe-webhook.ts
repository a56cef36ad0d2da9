import Stripe from 'stripe';
import { z } from 'zod';
import type { ReceivedEvent } from '../keystore/keystore.ts';
import { ProblemError } from '../shared/problems.ts';

/** Seconds a signature is good for (Stripe's default). */
export const SIGNATURE_TOLERANCE_S = 300;

const SIGNATURE_DETAIL = {
  stale: `The signature is older than ${SIGNATURE_TOLERANCE_S} seconds.`,
  invalid: 'The signature is missing or was not made with the secret of this endpoint.',
};

const eventSchema = z.object({
  id: z.string().min(1).max(255),
  object: z.literal('event'),
  type: z.string().min(1).max(255),
  livemode: z.boolean(),
  api_version: z.string().nullish(),
  created: z.int(),
  data: z.object({ object: z.object({ id: z.string().max(255).nullish() }) }),
});

/**
 * Checks a webhook's signature over the raw body, then reads the event.
 *
 * @throws ProblemError `invalid_signature`, `stale_signature`, `invalid_request` (signed, but no event)
 */
export function readSignedEvent(body: Buffer, signature: string | undefined, secret: string): ReceivedEvent {
  try {
    const verifier = Stripe.webhooks.signature;
    if (!verifier) throw new Error('The Stripe client cannot verify signatures');
    verifier.verifyHeader(body, signature ?? '', secret, SIGNATURE_TOLERANCE_S);
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeSignatureVerificationError)) throw error;
    const stale = /tolerance/i.test(error.message);
    throw stale
      ? new ProblemError('stale_signature', SIGNATURE_DETAIL.stale)
      : new ProblemError('invalid_signature', SIGNATURE_DETAIL.invalid);
  }
  const payload = body.toString('utf8');
  let parsed: z.infer<typeof eventSchema>;
  try {
    parsed = eventSchema.parse(JSON.parse(payload));
  } catch {
    throw new ProblemError('invalid_request', 'The body is signed but is not a Stripe event.');
  }
  return {
    id: parsed.id,
    type: parsed.type,
    mode: parsed.livemode ? 'live' : 'test',
    apiVersion: parsed.api_version ?? null,
    objectId: parsed.data.object.id ?? null,
    payload,
    createdAt: parsed.created * 1000,
  };
}
