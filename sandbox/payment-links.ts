import { itemsOf, linkItemShape, newItems } from './checkout-items.ts';
import { type CheckoutSession, openSession } from './checkout-sessions.ts';
import { invalid } from './errors.ts';
import { change, emit } from './events.ts';
import { base62, newId } from './ids.ts';
import {
  boolean,
  clearable,
  integer,
  isEmail,
  list,
  mergeMetadata,
  metadata,
  object,
  oneOf,
  only,
  type Parsed,
  required,
  string,
  unsupported,
  url,
} from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import { trialSettingsShape } from './trial-settings.ts';
import { day, type World } from './world.ts';

export type PaymentLink = ReturnType<typeof createLink>;

const subscriptionUpdateShape = {
  metadata: metadata(),
  trial_period_days: clearable(integer(1, 730)),
  trial_settings: clearable(trialSettingsShape),
  ...unsupported('invoice_settings'),
};
const subscriptionData = object({ ...subscriptionUpdateShape, description: string(500) });

const shared = {
  after_completion: object({
    type: required(oneOf('hosted_confirmation', 'redirect')),
    redirect: object({ url: required(url()) }),
    hosted_confirmation: object({ custom_message: string(500) }),
  }),
  allow_promotion_codes: boolean(),
  customer_creation: oneOf('always', 'if_required'),
  metadata: metadata(),
  payment_intent_data: object({
    description: string(1000),
    metadata: metadata(),
    ...unsupported(
      'capture_method',
      'setup_future_usage',
      'statement_descriptor',
      'statement_descriptor_suffix',
      'transfer_group',
    ),
  }),
  payment_method_collection: oneOf('always', 'if_required'),
  inactive_message: clearable(string(500)),
  restrictions: clearable(object({ completed_sessions: required(object({ limit: required(integer(1)) })) })),
  subscription_data: subscriptionData,
  billing_address_collection: only('auto'),
  submit_type: only('auto'),
  ...unsupported(
    'application_fee_amount',
    'application_fee_percent',
    'automatic_tax',
    'consent_collection',
    'custom_fields',
    'custom_text',
    'invoice_creation',
    'name_collection',
    'on_behalf_of',
    'optional_items',
    'payment_method_options',
    'payment_method_types',
    'phone_number_collection',
    'shipping_address_collection',
    'shipping_options',
    'tax_id_collection',
    'transfer_data',
  ),
};

type LinkParams = Parsed<typeof shared>;

function createLink(world: World, params: LinkParams, recurring: boolean, currency: string) {
  const { restrictions, after_completion: after } = params;
  return {
    id: newId('plink'),
    object: 'payment_link' as const,
    active: true,
    after_completion: completionOf(after),
    allow_promotion_codes: params.allow_promotion_codes ?? false,
    application: null,
    application_fee_amount: null,
    application_fee_percent: null,
    automatic_tax: { enabled: false, liability: null },
    billing_address_collection: 'auto' as const,
    consent_collection: null,
    currency,
    custom_fields: [],
    custom_text: {
      after_submit: null,
      shipping_address: null,
      submit: null,
      terms_of_service_acceptance: null,
    },
    customer_creation: params.customer_creation ?? (recurring ? 'always' : 'if_required'),
    inactive_message: params.inactive_message ?? null,
    invoice_creation: null,
    livemode: false,
    managed_payments: null,
    metadata: mergeMetadata({}, params.metadata),
    on_behalf_of: null,
    payment_intent_data: params.payment_intent_data
      ? {
          capture_method: null,
          description: params.payment_intent_data.description ?? null,
          metadata: mergeMetadata({}, params.payment_intent_data.metadata),
          setup_future_usage: null,
          statement_descriptor: null,
          statement_descriptor_suffix: null,
          transfer_group: null,
        }
      : null,
    payment_method_collection: params.payment_method_collection ?? 'always',
    payment_method_options: null,
    payment_method_types: null,
    phone_number_collection: { enabled: false },
    restrictions: restrictions
      ? { completed_sessions: { count: 0, limit: restrictions.completed_sessions.limit } }
      : null,
    shipping_address_collection: null,
    shipping_options: [],
    submit_type: 'auto' as const,
    subscription_data: recurring ? subscriptionDataOf(params.subscription_data) : null,
    tax_id_collection: { enabled: false, required: 'never' as const },
    transfer_data: null,
    url: `${world.publicUrl}/b/test_${base62(18)}`,
  };
}

function completionOf(after: LinkParams['after_completion']) {
  if (after?.type === 'redirect') {
    if (!after.redirect)
      throw invalid(
        'Missing required param: after_completion[redirect].',
        'after_completion[redirect]',
        'parameter_missing',
      );
    return { redirect: { url: after.redirect.url }, type: 'redirect' as const };
  }
  return {
    hosted_confirmation: { custom_message: after?.hosted_confirmation?.custom_message ?? null },
    type: 'hosted_confirmation' as const,
  };
}

function subscriptionDataOf(data: Parsed<{ data: typeof subscriptionData }>['data']) {
  return {
    description: data?.description ?? null,
    invoice_settings: {
      account_tax_ids: null,
      custom_fields: null,
      description: null,
      footer: null,
      issuer: { type: 'self' as const },
    },
    metadata: mergeMetadata({}, data?.metadata),
    trial_period_days: data?.trial_period_days ?? null,
    trial_settings: data?.trial_settings ?? null,
  };
}

/** Why a link cannot be opened, for its page; undefined if it can. */
export function linkClosed(link: PaymentLink): string | undefined {
  const limit = link.restrictions?.completed_sessions;
  if (link.active && (!limit || limit.count < limit.limit)) return undefined;
  return link.inactive_message ?? 'This link is no longer active.';
}

/** Opens a session as visiting the link does: `client_reference_id` and `prefilled_email` come from its address. */
export function openLink(
  world: World,
  link: PaymentLink,
  query: { client_reference_id: string | null; prefilled_email: string | null },
): CheckoutSession {
  const data = link.subscription_data;
  const days = data?.trial_period_days ?? null;
  const items = itemsOf(world, link.id);
  const reference = query.client_reference_id ?? '';
  const email = query.prefilled_email ?? '';
  return openSession(world, {
    mode: data ? 'subscription' : 'payment',
    items: items.map((item) => ({ ...item, id: newId('li') })),
    success_url: 'redirect' in link.after_completion ? (link.after_completion.redirect?.url ?? null) : null,
    // Stripe drops a reference with other characters or more than 200 of them.
    client_reference_id: /^[\w-]{1,200}$/.test(reference) ? reference : null,
    customer_email: isEmail(email) ? email : null,
    customer_creation: link.customer_creation,
    metadata: link.metadata,
    allow_promotion_codes: link.allow_promotion_codes,
    payment_link: link.id,
    payment_method_collection: link.payment_method_collection,
    terms: {
      subscription: {
        metadata: data?.metadata ?? {},
        description: data?.description ?? null,
        trialEnd: days === null ? null : world.clock.now() + days * day,
        missingMethod: data?.trial_settings?.end_behavior.missing_payment_method ?? 'create_invoice',
      },
      intent: {
        metadata: link.payment_intent_data?.metadata ?? {},
        description: link.payment_intent_data?.description ?? null,
        shipping: null,
        setupFutureUsage: undefined,
      },
    },
  });
}

export const paymentLinkRoutes: Route[] = [
  route(
    'POST',
    '/v1/payment_links',
    {
      ...shared,
      line_items: required(list(object(linkItemShape), 20)),
      ...unsupported('currency', 'managed_payments'),
    },
    (world, { line_items, ...params }) => {
      const items = newItems(world, line_items);
      const recurring = items.some(({ price }) => price.recurring);
      if (!recurring && params.subscription_data) {
        throw invalid('`subscription_data` can only be used with recurring prices.', 'subscription_data');
      }
      if (recurring && params.payment_intent_data) {
        throw invalid('You can not pass `payment_intent_data` with recurring prices.', 'payment_intent_data');
      }
      const link = world.store.paymentLinks.add(
        createLink(world, params, recurring, items[0]?.currency ?? 'usd'),
      );
      world.lineItems.set(link.id, items);
      emit(world, 'payment_link.created', link);
      return link;
    },
  ),
  listRoute('/v1/payment_links', { active: boolean() }, (world, params) =>
    world.store.paymentLinks
      .all()
      .filter((link) => params.active === undefined || link.active === params.active),
  ),
  route('GET', '/v1/payment_links/:id', {}, (world, _params, id) => world.store.paymentLinks.get(id)),
  listRoute('/v1/payment_links/:id/line_items', {}, (world, _params, id) => {
    world.store.paymentLinks.get(id);
    return itemsOf(world, id);
  }),
  route(
    'POST',
    '/v1/payment_links/:id',
    {
      ...shared,
      subscription_data: object(subscriptionUpdateShape),
      active: boolean(),
      ...unsupported('line_items', 'payment_intent_data', 'restrictions'),
    },
    (world, params, id) => {
      const link = world.store.paymentLinks.get(id);
      const data = link.subscription_data;
      const update = params.subscription_data;
      change(world, 'payment_link.updated', link, {
        active: params.active ?? link.active,
        after_completion: params.after_completion
          ? completionOf(params.after_completion)
          : link.after_completion,
        allow_promotion_codes: params.allow_promotion_codes ?? link.allow_promotion_codes,
        customer_creation: params.customer_creation ?? link.customer_creation,
        inactive_message:
          params.inactive_message === undefined ? link.inactive_message : params.inactive_message,
        metadata: mergeMetadata(link.metadata, params.metadata),
        payment_method_collection: params.payment_method_collection ?? link.payment_method_collection,
        subscription_data:
          data && update
            ? {
                ...data,
                metadata: mergeMetadata(data.metadata, update.metadata),
                trial_period_days:
                  update.trial_period_days === undefined ? data.trial_period_days : update.trial_period_days,
                trial_settings:
                  update.trial_settings === undefined ? data.trial_settings : update.trial_settings,
              }
            : data,
      });
      return link;
    },
  ),
];
