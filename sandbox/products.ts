import { invalid } from './errors.ts';
import { change, emit } from './events.ts';
import { newId } from './ids.ts';
import {
  boolean,
  clearable,
  given,
  inRange,
  integer,
  list,
  mergeMetadata,
  metadata,
  object,
  range,
  required,
  string,
  unsupported,
  url,
} from './params.ts';
import { currency, inlineRecurringShape } from './price-params.ts';
import { createPrice } from './prices.ts';
import { listRoute, type Route, route } from './routes.ts';
import type { World } from './world.ts';

export type Product = ReturnType<typeof createProduct>;

export function createProduct(
  world: World,
  wanted: {
    name: string;
    id?: string;
    active?: boolean;
    description?: string;
    metadata?: Record<string, string>;
    images?: string[];
    url?: string;
    unit_label?: string;
    statement_descriptor?: string;
    shippable?: boolean;
    features?: string[];
  },
) {
  requireFree(world, wanted.id);
  const now = world.clock.now();
  const product = {
    id: wanted.id ?? newId('prod'),
    object: 'product' as const,
    active: wanted.active ?? true,
    created: now,
    default_price: null as string | null,
    description: wanted.description ?? (null as string | null),
    images: wanted.images ?? [],
    livemode: false,
    marketing_features: (wanted.features ?? []).map((name) => ({ name })),
    metadata: wanted.metadata ?? {},
    name: wanted.name,
    package_dimensions: null,
    shippable: wanted.shippable ?? (null as boolean | null),
    statement_descriptor: wanted.statement_descriptor ?? (null as string | null),
    tax_code: null,
    tax_details: null,
    type: 'service' as const,
    unit_label: wanted.unit_label ?? (null as string | null),
    updated: now,
    url: wanted.url ?? (null as string | null),
  };
  world.store.products.add(product);
  emit(world, 'product.created', product);
  return product;
}

function requireFree(world: World, id: string | undefined): void {
  if (id !== undefined && world.store.products.find(id)) {
    throw invalid(`Product already exists with the ID '${id}'`, 'id', 'resource_already_exists');
  }
}

const shared = {
  active: boolean(),
  images: clearable(list(url(), 8)),
  marketing_features: clearable(list(object({ name: required(string(80)) }), 15)),
  metadata: metadata(),
  shippable: boolean(),
  statement_descriptor: string(22),
  url: clearable(url()),
  unit_label: clearable(string(12)),
  ...unsupported('package_dimensions', 'tax_code', 'tax_details'),
};

export const productRoutes: Route[] = [
  route(
    'POST',
    '/v1/products',
    {
      ...shared,
      name: required(string()),
      id: string(255),
      description: string(),
      default_price_data: object({
        currency: required(currency()),
        unit_amount: integer(0),
        recurring: object(inlineRecurringShape),
        metadata: metadata(),
        ...unsupported('currency_options', 'custom_unit_amount', 'tax_behavior', 'unit_amount_decimal'),
      }),
      ...unsupported('type'),
    },
    (world, { default_price_data: price, marketing_features, metadata, ...params }) => {
      const product = createProduct(world, {
        ...withoutNull(params),
        metadata: mergeMetadata({}, metadata),
        features: (marketing_features ?? []).map(({ name }) => name),
      });
      if (price) {
        const { id } = createPrice(
          world,
          { ...price, product: product.id, metadata: mergeMetadata({}, price.metadata) },
          'default_price_data',
        );
        product.default_price = id;
      }
      return product;
    },
  ),
  listRoute(
    '/v1/products',
    {
      active: boolean(),
      created: range(),
      ids: list(string()),
      shippable: boolean(),
      url: string(),
      ...unsupported('type'),
    },
    (world, { active, created, ids, shippable, url }) =>
      world.store.products
        .all()
        .filter(
          (product) =>
            (active === undefined || product.active === active) &&
            (!created || inRange(product.created, created)) &&
            (!ids || ids.includes(product.id)) &&
            (shippable === undefined || product.shippable === shippable) &&
            (url === undefined || product.url === url),
        ),
  ),
  route('GET', '/v1/products/:id', {}, (world, _params, id) => world.store.products.get(id)),
  route(
    'POST',
    '/v1/products/:id',
    { ...shared, name: string(), description: clearable(string()), default_price: string() },
    (world, { metadata, marketing_features, images, default_price, ...params }, id) => {
      const product = world.store.products.get(id);
      if (
        default_price !== undefined &&
        world.store.prices.named(default_price, 'default_price').product !== id
      ) {
        throw invalid(
          `The price specified (${default_price}) does not belong to this product.`,
          'default_price',
        );
      }
      change(world, 'product.updated', product, {
        ...given(params),
        ...(default_price === undefined ? {} : { default_price }),
        ...(images === undefined ? {} : { images: images ?? [] }),
        ...(marketing_features === undefined ? {} : { marketing_features: marketing_features ?? [] }),
        metadata: mergeMetadata(product.metadata, metadata),
        updated: world.clock.now(),
      });
      return product;
    },
  ),
  route('DELETE', '/v1/products/:id', {}, (world, _params, id) => {
    const product = world.store.products.get(id);
    if (world.store.prices.all().some((price) => price.product === id)) {
      throw invalid('This product cannot be deleted because it has one or more user-created prices.', 'id');
    }
    world.store.products.remove(id);
    emit(world, 'product.deleted', product);
    return { id, object: 'product', deleted: true };
  }),
];

function withoutNull<T extends object>(params: T): { [K in keyof T]: Exclude<T[K], null> } {
  return Object.fromEntries(Object.entries(params).filter(([, value]) => value !== null)) as {
    [K in keyof T]: Exclude<T[K], null>;
  };
}
