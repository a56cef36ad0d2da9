import { existsSync } from 'node:fs';
import type { ConfigProblem, MappedPrice, Plan, PlanCatalogue } from './plan.ts';
import { readPlanFile } from './plan-file.ts';
import { planVariable, readPriceIds, readPriceMap, readRateLimits } from './plan-variables.ts';

export type { ConfigProblem, LimitsOverride, Plan, PlanCatalogue, Price, Window } from './plan.ts';
export { featureValue, PLAN_DEFAULTS, planFor, planOfKey } from './plan.ts';

/**
 * Reads the plan catalogue: the plan file, with the environment's short forms on top (`STRIPE_PRICE_MAP`,
 * `PRICE_ID_<PLAN>`, `PRICE_ID_<LIVE|TEST>_<PLAN>`, `RATE_LIMIT_<PLAN>` in requests a minute).
 *
 * @param env environment variables
 * @param file path of the plan file
 * @param fileRequired whether a missing file is a mistake (it was named) or just absent (the default path)
 * @returns the catalogue, or every problem found
 */
export function loadPlans(
  env: Readonly<Record<string, string | undefined>>,
  file: string,
  fileRequired: boolean,
): { catalogue: PlanCatalogue; problems: ConfigProblem[] } {
  const problems: ConfigProblem[] = [];
  const plans = new Map<string, Plan>();
  const filePrices: MappedPrice[] = [];
  const envPrices: MappedPrice[] = [];
  if (existsSync(file)) readPlanFile(file, plans, filePrices, problems);
  else if (fileRequired) {
    problems.push({
      variable: 'PLANS_FILE',
      message: `there is no file ${file}`,
      example: 'PLANS_FILE=./plans.yaml',
    });
  }
  const inFile = new Set(plans.keys());
  readRateLimits(env, plans, problems);
  readPriceIds(env, plans, envPrices, problems);
  readPriceMap(env, envPrices, problems);
  const fromVariables = [...plans.keys()].filter((id) => !inFile.has(id));
  const prices = [...envPrices, ...filePrices];
  checkNames(plans, fromVariables, prices, problems);
  checkPrices(plans, prices, problems);
  if (plans.size === 0 && problems.length === 0) {
    problems.push({
      variable: 'PLANS_FILE',
      message: `no plan is defined: there is no ${file} and no RATE_LIMIT_<PLAN>`,
      example: 'RATE_LIMIT_PRO=600 with STRIPE_PRICE_MAP=price_1AbC:pro',
    });
  }
  return { catalogue: createCatalogue([...plans.values()], prices), problems };
}

/** A catalogue over these plans and mapped prices. */
function createCatalogue(plans: readonly Plan[], prices: readonly MappedPrice[]): PlanCatalogue {
  const byId = new Map(plans.map((plan) => [plan.id, plan]));
  return {
    plans,
    plan: (id) => byId.get(id),
    planForPrice(priceId, mode) {
      const mapped = prices.filter((price) => price.priceId === priceId);
      const match = mapped.find((price) => price.mode === null || price.mode === mode);
      if (match) return byId.get(match.planId) ?? 'unknown';
      return mapped.length > 0 ? 'wrong_mode' : 'unknown';
    },
    priceForPlan: (planId, mode) =>
      prices.find((price) => price.planId === planId && (price.mode === null || price.mode === mode))
        ?.priceId,
    pricesIn(mode) {
      const mapped = prices.filter((price) => price.mode === null || price.mode === mode);
      return [...new Map(mapped.map(({ priceId, planId }) => [priceId, { priceId, planId }])).values()];
    },
  };
}

function checkPrices(
  plans: Map<string, Plan>,
  prices: readonly MappedPrice[],
  problems: ConfigProblem[],
): void {
  const known = [...plans.keys()].join(', ') || 'none';
  const seen = new Map<string, MappedPrice>();
  for (const price of prices) {
    if (!plans.has(price.planId)) {
      problems.push({
        variable: price.variable,
        message: `${price.priceId} stands for the plan "${price.planId}", which does not exist (plans: ${known})`,
        example: `RATE_LIMIT_${planVariable(price.planId)}=600 defines it`,
      });
    }
    const other = seen.get(price.priceId);
    if (other && other.planId !== price.planId) {
      problems.push({
        variable: 'STRIPE_PRICE_MAP',
        message: `${price.priceId} stands for two plans: ${other.planId} and ${price.planId}`,
      });
    }
    seen.set(price.priceId, price);
  }
}

/** Plans that variables cannot tell apart, and plans that came from a variable which may have been meant for something else. */
function checkNames(
  plans: Map<string, Plan>,
  fromVariables: readonly string[],
  prices: readonly MappedPrice[],
  problems: ConfigProblem[],
): void {
  const seen = new Map<string, string>();
  for (const id of plans.keys()) {
    const other = seen.get(planVariable(id));
    if (other)
      problems.push({
        variable: 'PLANS_FILE',
        message: `the plans "${other}" and "${id}" have the same variables: rename one`,
      });
    seen.set(planVariable(id), id);
  }
  for (const id of fromVariables) {
    if (prices.some((price) => price.planId === id)) continue;
    problems.push({
      variable: `RATE_LIMIT_${planVariable(id)}`,
      message: `is for a plan "${id}" that is not in the plan file and has no price`,
      example: `PRICE_ID_${planVariable(id)}=price_1AbC defines it; or unset the variable`,
    });
  }
}
