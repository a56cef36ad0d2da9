import { emit } from './events.ts';
import { newId } from './ids.ts';
import {
  boolean,
  clearable,
  list,
  mergeMetadata,
  metadata,
  object,
  oneOf,
  type Parsed,
  required,
  string,
  unsupported,
  url,
} from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import type { World } from './world.ts';

export type PortalConfiguration = ReturnType<typeof newConfiguration>;

const reasons = [
  'customer_service',
  'low_quality',
  'missing_features',
  'other',
  'switched_service',
  'too_complex',
  'too_expensive',
  'unused',
] as const;

const featuresShape = {
  customer_update: object({
    enabled: required(boolean()),
    allowed_updates: clearable(list(oneOf('address', 'email', 'name', 'phone', 'shipping', 'tax_id'))),
  }),
  invoice_history: object({ enabled: required(boolean()) }),
  payment_method_update: object({
    enabled: required(boolean()),
    ...unsupported('payment_method_configuration'),
  }),
  subscription_cancel: object({
    enabled: required(boolean()),
    mode: oneOf('at_period_end', 'immediately'),
    proration_behavior: oneOf('none'),
    cancellation_reason: object({
      enabled: required(boolean()),
      options: clearable(list(oneOf(...reasons))),
      ...unsupported('feedback_options'),
    }),
  }),
  subscription_update: object({
    enabled: required(boolean()),
    default_allowed_updates: clearable(list(oneOf('price', 'promotion_code', 'quantity'))),
    products: clearable(
      list(
        object({
          product: required(string()),
          prices: required(list(string(), 20)),
          ...unsupported('adjustable_quantity'),
        }),
        20,
      ),
    ),
    proration_behavior: oneOf('none', 'create_prorations', 'always_invoice'),
    ...unsupported('billing_cycle_anchor', 'schedule_at_period_end', 'trial_update_behavior'),
  }),
  ...unsupported('subscription_pause'),
};

const shared = {
  business_profile: object({
    headline: clearable(string(60)),
    privacy_policy_url: url(),
    terms_of_service_url: url(),
  }),
  default_return_url: clearable(url()),
  metadata: metadata(),
  name: clearable(string()),
  login_page: object({ enabled: oneOf('false') }),
};

type Features = Parsed<typeof featuresShape>;

function wholeFeatures(world: World, given: Features) {
  const {
    customer_update,
    invoice_history,
    payment_method_update,
    subscription_cancel: cancel,
    subscription_update: update,
  } = given;
  for (const [index, { product, prices }] of (update?.products ?? []).entries()) {
    const path = `features[subscription_update][products][${index}]`;
    world.store.products.named(product, `${path}[product]`);
    for (const [at, price] of prices.entries()) world.store.prices.named(price, `${path}[prices][${at}]`);
  }
  return {
    customer_update: {
      allowed_updates: customer_update?.allowed_updates ?? [],
      enabled: customer_update?.enabled ?? false,
    },
    invoice_history: { enabled: invoice_history?.enabled ?? false },
    payment_method_update: {
      enabled: payment_method_update?.enabled ?? false,
      payment_method_configuration: null,
    },
    subscription_cancel: {
      cancellation_reason: {
        enabled: cancel?.cancellation_reason?.enabled ?? false,
        feedback_options: null,
        options: cancel?.cancellation_reason?.options ?? [],
      },
      enabled: cancel?.enabled ?? false,
      mode: cancel?.mode ?? ('at_period_end' as const),
      proration_behavior: cancel?.proration_behavior ?? ('none' as const),
    },
    subscription_pause: { duration: { interval_options: [], type: 'indefinite' as const }, enabled: false },
    subscription_update: {
      billing_cycle_anchor: null,
      default_allowed_updates: update?.default_allowed_updates ?? [],
      enabled: update?.enabled ?? false,
      ...(update?.products
        ? {
            products: update.products.map(({ product, prices }) => ({
              adjustable_quantity: { enabled: false, maximum: null, minimum: 1 },
              prices,
              product,
            })),
          }
        : {}),
      proration_behavior: update?.proration_behavior ?? ('none' as const),
      schedule_at_period_end: { conditions: [] },
      trial_update_behavior: 'end_trial' as const,
    },
  };
}

function newConfiguration(world: World, params: Parsed<typeof shared> & { features: Features }) {
  const now = world.clock.now();
  return {
    id: newId('bpc'),
    object: 'billing_portal.configuration' as const,
    active: true,
    application: null,
    business_profile: {
      headline: params.business_profile?.headline ?? null,
      privacy_policy_url: params.business_profile?.privacy_policy_url ?? null,
      terms_of_service_url: params.business_profile?.terms_of_service_url ?? null,
    },
    created: now,
    default_return_url: params.default_return_url ?? null,
    features: wholeFeatures(world, params.features),
    is_default: false,
    livemode: false,
    login_page: { enabled: false, url: null },
    metadata: mergeMetadata({}, params.metadata),
    name: params.name ?? null,
    updated: now,
  };
}

export const portalConfigurationRoutes: Route[] = [
  route(
    'POST',
    '/v1/billing_portal/configurations',
    { ...shared, features: required(object(featuresShape)) },
    (world, params) => {
      const configuration = world.store.portalConfigurations.add(newConfiguration(world, params));
      emit(world, 'billing_portal.configuration.created', configuration);
      return configuration;
    },
  ),
  listRoute(
    '/v1/billing_portal/configurations',
    { active: boolean(), is_default: boolean() },
    (world, params) =>
      world.store.portalConfigurations
        .all()
        .filter(
          (configuration) =>
            (params.active === undefined || configuration.active === params.active) &&
            (params.is_default === undefined || configuration.is_default === params.is_default),
        ),
  ),
  route('GET', '/v1/billing_portal/configurations/:id', {}, (world, _params, id) =>
    world.store.portalConfigurations.get(id),
  ),
  route(
    'POST',
    '/v1/billing_portal/configurations/:id',
    { ...shared, active: boolean(), features: object(featuresShape) },
    (world, params, id) => {
      const configuration = world.store.portalConfigurations.get(id);
      const { features, business_profile: profile } = configuration;
      if (params.features) {
        // Features not named stay as they are.
        const whole = wholeFeatures(world, params.features);
        for (const name of Object.keys(params.features) as (keyof Features)[])
          Object.assign(features, { [name]: whole[name] });
      }
      Object.assign(configuration, {
        active: params.active ?? configuration.active,
        business_profile: { ...profile, ...params.business_profile },
        default_return_url:
          params.default_return_url === undefined
            ? configuration.default_return_url
            : params.default_return_url,
        metadata: mergeMetadata(configuration.metadata, params.metadata),
        name: params.name === undefined ? configuration.name : params.name,
        updated: world.clock.now(),
      });
      emit(world, 'billing_portal.configuration.updated', configuration);
      return configuration;
    },
  ),
];
