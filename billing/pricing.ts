import express, { type Router } from 'express';
import type { Billing } from './context.ts';
import { allowFormsToStripe } from './forms-to-stripe.ts';
import { planText, sendPage } from './pages.ts';

/** The pricing page at `/`, and the same as JSON at `/billing/plans`. */
export function pricingRoutes({ config, mode, plans }: Billing): Router {
  const router = express.Router();
  const sold = plans.plans.filter((plan) => !plan.hidden);
  const isPurchasable = (planId: string) => plans.priceForPlan(planId, mode) !== undefined;

  router.get('/', allowFormsToStripe(config), (_request, response) => {
    sendPage(response, 'pricing', {
      plans: sold.map((plan) => ({ ...planText(plan), purchasable: isPurchasable(plan.id) })),
      gatewayUrl: config.publicGatewayUrl,
    });
  });

  router.get('/billing/plans', (_request, response) => {
    response.json({
      plans: sold.map((plan) => ({
        id: plan.id,
        name: plan.name,
        description: plan.description,
        price: plan.price && {
          unit_amount: plan.price.unitAmount,
          currency: plan.price.currency,
          interval: plan.price.interval,
        },
        limits: plan.limits.map(({ name, requests, seconds }) => ({
          name,
          requests,
          window_seconds: seconds,
        })),
        quota: plan.quota === null ? null : { requests: plan.quota, period: plan.quotaPer },
        per_unit: plan.perUnit,
        access_days: plan.accessDays,
        trial_days: plan.trial?.days ?? null,
        features: plan.features,
        feature_values: plan.featureValues,
        devices: plan.licence?.devices ?? null,
        purchasable: isPurchasable(plan.id),
      })),
    });
  });
  return router;
}
