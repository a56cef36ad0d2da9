import type { StripeEvent } from './events.ts';
import { base62 } from './ids.ts';

/** An event without the object it is about (https://docs.stripe.com/event-destinations#thin-payload). */
export interface ThinEvent {
  id: string;
  object: 'v2.core.event';
  created: string;
  livemode: false;
  reason: { type: 'request'; request: { id: string; idempotency_key: string | null } } | null;
  related_object: { id: string; type: string; url: string } | null;
  snapshot_event: string;
  type: string;
}

/** Where objects are read, by their type. What is not here cannot be read by id, and events about it name none. */
const paths: Record<string, string> = {
  'billing_portal.configuration': '/v1/billing_portal/configurations',
  charge: '/v1/charges',
  'checkout.session': '/v1/checkout/sessions',
  customer: '/v1/customers',
  dispute: '/v1/disputes',
  invoice: '/v1/invoices',
  invoice_payment: '/v1/invoice_payments',
  invoiceitem: '/v1/invoiceitems',
  payment_intent: '/v1/payment_intents',
  payment_link: '/v1/payment_links',
  payment_method: '/v1/payment_methods',
  price: '/v1/prices',
  product: '/v1/products',
  refund: '/v1/refunds',
  subscription: '/v1/subscriptions',
};

const made = new WeakMap<StripeEvent, ThinEvent>();

/** The thin event that goes with an event: it has an id of its own, and names the other as `snapshot_event`. */
export function thinOf(event: StripeEvent): ThinEvent {
  const known = made.get(event);
  if (known) return known;
  const { id, object: type } = event.data.object as { id?: string; object: string };
  const path = paths[type];
  const { id: request, idempotency_key } = event.request;
  const thin: ThinEvent = {
    id: `evt_test_65${base62(48)}`,
    object: 'v2.core.event',
    created: new Date(event.created * 1000).toISOString(),
    livemode: false,
    reason: request === null ? null : { type: 'request', request: { id: request, idempotency_key } },
    related_object: id && path ? { id, type, url: `${path}/${id}` } : null,
    snapshot_event: event.id,
    type: `v1.${event.type}`,
  };
  made.set(event, thin);
  return thin;
}
