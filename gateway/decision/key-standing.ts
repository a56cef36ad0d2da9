import type { KeyFacts } from '../../keystore/keystore.ts';
import { accessOf } from '../../shared/access.ts';
import { isAllowedFrom } from '../../shared/address-ranges.ts';
import type { Plan, PlanCatalogue } from '../../shared/plans.ts';
import { EffectivePlans } from './effective-plans.ts';
import type { FactsCache } from './facts-cache.ts';

type Options = {
  facts: Pick<FactsCache, 'fresh' | 'load'>;
  plans: Pick<PlanCatalogue, 'plan'>;
  now(): number;
};

/**
 * Whether a key that was let in may stay: for connections that outlast the decision that opened them. A failure of ours
 * ends none (it is not the customer's fault).
 */
export class KeyStanding {
  readonly #options: Options;
  readonly #plans: EffectivePlans;

  constructor(options: Options) {
    this.#options = options;
    this.#plans = new EffectivePlans(options.plans);
  }

  /** The plan that a key has now; `undefined` when its facts are not at hand. */
  planOf(keyId: string): Plan | undefined {
    const known = this.#options.facts.fresh(keyId);
    return known === undefined ? undefined : this.#plans.of(known);
  }

  /**
   * Why the key may not stay, in words for its owner; `null`: it may. A promise only when its facts are not at hand.
   *
   * @param address the client's
   */
  whyNot(
    keyId: string,
    features: readonly string[],
    address: string,
  ): string | null | Promise<string | null> {
    const { facts } = this.#options;
    const known = facts.fresh(keyId);
    if (known !== undefined) return this.#verdict(known, features, address);
    return facts.load(keyId).then(
      (read) => this.#verdict(read, features, address),
      () => null,
    );
  }

  #verdict(key: KeyFacts | undefined, features: readonly string[], address: string): string | null {
    if (key === undefined) return 'invalid_key';
    const plan = this.#plans.of(key);
    const access = accessOf(key, key.subscription, plan ?? {}, this.#options.now());
    if (access.state !== 'active') return access.code;
    if (!isAllowedFrom(key, address)) return 'address_not_allowed';
    const has = (feature: string) => plan?.features.includes(feature) || key.entitlements.includes(feature);
    return features.every(has) ? null : 'feature_required';
  }
}
