import type { KnownOfKey } from '../keystore/keystore.ts';
import { accessOf, REPLACED_AND_OVER, REVOKED_BECAUSE } from '../shared/access.ts';
import type { LicenceTerms, Plan } from '../shared/plan.ts';
import { featureValue, type PlanCatalogue, planFor } from '../shared/plans.ts';
import { ProblemError } from '../shared/problems.ts';

/** A key that is good as a licence now. */
export type Licence = {
  key: KnownOfKey;
  plan: Plan;
  terms: LicenceTerms;
  /** What it includes: `true`, or how much or which. */
  features: Readonly<Record<string, FeatureValue>>;
  /** Until when it is paid for or granted, milliseconds since the epoch; `null`: no end is known. */
  until: number | null;
  /** Whether that end may be followed by a period whose payment is not known yet. */
  renews: boolean;
};

export type FeatureValue = true | string | number;

/**
 * Whether a key is good as a licence now, by the one rule on access and its plan as it is today.
 *
 * @throws ProblemError the reason why it is not: those of the rule, `plan_unavailable`, `no_licence`
 */
export function licenceOf(key: KnownOfKey, plans: Pick<PlanCatalogue, 'plan'>, now: number): Licence {
  const sold = plans.plan(key.planId);
  const access = accessOf(key, key.subscription, sold ?? {}, now);
  if (access.state !== 'active') {
    if (access.code === 'revoked_key')
      throw new ProblemError('revoked_key', REVOKED_BECAUSE[key.revokedReason ?? 'operator']);
    if (access.code === 'expired_key' && key.replacedBy !== null) {
      const { detail, remedy } = REPLACED_AND_OVER;
      throw new ProblemError('expired_key', detail, { remedy });
    }
    throw new ProblemError(access.code);
  }
  if (!sold)
    throw new ProblemError('plan_unavailable', `The plan "${key.planId}" is not available at the moment.`);
  const plan = planFor(sold, key.quantity);
  if (plan.licence === null)
    throw new ProblemError('no_licence', `The plan ${plan.name} is for the API and grants no devices.`);
  return {
    key,
    plan,
    terms: plan.licence,
    features: featuresOf(plan, key.entitlements),
    ...endOf(key, access.until),
  };
}

/** What a plan includes, with what Stripe says that the customer is entitled to beside it. */
export function featuresOf(
  plan: Pick<Plan, 'features' | 'featureValues'>,
  entitlements: readonly string[] = [],
): Record<string, FeatureValue> {
  const names = [...entitlements, ...plan.features];
  return Object.fromEntries(names.map((name) => [name, featureValue(plan, name) ?? true]));
}

/**
 * The end of what is paid for. A period that was not paid yet has none of its own: there the grace counts, whose end the rule
 * on access says.
 */
function endOf(
  { subscription, expiresAt }: KnownOfKey,
  accessUntil: number | null,
): Pick<Licence, 'until' | 'renews'> {
  const ends = [accessUntil];
  if (subscription !== null) {
    ends.push(subscription.cancelAt);
    if (subscription.status !== 'past_due') ends.push(subscription.currentPeriodEnd);
  }
  const known = ends.filter((end) => end !== null);
  if (known.length === 0) return { until: null, renews: false };
  const until = Math.min(...known);
  return { until, renews: until !== expiresAt && until !== subscription?.cancelAt };
}
