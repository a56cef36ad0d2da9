import { invalid } from './errors.ts';
import { change, emit } from './events.ts';
import { newId } from './ids.ts';
import {
  boolean,
  clearable,
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
  unsupported,
} from './params.ts';
import { currency, recurringShape } from './price-params.ts';
import { createProduct } from './products.ts';
import { listRoute, type Route, route } from './routes.ts';
import type { World } from './world.ts';

export type Interval = 'day' | 'week' | 'month' | 'year';
export interface Recurring {
  interval: Interval;
  interval_count: number;
  meter: null;
  trial_period_days: null;
  usage_type: 'licensed';
}
export type Price = ReturnType<typeof createPrice>;

export interface PriceWanted {
  currency: string;
  product?: string | undefined;
  product_data?: { name: string; metadata?: Record<string, string> } | undefined;
  unit_amount?: number | undefined;
  recurring?: { interval: Interval; interval_count?: number | undefined } | undefined;
  active?: boolean | undefined;
  lookup_key?: string | undefined;
  nickname?: string | undefined;
  metadata?: Record<string, string>;
}

/** Makes a price, and its product from `product_data`. @throws StripeError 400 naming parameters below `path`. */
export function createPrice(world: World, wanted: PriceWanted, path = '') {
  const at = (name: string) => (path === '' ? name : `${path}[${name}]`);
  if (wanted.unit_amount === undefined) throw missing(at('unit_amount'));
  if (wanted.product !== undefined) world.store.products.named(wanted.product, at('product'));
  else if (!wanted.product_data) throw missing(at('product'));
  const product = wanted.product ?? createProduct(world, wanted.product_data as { name: string }).id;
  const recurring: Recurring | null = wanted.recurring
    ? {
        interval: wanted.recurring.interval,
        interval_count: wanted.recurring.interval_count ?? 1,
        meter: null,
        trial_period_days: null,
        usage_type: 'licensed',
      }
    : null;
  const price = {
    id: newId('price'),
    object: 'price' as const,
    active: wanted.active ?? true,
    billing_scheme: 'per_unit' as const,
    created: world.clock.now(),
    currency: wanted.currency,
    custom_unit_amount: null,
    livemode: false,
    lookup_key: wanted.lookup_key ?? (null as string | null),
    metadata: wanted.metadata ?? {},
    nickname: wanted.nickname ?? (null as string | null),
    product,
    recurring,
    tax_behavior: 'unspecified' as const,
    tiers_mode: null,
    transform_quantity: null,
    type: recurring ? ('recurring' as const) : ('one_time' as const),
    unit_amount: wanted.unit_amount,
    unit_amount_decimal: String(wanted.unit_amount),
  };
  world.store.prices.add(price);
  emit(world, 'price.created', price);
  return price;
}

/** The legacy `plan` that still accompanies a recurring price on subscription items. */
export function planOf(price: Price) {
  return {
    id: price.id,
    object: 'plan' as const,
    active: price.active,
    amount: price.unit_amount,
    amount_decimal: price.unit_amount_decimal,
    billing_scheme: price.billing_scheme,
    created: price.created,
    currency: price.currency,
    interval: price.recurring?.interval ?? 'month',
    interval_count: price.recurring?.interval_count ?? 1,
    livemode: false,
    metadata: price.metadata,
    meter: null,
    nickname: price.nickname,
    product: price.product,
    tiers_mode: null,
    transform_usage: null,
    trial_period_days: null,
    usage_type: 'licensed' as const,
  };
}

/** A lookup key belongs to one price; `transfer` takes it from the price that has it. */
function claimLookupKey(world: World, key: string | null | undefined, transfer = false, owner?: Price): void {
  const holder = key
    ? world.store.prices.all().find((price) => price.lookup_key === key && price !== owner)
    : undefined;
  if (!holder) return;
  if (!transfer) {
    throw invalid(
      `A price (\`${holder.id}\`) already uses that lookup key. Pass \`transfer_lookup_key=true\` to transfer the lookup key from that price.`,
      'lookup_key',
    );
  }
  change(world, 'price.updated', holder, { lookup_key: null });
}

export const priceRoutes: Route[] = [
  route(
    'POST',
    '/v1/prices',
    {
      currency: required(currency()),
      product: string(),
      product_data: object({
        name: required(string()),
        metadata: metadata(),
        ...unsupported('active', 'id', 'statement_descriptor', 'tax_code', 'tax_details', 'unit_label'),
      }),
      unit_amount: integer(0),
      recurring: object(recurringShape),
      active: boolean(),
      lookup_key: string(200),
      nickname: string(),
      metadata: metadata(),
      transfer_lookup_key: boolean(),
      billing_scheme: only('per_unit'),
      tax_behavior: only('unspecified'),
      ...unsupported(
        'currency_options',
        'custom_unit_amount',
        'tiers',
        'tiers_mode',
        'transform_quantity',
        'unit_amount_decimal',
      ),
    },
    (world, params) => {
      if (params.product !== undefined && params.product_data) {
        throw invalid('You may only specify one of these parameters: product, product_data.', 'product');
      }
      claimLookupKey(world, params.lookup_key, params.transfer_lookup_key);
      return createPrice(world, {
        ...params,
        metadata: mergeMetadata({}, params.metadata),
        product_data: params.product_data && {
          name: params.product_data.name,
          metadata: mergeMetadata({}, params.product_data.metadata),
        },
      });
    },
  ),
  listRoute(
    '/v1/prices',
    {
      active: boolean(),
      created: range(),
      currency: currency(),
      lookup_keys: list(string(), 10),
      product: string(),
      recurring: object({
        interval: oneOf('day', 'week', 'month', 'year'),
        ...unsupported('meter', 'usage_type'),
      }),
      type: oneOf('one_time', 'recurring'),
    },
    (world, params) =>
      world.store.prices
        .all()
        .filter(
          (price) =>
            (params.active === undefined || price.active === params.active) &&
            (!params.created || inRange(price.created, params.created)) &&
            (params.currency === undefined || price.currency === params.currency) &&
            (!params.lookup_keys || params.lookup_keys.includes(price.lookup_key ?? '')) &&
            (params.product === undefined || price.product === params.product) &&
            (!params.recurring?.interval || price.recurring?.interval === params.recurring.interval) &&
            (params.type === undefined || price.type === params.type),
        ),
  ),
  route('GET', '/v1/prices/:id', {}, (world, _params, id) => world.store.prices.get(id)),
  route(
    'POST',
    '/v1/prices/:id',
    {
      active: boolean(),
      lookup_key: clearable(string(200)),
      nickname: clearable(string()),
      metadata: metadata(),
      transfer_lookup_key: boolean(),
      ...unsupported('currency_options', 'tax_behavior'),
    },
    (world, params, id) => {
      const price = world.store.prices.get(id);
      claimLookupKey(world, params.lookup_key, params.transfer_lookup_key, price);
      change(world, 'price.updated', price, {
        active: params.active ?? price.active,
        lookup_key: params.lookup_key === undefined ? price.lookup_key : params.lookup_key,
        nickname: params.nickname === undefined ? price.nickname : params.nickname,
        metadata: mergeMetadata(price.metadata, params.metadata),
      });
      return price;
    },
  ),
];
