import { z } from 'zod';
import type { EventObject } from '../keystore/keystore.ts';

/** What an event can be about. */
export type EventKind =
  | 'session'
  | 'subscription'
  | 'invoice'
  | 'charge'
  | 'refund'
  | 'dispute'
  | 'customer'
  | 'entitlements'
  /** Another event, which says it. */
  | 'event';

/** Every event that something is done about, and what it makes us look at. */
export const EVENT_KINDS: Readonly<Record<string, EventKind>> = {
  'checkout.session.completed': 'session',
  'checkout.session.async_payment_succeeded': 'session',
  'checkout.session.async_payment_failed': 'session',
  'checkout.session.expired': 'session',
  'customer.subscription.created': 'subscription',
  'customer.subscription.updated': 'subscription',
  'customer.subscription.deleted': 'subscription',
  'customer.subscription.paused': 'subscription',
  'customer.subscription.resumed': 'subscription',
  'customer.subscription.trial_will_end': 'subscription',
  'invoice.paid': 'invoice',
  'invoice.payment_succeeded': 'invoice',
  'invoice.payment_failed': 'invoice',
  'charge.refunded': 'charge',
  'refund.updated': 'refund',
  'refund.failed': 'refund',
  'charge.dispute.created': 'dispute',
  // An inquiry that becomes a dispute.
  'charge.dispute.updated': 'dispute',
  'charge.dispute.funds_withdrawn': 'dispute',
  'charge.dispute.closed': 'dispute',
  'customer.updated': 'customer',
  'customer.deleted': 'customer',
  'entitlements.active_entitlement_summary.updated': 'entitlements',
};

/** Whether something is done about events of this type, full or thin. */
export function isHandled(type: string): boolean {
  return Object.hasOwn(EVENT_KINDS, type.replace(/^v1\./, ''));
}

const reference = z
  .union([
    z.string().max(255),
    z.object({ id: z.string().max(255) }).transform((object) => object.id),
    z.null(),
  ])
  .optional()
  .catch(null);

/** The parts of an event's object that say what to look at, in every shape that Stripe has sent them in. */
const objectSchema = z.object({
  id: z.string().max(255).nullish().catch(null),
  customer: reference,
  charge: reference,
});

/** What an event with its object in it makes us look at, and whose it is. */
export function readEventObject(
  type: string,
  data: unknown,
): { object: EventObject | null; customer: string | null } {
  const kind = EVENT_KINDS[type];
  const parsed = objectSchema.safeParse(data);
  if (!kind || !parsed.success) return { object: null, customer: null };
  const { id, customer, charge } = parsed.data;
  const at = (objectKind: EventKind, objectId: string | null | undefined): EventObject | null =>
    objectId ? { kind: objectKind, id: objectId } : null;
  const whose = kind === 'customer' ? (id ?? null) : (customer ?? null);
  switch (kind) {
    case 'refund':
      return { object: at('charge', charge) ?? at('refund', id), customer: whose };
    case 'dispute':
      return { object: at('charge', charge) ?? at('dispute', id), customer: whose };
    case 'entitlements':
      return { object: at('entitlements', customer), customer: whose };
    default:
      return { object: at(kind, id), customer: whose };
  }
}

/**
 * What a thin event, which only names its object, makes us look at.
 *
 * @param thin.type such as `v1.invoice.paid`
 * @param thin.snapshotId the full event that goes with it: some objects have no id of their own to be named by
 */
export function readThinObject(thin: {
  type: string;
  relatedId: string | null;
  snapshotId: string | null;
}): EventObject | null {
  const kind = EVENT_KINDS[thin.type.replace(/^v1\./, '')];
  if (!kind) return null;
  if (thin.relatedId) return { kind, id: thin.relatedId };
  return thin.snapshotId ? { kind: 'event', id: thin.snapshotId } : null;
}
