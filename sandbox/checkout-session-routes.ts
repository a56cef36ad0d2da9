import { shippingShape, wholeShipping } from './addresses.ts';
import { type Item, itemsOf, newItems, sessionItemShape } from './checkout-items.ts';
import { type CheckoutTerms, expireSession, openSession } from './checkout-sessions.ts';
import { invalid } from './errors.ts';
import {
  boolean,
  email,
  inRange,
  integer,
  list,
  mergeMetadata,
  metadata,
  missing,
  object,
  oneOf,
  only,
  range,
  required,
  string,
  timestamp,
  unsupported,
  url,
} from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import { trialSettingsShape } from './trial-settings.ts';
import { day, hour, type World } from './world.ts';

/** The intervals a session's prices recur at must match its mode. @throws StripeError 400. */
export function requireModeFits(mode: 'payment' | 'subscription', items: Item[]): void {
  const recurring = items.some(({ price }) => price.recurring !== null);
  if (mode === 'subscription' && !recurring) {
    throw invalid(
      'You must provide at least one recurring price in `subscription` mode when using prices.',
      'line_items',
    );
  }
  if (mode === 'payment' && recurring) {
    throw invalid(
      'You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.',
      'line_items',
    );
  }
}

const subscriptionData = object({
  description: string(500),
  metadata: metadata(),
  trial_end: timestamp(),
  trial_period_days: integer(1, 730),
  trial_settings: trialSettingsShape,
  proration_behavior: oneOf('create_prorations', 'none'),
  ...unsupported(
    'application_fee_percent',
    'billing_cycle_anchor',
    'billing_cycle_anchor_config',
    'billing_mode',
    'default_tax_rates',
    'invoice_settings',
    'on_behalf_of',
    'pending_invoice_item_interval',
    'transfer_data',
  ),
});

const intentData = object({
  description: string(1000),
  metadata: metadata(),
  receipt_email: string(),
  setup_future_usage: oneOf('off_session', 'on_session'),
  shipping: shippingShape,
  ...unsupported(
    'application_fee_amount',
    'capture_method',
    'on_behalf_of',
    'statement_descriptor',
    'statement_descriptor_suffix',
    'transfer_data',
    'transfer_group',
  ),
});

export const checkoutSessionRoutes: Route[] = [
  route(
    'POST',
    '/v1/checkout/sessions',
    {
      mode: required(oneOf('payment', 'setup', 'subscription')),
      line_items: list(object(sessionItemShape)),
      success_url: url(),
      cancel_url: url(),
      client_reference_id: string(200),
      customer: string(),
      customer_email: email(),
      customer_creation: oneOf('always', 'if_required'),
      metadata: metadata(),
      allow_promotion_codes: boolean(),
      expires_at: timestamp(),
      locale: string(10),
      payment_method_collection: oneOf('always', 'if_required'),
      subscription_data: subscriptionData,
      payment_intent_data: intentData,
      ui_mode: only('hosted_page'),
      adaptive_pricing: object({ enabled: only('false') }),
      automatic_tax: object({ enabled: required(only('false')), ...unsupported('liability') }),
      phone_number_collection: object({ enabled: required(only('false')) }),
      tax_id_collection: object({ enabled: required(only('false')), ...unsupported('required') }),
      billing_address_collection: only('auto'),
      submit_type: only('auto'),
      allowed_payment_method_types: list(oneOf('card', 'sepa_debit', 'us_bank_account')),
      ...unsupported(
        'after_expiration',
        'branding_settings',
        'consent_collection',
        'currency',
        'custom_fields',
        'custom_text',
        'customer_account',
        'customer_update',
        'discounts',
        'excluded_payment_method_types',
        'integration_identifier',
        'invoice_creation',
        'managed_payments',
        'name_collection',
        'optional_items',
        'origin_context',
        'payment_method_configuration',
        'payment_method_data',
        'payment_method_options',
        'permissions',
        'redirect_on_completion',
        'return_url',
        'saved_payment_method_options',
        'setup_intent_data',
        'shipping_address_collection',
        'shipping_options',
        'wallet_options',
      ),
    },
    (world, params) => {
      const { mode } = params;
      if (mode === 'setup')
        throw invalid('The sandbox does not support the mode setup.', 'mode', 'sandbox_unsupported');
      if (!params.line_items || params.line_items.length === 0) throw missing('line_items');
      if (params.success_url === undefined) throw missing('success_url');
      requireConsistent(params as Record<string, unknown>, mode);
      if (params.customer !== undefined) world.store.customers.named(params.customer, 'customer');
      requireExpiry(world, params.expires_at);
      const items = newItems(world, params.line_items);
      requireModeFits(mode, items);
      return openSession(world, {
        ...params,
        mode,
        items,
        success_url: params.success_url,
        metadata: mergeMetadata({}, params.metadata),
        terms: termsOf(world, params),
      });
    },
  ),
  listRoute(
    '/v1/checkout/sessions',
    {
      created: range(),
      customer: string(),
      customer_details: object({ email: required(string()) }),
      payment_intent: string(),
      payment_link: string(),
      status: oneOf('open', 'complete', 'expired'),
      subscription: string(),
      ...unsupported('customer_account'),
    },
    (world, params) =>
      world.store.sessions
        .all()
        .filter(
          (session) =>
            (!params.created || inRange(session.created, params.created)) &&
            (params.customer === undefined || session.customer === params.customer) &&
            (!params.customer_details || session.customer_details?.email === params.customer_details.email) &&
            (params.payment_intent === undefined || session.payment_intent === params.payment_intent) &&
            (params.payment_link === undefined || session.payment_link === params.payment_link) &&
            (params.status === undefined || session.status === params.status) &&
            (params.subscription === undefined || session.subscription === params.subscription),
        ),
  ),
  route('GET', '/v1/checkout/sessions/:id', {}, (world, _params, id) => world.store.sessions.get(id)),
  route(
    'POST',
    '/v1/checkout/sessions/:id',
    {
      metadata: metadata(),
      ...unsupported('collected_information', 'line_items', 'payment_intent_data', 'shipping_options'),
    },
    (world, params, id) => {
      const session = world.store.sessions.get(id);
      session.metadata = mergeMetadata(session.metadata, params.metadata);
      return session;
    },
  ),
  listRoute('/v1/checkout/sessions/:id/line_items', {}, (world, _params, id) => {
    world.store.sessions.get(id);
    return itemsOf(world, id);
  }),
  route('POST', '/v1/checkout/sessions/:id/expire', {}, (world, _params, id) => {
    const session = world.store.sessions.get(id);
    if (session.status !== 'open') {
      throw invalid(
        `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of \`${session.status}\`.`,
      );
    }
    expireSession(world, session);
    return session;
  }),
];

function requireConsistent(params: Record<string, unknown>, mode: 'payment' | 'subscription'): void {
  if (params.customer !== undefined && params.customer_email !== undefined) {
    throw invalid('You may only specify one of these parameters: customer, customer_email.', 'customer');
  }
  const foreign =
    mode === 'payment'
      ? ['subscription_data', 'payment_method_collection']
      : ['payment_intent_data', 'customer_creation'];
  for (const name of foreign) {
    if (params[name] !== undefined) throw invalid(`You can not pass \`${name}\` in \`${mode}\` mode.`, name);
  }
}

function requireExpiry(world: World, expiresAt: number | undefined): void {
  if (expiresAt === undefined) return;
  const ahead = expiresAt - world.clock.now();
  // A second of grace on either side: the caller computed it a moment ago.
  if (ahead < hour / 2 - 1)
    throw invalid(
      'The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.',
      'expires_at',
    );
  if (ahead > day + 1)
    throw invalid(
      'The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.',
      'expires_at',
    );
}

function termsOf(
  world: World,
  params: {
    subscription_data?: ReturnType<typeof subscriptionData.parse> | undefined;
    payment_intent_data?: ReturnType<typeof intentData.parse> | undefined;
  },
): CheckoutTerms {
  const { subscription_data: sub, payment_intent_data: intent } = params;
  if (sub?.trial_end !== undefined && sub.trial_period_days !== undefined) {
    throw invalid(
      'You may only specify one of these parameters: trial_end, trial_period_days.',
      'subscription_data[trial_end]',
    );
  }
  if (sub?.trial_end !== undefined && sub.trial_end < world.clock.now() + 2 * day) {
    throw invalid(
      'The `trial_end` date has to be at least 2 days in the future.',
      'subscription_data[trial_end]',
    );
  }
  const days = sub?.trial_period_days;
  return {
    subscription: {
      metadata: mergeMetadata({}, sub?.metadata),
      description: sub?.description ?? null,
      trialEnd: sub?.trial_end ?? (days === undefined ? null : world.clock.now() + days * day),
      missingMethod: sub?.trial_settings?.end_behavior.missing_payment_method ?? 'create_invoice',
    },
    intent: {
      metadata: mergeMetadata({}, intent?.metadata),
      description: intent?.description ?? null,
      shipping: wholeShipping(intent?.shipping),
      setupFutureUsage: intent?.setup_future_usage,
    },
  };
}
