import { invalid, noSuch } from './errors.ts';
import { newId } from './ids.ts';
import { boolean, clearable, mergeMetadata, metadata, required, string } from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import type { World } from './world.ts';

export type Feature = ReturnType<typeof createFeature>;
export type ProductFeature = ReturnType<typeof attachFeature>;

/** Makes a feature that products can carry. @throws StripeError 400 for the lookup key of another active feature. */
function createFeature(
  world: World,
  wanted: { lookup_key: string; name: string; metadata: Record<string, string> },
) {
  const { lookup_key } = wanted;
  if (world.store.features.all().some((feature) => feature.active && feature.lookup_key === lookup_key)) {
    throw invalid(`A feature with the lookup key '${lookup_key}' already exists.`, 'lookup_key');
  }
  const feature = {
    id: newId('feat'),
    object: 'entitlements.feature' as const,
    active: true,
    livemode: false as const,
    lookup_key,
    metadata: wanted.metadata,
    name: wanted.name,
  };
  world.store.features.add(feature);
  return feature;
}

/** Attaches a feature to a product. @throws StripeError 400 if it has it already or the feature is archived. */
function attachFeature(world: World, product: string, feature: Feature) {
  if (!feature.active) throw invalid('An archived feature cannot be attached.', 'entitlement_feature');
  if (featuresOf(world, product).some(({ entitlement_feature }) => entitlement_feature === feature)) {
    throw invalid(
      `The product ${product} already has the feature ${feature.lookup_key}.`,
      'entitlement_feature',
    );
  }
  const attached = {
    id: newId('prodft'),
    object: 'product_feature' as const,
    entitlement_feature: feature,
    livemode: false as const,
  };
  world.store.productFeatures.add(attached);
  world.productOfFeature.set(attached.id, product);
  return attached;
}

/** What a product gives access to, latest attached first. */
export function featuresOf(world: World, product: string): ProductFeature[] {
  return world.store.productFeatures.all().filter(({ id }) => world.productOfFeature.get(id) === product);
}

function attachedTo(world: World, product: string, id: string): ProductFeature {
  world.store.products.get(product);
  const found = featuresOf(world, product).find((feature) => feature.id === id);
  if (!found) throw noSuch('product_feature', id, 'id', 404);
  return found;
}

export const entitlementFeatureRoutes: Route[] = [
  route(
    'POST',
    '/v1/entitlements/features',
    { lookup_key: required(string(80)), name: required(string(80)), metadata: metadata() },
    (world, params) => createFeature(world, { ...params, metadata: mergeMetadata({}, params.metadata) }),
  ),
  listRoute('/v1/entitlements/features', { archived: boolean(), lookup_key: string() }, (world, params) =>
    world.store.features
      .all()
      .filter(
        ({ active, lookup_key }) =>
          active !== (params.archived ?? false) &&
          (params.lookup_key === undefined || lookup_key === params.lookup_key),
      ),
  ),
  route('GET', '/v1/entitlements/features/:id', {}, (world, _params, id) => world.store.features.get(id)),
  route(
    'POST',
    '/v1/entitlements/features/:id',
    { active: boolean(), name: string(80), metadata: clearable(metadata()) },
    (world, params, id) => {
      const feature = world.store.features.get(id);
      return Object.assign(feature, {
        active: params.active ?? feature.active,
        name: params.name ?? feature.name,
        metadata: mergeMetadata(feature.metadata, params.metadata),
      });
    },
  ),
  route(
    'POST',
    '/v1/products/:id/features',
    { entitlement_feature: required(string()) },
    (world, params, id) => {
      world.store.products.get(id);
      const feature = world.store.features.named(params.entitlement_feature, 'entitlement_feature');
      return attachFeature(world, id, feature);
    },
  ),
  listRoute('/v1/products/:id/features', {}, (world, _params, id) => {
    world.store.products.get(id);
    return featuresOf(world, id);
  }),
  route('GET', '/v1/products/:productId/features/:id', {}, (world, _params, id, product) =>
    attachedTo(world, product, id),
  ),
  route('DELETE', '/v1/products/:productId/features/:id', {}, (world, _params, id, product) => {
    attachedTo(world, product, id);
    world.store.productFeatures.remove(id);
    return { id, object: 'product_feature', deleted: true };
  }),
];
