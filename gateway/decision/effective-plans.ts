import type { KeyFacts } from '../../keystore/keystore.ts';
import { type Plan, type PlanCatalogue, planFor } from '../../shared/plan.ts';

/** Multiplied plans remembered for one plan. More quantities than these at once would be multiplied again and again. */
const MAX_QUANTITIES = 1000;

/**
 * The plan as a key has it: multiplied by the quantity that was bought, where the plan says so. Multiplied plans are
 * remembered, so that a request costs two look-ups and makes no garbage.
 */
export class EffectivePlans {
  readonly #catalogue: Pick<PlanCatalogue, 'plan'>;
  readonly #multiplied = new Map<Plan, Map<number, Plan>>();

  constructor(catalogue: Pick<PlanCatalogue, 'plan'>) {
    this.#catalogue = catalogue;
  }

  /** `undefined` when the catalogue has no such plan. */
  of({ planId, quantity }: Pick<KeyFacts, 'planId' | 'quantity'>): Plan | undefined {
    const plan = this.#catalogue.plan(planId);
    if (plan === undefined || !plan.perUnit || quantity <= 1) return plan;
    let multiplied = this.#multiplied.get(plan);
    if (multiplied === undefined) {
      multiplied = new Map();
      this.#multiplied.set(plan, multiplied);
    }
    let effective = multiplied.get(quantity);
    if (effective === undefined) {
      if (multiplied.size >= MAX_QUANTITIES) multiplied.clear();
      effective = planFor(plan, quantity);
      multiplied.set(quantity, effective);
    }
    return effective;
  }
}
