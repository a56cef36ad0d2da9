import express, { type Router } from 'express';
import { onlyBy } from '../shared/methods.ts';
import { type PlanCatalogue, planFor } from '../shared/plans.ts';
import { presentedKey } from '../shared/presented-key.ts';
import { priceText } from '../shared/price-text.ts';
import type { Licensing } from './context.ts';
import { type FeatureValue, featuresOf, licenceOf } from './licence.ts';

/** A feature that a plan does not include, and the plans on sale that do. */
type Locked = {
  feature: string;
  plans: { id: string; name: string; value: FeatureValue; price: string | null }[];
};

/**
 * `GET /licences/features`: with a key what its plan includes, without one what anybody may use who has bought nothing
 * (the free plan's features), and in both cases what is locked and which plans have it.
 */
export function featureRoutes(licensing: Licensing): Router {
  const { plans } = licensing;
  const product = licensing.config.keyPrefix;
  const router = express.Router();
  router.get('/licences/features', async (request, response) => {
    if (presentedKey(request) === undefined) {
      const free = plans.plans.find((plan) => !plan.hidden && plan.price?.unitAmount === 0);
      const features = free ? featuresOf(free) : {};
      response.json({
        product,
        plan: free ? { id: free.id, name: free.name } : null,
        demo: true,
        features,
        locked: lockedFor(features, plans),
      });
      return;
    }
    const key = await licensing.holders.identify(request, undefined, await licensing.mode());
    await licensing.limits.spendReading(key);
    const { plan, features } = licenceOf(key, plans, licensing.now());
    response.json({
      product,
      plan: { id: plan.id, name: plan.name },
      demo: false,
      features,
      locked: lockedFor(features, plans),
    });
  });
  router.all('/licences/features', onlyBy('GET'));
  return router;
}

/** What plans on sale have beyond these features: other ones, or more of the same. */
function lockedFor(features: Readonly<Record<string, FeatureValue>>, { plans }: PlanCatalogue): Locked[] {
  const locked = new Map<string, Locked>();
  for (const plan of plans.filter((each) => !each.hidden)) {
    for (const [feature, value] of Object.entries(featuresOf(planFor(plan, 1)))) {
      if (!isMore(value, features[feature])) continue;
      const entry = locked.get(feature) ?? { feature, plans: [] };
      entry.plans.push({ id: plan.id, name: plan.name, value, price: priceText(plan.price) });
      locked.set(feature, entry);
    }
  }
  return [...locked.values()];
}

/** Of values that cannot be compared, such as regions, none is more than another. */
function isMore(value: FeatureValue, than: FeatureValue | undefined): boolean {
  if (than === undefined) return true;
  return typeof value === 'number' && typeof than === 'number' && value > than;
}
