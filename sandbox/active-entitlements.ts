import { type Feature, featuresOf } from './entitlement-features.ts';
import { emit } from './events.ts';
import { newId } from './ids.ts';
import { listOf } from './pagination.ts';
import { required, string } from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import type { Subscription } from './subscriptions.ts';
import type { World } from './world.ts';

export interface ActiveEntitlement {
  id: string;
  object: 'entitlements.active_entitlement';
  feature: string;
  livemode: false;
  lookup_key: string;
}

/** What a subscription gives access to, since its items or its period changed last. */
const granted = new WeakMap<Subscription, { since: string; features: Feature[] }>();

/**
 * What a subscription's products gave access to when its current period began, or its items last changed: Stripe
 * lets a change of a product's features wait for the next period (https://docs.stripe.com/billing/entitlements).
 */
function grantedBy(world: World, sub: Subscription): Feature[] {
  if (sub.status !== 'active' && sub.status !== 'trialing') return [];
  const since = sub.items.data
    .map(({ price, current_period_start }) => `${price.product} ${current_period_start}`)
    .join();
  const known = granted.get(sub);
  if (known?.since === since) return known.features;
  const features = sub.items.data.flatMap(({ price }) =>
    featuresOf(world, price.product).map(({ entitlement_feature }) => entitlement_feature),
  );
  granted.set(sub, { since, features });
  return features;
}

/**
 * Brings a customer's entitlements up to date with their subscriptions.
 * Event, if that changes any: entitlements.active_entitlement_summary.updated.
 */
export function refreshEntitlements(world: World, customer: string): void {
  const before = world.entitlements.get(customer) ?? [];
  const features = new Set(
    world.store.subscriptions
      .all()
      .filter((sub) => sub.customer === customer)
      .flatMap((sub) => grantedBy(world, sub)),
  );
  const kept = before.filter(({ feature }) => [...features].some(({ id }) => id === feature));
  const added = [...features]
    .filter(({ id }) => !before.some(({ feature }) => feature === id))
    .map((feature) => entitlementTo(world, feature));
  if (added.length === 0 && kept.length === before.length) return;
  for (const gone of before) if (!kept.includes(gone)) world.store.entitlements.remove(gone.id);
  world.entitlements.set(customer, [...kept, ...added]);
  emit(world, 'entitlements.active_entitlement_summary.updated', summaryOf(world, customer), {
    entitlements: { data: before },
  });
}

function entitlementTo(world: World, feature: Feature): ActiveEntitlement {
  return world.store.entitlements.add({
    id: newId('ent'),
    object: 'entitlements.active_entitlement',
    feature: feature.id,
    livemode: false,
    lookup_key: feature.lookup_key,
  });
}

function summaryOf(world: World, customer: string) {
  return {
    object: 'entitlements.active_entitlement_summary' as const,
    customer,
    entitlements: listOf(world.entitlements.get(customer) ?? [], `/v1/customer/${customer}/entitlements`),
    livemode: false,
  };
}

/** Sees to it that every change of a subscription is followed by its customer's entitlements. */
export function watchEntitlements(world: World): void {
  world.watchers.push((type, object) => {
    if (type.startsWith('customer.subscription.')) {
      refreshEntitlements(world, (object as Subscription).customer);
    }
  });
}

export const activeEntitlementRoutes: Route[] = [
  listRoute('/v1/entitlements/active_entitlements', { customer: required(string()) }, (world, params) => {
    world.store.customers.named(params.customer, 'customer');
    return world.entitlements.get(params.customer) ?? [];
  }),
  route('GET', '/v1/entitlements/active_entitlements/:id', {}, (world, _params, id) =>
    world.store.entitlements.get(id),
  ),
];
