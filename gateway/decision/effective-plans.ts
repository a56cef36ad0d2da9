import type { KeyFacts } from '../../keystore/keystore.ts';
import {
  type LimitsOverride,
  overridden,
  type Plan,
  type PlanCatalogue,
  planFor,
} from '../../shared/plan.ts';

/** Multiplied plans remembered for one plan. More quantities than these at once would be multiplied again and again. */
const MAX_QUANTITIES = 1000;

/**
 * The plan as a key has it: multiplied by the quantity that was bought, where the plan says so, and with limits of the key's
 * own, where it has some. What was made is remembered, so that a request costs two look-ups and makes no garbage; one with a
 * key that is like most costs none.
 */
export class EffectivePlans {
  readonly #catalogue: Pick<PlanCatalogue, 'plan'>;
  readonly #multiplied = new Map<Plan, Map<number, Plan>>();
  /** As long as the facts that an override came with are in memory. */
  readonly #overridden = new WeakMap<LimitsOverride, { of: Plan; plan: Plan }>();

  constructor(catalogue: Pick<PlanCatalogue, 'plan'>) {
    this.#catalogue = catalogue;
  }

  /** `undefined` when the catalogue has no such plan. */
  of({ planId, quantity, override }: Pick<KeyFacts, 'planId' | 'quantity' | 'override'>): Plan | undefined {
    const plan = this.#catalogue.plan(planId);
    if (plan === undefined) return undefined;
    const bought = plan.perUnit && quantity > 1 ? this.#times(plan, quantity) : plan;
    return override === null ? bought : this.#with(override, bought);
  }

  #with(override: LimitsOverride, of: Plan): Plan {
    let known = this.#overridden.get(override);
    if (known?.of !== of) {
      known = { of, plan: overridden(of, override) };
      this.#overridden.set(override, known);
    }
    return known.plan;
  }

  #times(plan: Plan, quantity: number): Plan {
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
