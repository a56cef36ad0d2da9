import type { Shipping } from './addresses.ts';
import type { Item } from './checkout-items.ts';
import { emit } from './events.ts';
import { newSessionId } from './ids.ts';
import type { Metadata } from './params.ts';
import type { MethodType } from './payment-methods.ts';
import type { MissingMethod } from './trial-settings.ts';
import { day, type World } from './world.ts';

export type CheckoutSession = ReturnType<typeof openSession>;

/** What a session sets up when it is paid. */
export interface CheckoutTerms {
  subscription: {
    metadata: Metadata;
    description: string | null;
    trialEnd: number | null;
    missingMethod: MissingMethod;
  };
  intent: {
    metadata: Metadata;
    description: string | null;
    shipping: Shipping | null;
    setupFutureUsage: 'off_session' | 'on_session' | undefined;
  };
}

export interface SessionWanted {
  mode: 'payment' | 'subscription';
  items: Item[];
  terms: CheckoutTerms;
  success_url: string | null;
  cancel_url?: string | null | undefined;
  client_reference_id?: string | null | undefined;
  customer?: string | null | undefined;
  customer_email?: string | null | undefined;
  customer_creation?: 'always' | 'if_required' | null | undefined;
  metadata?: Metadata;
  allow_promotion_codes?: boolean | null | undefined;
  expires_at?: number | undefined;
  payment_link?: string | null;
  payment_method_collection?: 'always' | 'if_required' | undefined;
  locale?: string | null | undefined;
  allowed_payment_method_types?: MethodType[] | undefined;
}

/** Opens a session, and sees to it that it expires. */
export function openSession(world: World, wanted: SessionWanted) {
  const now = world.clock.now();
  const id = newSessionId();
  const trial = wanted.terms.subscription.trialEnd !== null;
  const items = wanted.items.map((item) =>
    trial && item.price.recurring ? { ...item, amount_subtotal: 0, amount_total: 0 } : item,
  );
  const total = items.reduce((sum, item) => sum + item.amount_total, 0);
  world.lineItems.set(id, items);
  world.terms.set(id, wanted.terms);
  const session = {
    id,
    object: 'checkout.session' as const,
    adaptive_pricing: null,
    after_expiration: null,
    allow_promotion_codes: wanted.allow_promotion_codes ?? null,
    allowed_payment_method_types: wanted.allowed_payment_method_types ?? null,
    amount_subtotal: total,
    amount_total: total,
    automatic_tax: { enabled: false, liability: null, provider: null, status: null },
    billing_address_collection: null,
    cancel_url: wanted.cancel_url ?? null,
    client_reference_id: wanted.client_reference_id ?? null,
    client_secret: null,
    collected_information: null,
    consent: null,
    consent_collection: null,
    created: now,
    currency: items[0]?.currency ?? 'usd',
    currency_conversion: null,
    custom_fields: [],
    custom_text: {
      after_submit: null,
      shipping_address: null,
      submit: null,
      terms_of_service_acceptance: null,
    },
    customer: wanted.customer ?? (null as string | null),
    customer_account: null,
    customer_creation:
      wanted.mode === 'subscription' ? ('always' as const) : (wanted.customer_creation ?? 'if_required'),
    customer_details: null as null | ReturnType<typeof detailsFor>,
    customer_email: wanted.customer_email ?? null,
    discounts: [],
    expires_at: wanted.expires_at ?? now + day,
    integration_identifier: null,
    invoice: null as string | null,
    invoice_creation:
      wanted.mode === 'payment'
        ? {
            enabled: false,
            invoice_data: {
              account_tax_ids: null,
              custom_fields: null,
              description: null,
              footer: null,
              issuer: null,
              metadata: {},
              rendering_options: null,
            },
          }
        : null,
    livemode: false,
    locale: wanted.locale ?? null,
    managed_payments: null,
    metadata: wanted.metadata ?? {},
    mode: wanted.mode,
    origin_context: null,
    payment_intent: null as string | null,
    payment_link: wanted.payment_link ?? null,
    payment_method_collection:
      wanted.mode === 'subscription' ? (wanted.payment_method_collection ?? 'always') : 'if_required',
    payment_method_configuration_details: null,
    payment_method_options: {},
    payment_method_types:
      wanted.allowed_payment_method_types ??
      (['card', items[0]?.currency === 'eur' ? 'sepa_debit' : 'us_bank_account'] as MethodType[]),
    payment_status: (total === 0 ? 'no_payment_required' : 'unpaid') as
      | 'no_payment_required'
      | 'paid'
      | 'unpaid',
    permissions: null,
    phone_number_collection: { enabled: false },
    recovered_from: null,
    saved_payment_method_options: null,
    setup_intent: null,
    shipping_address_collection: null,
    shipping_cost: null,
    shipping_options: [],
    status: 'open' as 'open' | 'complete' | 'expired',
    submit_type: null,
    subscription: null as string | null,
    success_url: wanted.success_url,
    total_details: { amount_discount: 0, amount_shipping: 0, amount_tax: 0 },
    ui_mode: 'hosted_page' as const,
    url: `${world.publicUrl}/c/pay/${id}` as string | null,
    wallet_options: null,
  };
  world.store.sessions.add(session);
  if (session.customer || session.customer_email) session.customer_details = detailsFor(world, session);
  world.clock.at(session.expires_at, () => {
    if (world.store.sessions.find(id) === session && session.status === 'open') expireSession(world, session);
  });
  return session;
}

/** What is known of the buyer, for `customer_details`. */
export function detailsFor(
  world: World,
  session: { customer: string | null; customer_email: string | null },
) {
  const customer = world.store.customers.find(session.customer);
  return {
    address: customer?.address ?? null,
    business_name: null,
    email: customer?.email ?? session.customer_email,
    individual_name: null,
    name: customer?.name ?? null,
    phone: customer?.phone ?? null,
    tax_exempt: 'none' as const,
    tax_ids: [] as never[],
  };
}

/** Ends an open session. Event: checkout.session.expired. */
export function expireSession(world: World, session: CheckoutSession): void {
  session.status = 'expired';
  session.url = null;
  emit(world, 'checkout.session.expired', session);
}
