import type { KeyRecord } from '../../keystore/keystore.ts';
import {
  type Access,
  accessOf,
  GOOD_STANDING,
  type KeyState,
  SUBSCRIPTION_STATUSES,
  type SubscriptionStatus,
} from '../../shared/access.ts';
import type { PlanCatalogue } from '../../shared/plans.ts';

/** What keys can be looked for by: their states, and those suspended ones that the operator suspended. */
export const KEY_STATES = ['active', 'suspended', 'suspended_by_seller', 'expired', 'revoked'] as const;
export type AskedState = (typeof KEY_STATES)[number];

/** What a key may do now. */
export function accessNow(key: KeyRecord, plans: PlanCatalogue): Access {
  return accessOf(key, key.subscription, plans.plan(key.planId) ?? {}, Date.now());
}

/** What to look for in the keystore to find keys of a state: all of them, and some others that `admits` sorts out. */
export function keysThatMayBe(state: AskedState, plans: PlanCatalogue) {
  if (state === 'suspended_by_seller') {
    const admits = (key: KeyRecord) => {
      const access = accessNow(key, plans);
      return access.state === 'suspended' && access.code === state;
    };
    return { mayBe: { revoked: false, bySeller: true as const }, admits };
  }
  const admits = (key: KeyRecord) => accessNow(key, plans).state === state;
  if (state === 'active' || state === 'revoked') return { mayBe: { revoked: state === 'revoked' }, admits };
  return { mayBe: { revoked: false, orStatuses: statusesOf(state, plans) }, admits };
}

/** The statuses that put a key of some plan, by themselves, into a state: now, or once their grace is over. */
function statusesOf(state: KeyState, plans: PlanCatalogue): SubscriptionStatus[] {
  return SUBSCRIPTION_STATUSES.filter((status) =>
    [{}, ...plans.plans].some(
      (plan) => accessOf(GOOD_STANDING, { status, pastDueSince: 0 }, plan, Date.now()).state === state,
    ),
  );
}

/** How a state is coloured. */
export const STATE_TONES: Readonly<Record<KeyState, 'good' | 'warning' | 'bad'>> = {
  active: 'good',
  suspended: 'warning',
  expired: 'bad',
  revoked: 'bad',
};
