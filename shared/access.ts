import type { ProblemCode } from './problems.ts';

/** Stripe's subscription statuses, as `Subscription.status` documents them. */
export const SUBSCRIPTION_STATUSES = [
  'incomplete',
  'incomplete_expired',
  'trialing',
  'active',
  'past_due',
  'canceled',
  'unpaid',
  'paused',
] as const;
export type SubscriptionStatus = (typeof SUBSCRIPTION_STATUSES)[number];

/** Why a key was switched off for good. */
export type RevocationReason = 'operator' | 'rotated' | 'refunded' | 'disputed' | 'leaked';

/** What of a key bears on access. Times are milliseconds since the epoch. */
export type KeyStanding = {
  revokedAt: number | null;
  expiresAt: number | null;
};

/** What of a subscription bears on access. */
export type SubscriptionStanding = {
  status: SubscriptionStatus;
  /** When the subscription was first seen past due, while it still is. */
  pastDueSince: number | null;
};

export type KeyState = 'active' | 'suspended' | 'revoked' | 'expired';
export type Access =
  | { state: 'active'; until: number | null }
  | { state: Exclude<KeyState, 'active'>; code: ProblemCode };

/** How long a paying customer whose card failed keeps access: most pay within it. */
export const DEFAULT_GRACE_DAYS = 14;

/**
 * What a key may do at `now`: derived from the key, its subscription and its plan, never stored. The only rule on
 * access in the project. `until` is the moment at which the answer changes by the passing of time alone.
 *
 * @param subscription `null` for a key that belongs to no subscription (one-time purchase, made by the operator)
 */
export function accessOf(
  key: KeyStanding,
  subscription: SubscriptionStanding | null,
  plan: { graceDays?: number },
  now: number,
): Access {
  if (key.revokedAt !== null) return { state: 'revoked', code: 'revoked_key' };
  if (key.expiresAt !== null && key.expiresAt <= now) return { state: 'expired', code: 'expired_key' };
  if (subscription === null) return { state: 'active', until: key.expiresAt };
  switch (subscription.status) {
    case 'active':
    case 'trialing':
      return { state: 'active', until: key.expiresAt };
    case 'past_due': {
      const graceEnds =
        (subscription.pastDueSince ?? now) + (plan.graceDays ?? DEFAULT_GRACE_DAYS) * 86_400_000;
      if (graceEnds <= now) return { state: 'suspended', code: 'payment_past_due' };
      return { state: 'active', until: Math.min(graceEnds, key.expiresAt ?? graceEnds) };
    }
    case 'unpaid':
      return { state: 'suspended', code: 'payment_past_due' };
    case 'paused':
      return { state: 'suspended', code: 'subscription_paused' };
    case 'canceled':
    case 'incomplete_expired':
      return { state: 'expired', code: 'subscription_ended' };
    // A status that Stripe adds one day opens nothing until somebody has thought about it.
    default:
      return { state: 'suspended', code: 'payment_required' };
  }
}
