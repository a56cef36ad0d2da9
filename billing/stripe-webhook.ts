import { randomUUID } from 'node:crypto';
import Stripe from 'stripe';
import { z } from 'zod';
import type { EventObject, ReceivedEvent } from '../keystore/keystore.ts';
import type { Mode } from '../shared/keys.ts';
import { ProblemError } from '../shared/problems.ts';
import { isHandled, readEventObject, readThinObject } from './stripe-events.ts';

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
  data: z.object({ object: z.unknown() }),
});

/** A thin event (API v2): it names what it is about, and leaves the rest to a look. */
const thinEventSchema = z.object({
  id: z.string().min(1).max(255),
  object: z.literal('v2.core.event'),
  type: z.string().min(1).max(255),
  livemode: z.boolean(),
  created: z.iso.datetime({ offset: true }),
  related_object: z.object({ id: z.string().max(255).nullish() }).nullish(),
  snapshot_event: z.string().max(255).nullish(),
});

/**
 * Checks a webhook's signature over the raw body, then reads the event, in full or thin.
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
  try {
    return readEvent(JSON.parse(payload), payload);
  } catch {
    throw new ProblemError('invalid_request', 'The body is signed but is not a Stripe event.');
  }
}

/** What events of preflight's are called. */
export const TEST_EVENT_TYPE = 'tollgate.preflight';

/**
 * An event that nothing is done about, signed as Stripe signs: what takes it in has the same signing secret.
 *
 * @returns its body, and the value of `Stripe-Signature`
 */
export function signedTestEvent(
  mode: Mode,
  secret: string,
  now: number,
): { body: string; signature: string } {
  const created = Math.floor(now / 1000);
  const body = JSON.stringify({
    id: `evt_preflight_${randomUUID().replaceAll('-', '')}`,
    object: 'event',
    type: TEST_EVENT_TYPE,
    livemode: mode === 'live',
    api_version: null,
    created,
    data: { object: {} },
  });
  const signature = Stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp: created });
  return { body, signature };
}

/**
 * Reads an event as Stripe sends or lists it.
 *
 * @throws ZodError when it is none
 */
export function readEvent(event: unknown, payload = JSON.stringify(event)): ReceivedEvent {
  if ((event as { object?: unknown } | null)?.object === 'v2.core.event') {
    const thin = thinEventSchema.parse(event);
    const object = readThinObject({
      type: thin.type,
      relatedId: thin.related_object?.id ?? null,
      snapshotId: thin.snapshot_event ?? null,
    });
    return {
      id: thin.id,
      type: thin.type,
      mode: thin.livemode ? 'live' : 'test',
      apiVersion: null,
      object,
      customer: null,
      outcome: outcomeWithout(object, thin.type),
      payload,
      createdAt: Date.parse(thin.created),
    };
  }
  const full = eventSchema.parse(event);
  const { object, customer } = readEventObject(full.type, full.data.object);
  return {
    id: full.id,
    type: full.type,
    mode: full.livemode ? 'live' : 'test',
    apiVersion: full.api_version ?? null,
    object,
    customer,
    outcome: outcomeWithout(object, full.type),
    payload,
    createdAt: full.created * 1000,
  };
}

/** Most of an account's events make us look at nothing, and an invoice without a subscription bills for something else. */
function outcomeWithout(object: EventObject | null, type: string): string | null {
  if (object) return null;
  return isHandled(type) ? 'not_ours' : 'unhandled';
}
