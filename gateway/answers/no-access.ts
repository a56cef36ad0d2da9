import type { KeyFacts } from '../../keystore/keystore.ts';
import { refusedBecause } from '../../shared/access.ts';
import type { Plan } from '../../shared/plans.ts';
import { type ProblemCode, problemStatus } from '../../shared/problems.ts';
import { type Refused, refused } from '../decision/decision.ts';

/** Where a refusal sends the buyer. */
export type BuyerPages = {
  /** Where customers manage their subscription. */
  manageUrl: string;
  /** Where new keys are bought. */
  pricingUrl: string;
};

/** The refusal of a key that is known and may do nothing now: why, and where money brings access back. */
export function noAccess(code: ProblemCode, key: KeyFacts, pages: BuyerPages): Refused {
  if (problemStatus(code) !== 402) {
    const { detail, remedy } = refusedBecause(code, key);
    return refused(code, { key, detail, extensions: remedy === undefined ? {} : { remedy } });
  }
  return refused(code, { key, extensions: { manage_url: placeToPay(code, pages) } });
}

/** What has ended or is used up is bought anew, and comes with a new key; all else is put right where it is managed. */
export function placeToPay(code: ProblemCode, { manageUrl, pricingUrl }: BuyerPages): string {
  return code === 'subscription_ended' || code === 'requests_used_up' ? pricingUrl : manageUrl;
}

/** Which of these features neither the plan nor the customer's entitlements include. */
export function missingFeatures(features: readonly string[], plan: Plan, key: KeyFacts): string[] {
  return features.filter(
    (feature) => !plan.features.includes(feature) && !key.entitlements.includes(feature),
  );
}

/** The route is for those who have features that this key has not. */
export function featureRequired(
  missing: readonly string[],
  plan: Plan,
  key: KeyFacts,
  { manageUrl }: BuyerPages,
): Refused {
  const named = missing.map((feature) => `"${feature}"`).join(', ');
  return refused('feature_required', {
    key,
    detail: `The plan ${plan.name} does not include ${named}.`,
    extensions: { missing_features: missing, manage_url: manageUrl },
  });
}

/** The key is limited to other addresses. The one that is seen is named: behind a proxy it may not be the client's. */
export function addressNotAllowed(key: KeyFacts, address: string): Refused {
  return refused('address_not_allowed', {
    key,
    detail: `This key may not be used from ${address === '' ? 'an unknown address' : address}.`,
  });
}
