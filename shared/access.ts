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
export type RevocationReason = 'operator' | 'rotated' | 'refunded' | 'disputed' | 'leaked' | 'replaced';

/** The same in a sentence for whoever has the key. */
export const REVOKED_BECAUSE: Readonly<Record<RevocationReason, string>> = {
  operator: 'The seller switched this key off.',
  rotated: 'This key was replaced by a newer one.',
  replaced: 'This key was replaced by a newer one.',
  refunded: 'The payment for this key was refunded.',
  disputed: 'The payment for this key was taken back in a dispute.',
  leaked: 'This key had become known to others and was switched off.',
};

/** What to say of a key that a rotation replaced, once the time for which both worked is over. */
export const REPLACED_AND_OVER = {
  detail: 'This key was replaced by a newer one, and the time for which both worked is over.',
  remedy: 'Use your newer key, or contact the seller.',
} as const;

/** What is to be said of a key that may do nothing, where that is more than the problem's title and remedy. */
export function refusedBecause(
  code: ProblemCode,
  key: { revokedReason: RevocationReason | null; replacedBy: string | null },
): { detail?: string; remedy?: string } {
  if (code === 'revoked_key' && key.revokedReason !== null)
    return { detail: REVOKED_BECAUSE[key.revokedReason] };
  return code === 'expired_key' && key.replacedBy !== null ? REPLACED_AND_OVER : {};
}

/** What of a key bears on access. Times are milliseconds since the epoch. */
export type KeyStanding = {
  revokedAt: number | null;
  expiresAt: number | null;
  /** Since when the seller keeps it suspended, while they do. */
  suspendedAt: number | null;
  /** Since when a payment for it has been in dispute, while one is. */
  disputedSince: number | null;
};

/** A key of which nothing is known that speaks against it. */
export const GOOD_STANDING: KeyStanding = {
  revokedAt: null,
  expiresAt: null,
  suspendedAt: null,
  disputedSince: null,
};

/** What of a subscription bears on access. */
export type SubscriptionStanding = {
  status: SubscriptionStatus;
  /** When the oldest payment that is still owed first failed; `null` while nothing is owed. */
  pastDueSince: number | null;
};

/**
 * What a plan does about a circumstance, where it differs from the default: `trialing` allows, `past_due` has the
 * plan's grace, `unpaid`, `incomplete` and `paused` suspend, an open `dispute` suspends, a full `refund` and a
 * `lost_dispute` revoke. What has ended (`canceled`, `incomplete_expired`) cannot be overridden.
 */
export type AccessRules = {
  trialing?: 'allow' | 'suspend';
  past_due?: 'allow' | 'suspend';
  unpaid?: 'allow' | 'suspend';
  incomplete?: 'allow' | 'suspend';
  paused?: 'allow' | 'suspend';
  dispute?: 'allow' | 'suspend';
  refund?: 'revoke' | 'keep';
  lost_dispute?: 'revoke' | 'keep';
};

export type KeyState = 'active' | 'suspended' | 'revoked' | 'expired';
export type Access =
  | { state: 'active'; until: number | null }
  | { state: Exclude<KeyState, 'active'>; code: ProblemCode };

/** How long a paying customer whose card failed keeps access: most pay within it. */
export const DEFAULT_GRACE_DAYS = 14;
const DAY_MS = 86_400_000;

/**
 * What a key may do at `now`: derived from the key, its subscription and its plan, never stored. The only rule on
 * access in the project. `until` is the moment at which the answer changes by the passing of time alone.
 *
 * What is final comes first: a key that is over is not said to come back. Then what the seller decided, as no payment
 * undoes it.
 *
 * @param subscription `null` for a key that belongs to no subscription (one-time purchase, made by the operator)
 */
export function accessOf(
  key: KeyStanding,
  subscription: SubscriptionStanding | null,
  plan: { graceDays?: number; access?: AccessRules },
  now: number,
): Access {
  if (key.revokedAt !== null) return { state: 'revoked', code: 'revoked_key' };
  if (key.expiresAt !== null && key.expiresAt <= now) return { state: 'expired', code: 'expired_key' };
  const rules = plan.access ?? {};
  const paid = subscription
    ? bySubscription(subscription, rules, plan.graceDays ?? DEFAULT_GRACE_DAYS, now)
    : ALLOWED;
  if (paid.state === 'expired') return paid;
  if (key.suspendedAt !== null) return { state: 'suspended', code: 'suspended_by_seller' };
  if (paid.state !== 'active') return paid;
  if (key.disputedSince !== null && rules.dispute !== 'allow')
    return { state: 'suspended', code: 'payment_disputed' };
  const { until } = paid;
  if (key.expiresAt === null || until === key.expiresAt) return paid;
  return { state: 'active', until: until === null ? key.expiresAt : Math.min(until, key.expiresAt) };
}

const ALLOWED: Access = { state: 'active', until: null };
const ENDED: Access = { state: 'expired', code: 'subscription_ended' };

function bySubscription(
  { status, pastDueSince }: SubscriptionStanding,
  rules: AccessRules,
  graceDays: number,
  now: number,
): Access {
  switch (status) {
    case 'active':
      return ALLOWED;
    case 'trialing':
      return unless(rules.trialing === 'suspend', 'payment_required');
    case 'past_due': {
      if (rules.past_due !== undefined) return unless(rules.past_due === 'suspend', 'payment_past_due');
      const graceEnds = graceEndsAt(pastDueSince ?? now, graceDays);
      return graceEnds <= now
        ? { state: 'suspended', code: 'payment_past_due' }
        : { state: 'active', until: graceEnds };
    }
    case 'unpaid':
      return unless(rules.unpaid !== 'allow', 'payment_past_due');
    case 'incomplete':
      return unless(rules.incomplete !== 'allow', 'payment_required');
    case 'paused':
      return unless(rules.paused !== 'allow', 'subscription_paused');
    case 'canceled':
    case 'incomplete_expired':
      return ENDED;
    // A status that Stripe adds one day opens nothing until somebody has thought about it.
    default:
      return { state: 'suspended', code: 'payment_required' };
  }
}

function unless(suspended: boolean, code: ProblemCode): Access {
  return suspended ? { state: 'suspended', code } : ALLOWED;
}

/** When the grace of a payment that first failed at `failedAt` ends. All in milliseconds. */
export function graceEndsAt(failedAt: number, graceDays: number): number {
  return failedAt + graceDays * DAY_MS;
}

/** What became of a payment after it was made. Times are milliseconds since the epoch. */
export type PaymentStanding = {
  /** When the last of it was given back; `null` while any of it is kept. */
  refundedAt: number | null;
  /** The end of the period of a subscription it paid for; `null` for a one-time purchase. */
  paidUntil: number | null;
  /** An inquiry (`warning_...`) withdraws nothing. */
  dispute: 'inquiry' | 'open' | 'won' | 'lost' | null;
};

/**
 * What a payment's fate means for the keys it bought. `refunded` and `disputed` end them for good.
 *
 * A period of a subscription that is given back after it has ended, as amends for the past, ends nothing: the
 * customer has paid for what came after it.
 */
export function paymentVerdict(
  payment: PaymentStanding,
  rules: AccessRules = {},
): 'refunded' | 'disputed' | 'in_dispute' | 'kept' {
  const { refundedAt, paidUntil, dispute } = payment;
  if (dispute === 'lost' && rules.lost_dispute !== 'keep') return 'disputed';
  const tookBackAccess = refundedAt !== null && (paidUntil === null || refundedAt < paidUntil);
  if (tookBackAccess && rules.refund !== 'keep') return 'refunded';
  return dispute === 'open' ? 'in_dispute' : 'kept';
}
