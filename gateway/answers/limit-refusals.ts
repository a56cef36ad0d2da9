import type { KeyFacts } from '../../keystore/keystore.ts';
import type { Plan } from '../../shared/plans.ts';
import { type Refused, refused } from '../decision/decision.ts';
import type { WindowsSpent } from '../decision/limits.ts';
import type { QuotaState } from '../decision/quota.ts';
import { type BuyerPages, placeToPay } from './no-access.ts';

/** Some window has too little left for this request. */
export function windowFull(
  key: KeyFacts,
  plan: Plan,
  spent: WindowsSpent,
  quota: QuotaState | null,
): Refused {
  const limits = plan.limits.filter((limit) => spent.violated.includes(limit.name));
  return refused('rate_limited', {
    key,
    detail: `${named(plan, key, 'limits')} allows ${limits.map((limit) => `${limit.requests} requests a ${limit.name}`).join(' and ')}.`,
    extensions: { 'violated-policies': spent.violated },
    retryAfterSeconds: spent.retryAfterSeconds,
    windows: spent.windows,
    quota,
  });
}

/** The quota has too little left for this request. */
export function quotaUsedUp(
  key: KeyFacts,
  plan: Plan,
  windows: WindowsSpent['windows'],
  quota: QuotaState | null,
  pages: BuyerPages,
): Refused {
  const renews = quota?.per !== 'purchase';
  const code = renews ? 'quota_exceeded' : 'requests_used_up';
  return refused(code, {
    key,
    detail: renews
      ? `${named(plan, key, 'quota')} allows ${plan.quota} requests a calendar month (UTC).`
      : `${named(plan, key, 'quota')} has ${plan.quota} requests, and ${quota.remaining === 0 ? 'all of them are used' : `${quota.used} of them are used`}.`,
    extensions: {
      'violated-policies': [renews ? 'month' : 'purchase'],
      manage_url: placeToPay(code, pages),
    },
    retryAfterSeconds: renews ? (quota?.resetSeconds ?? null) : null,
    windows,
    quota,
  });
}

/** As many requests of this key are under way as the route allows. */
export function tooManyConcurrent(key: KeyFacts, concurrency: number): Refused {
  return refused('too_many_concurrent', {
    key,
    detail: `A key may have ${concurrency} ${concurrency === 1 ? 'request' : 'requests'} under way here at a time.`,
    retryAfterSeconds: 1,
  });
}

/** What has these limits, in a sentence: the key itself, or its plan. */
function named(plan: Plan, { quantity, override }: KeyFacts, what: 'limits' | 'quota'): string {
  if (override !== null && override[what] !== null) return 'This key';
  return plan.perUnit && quantity > 1
    ? `The plan ${plan.name}, bought ${quantity} times,`
    : `The plan ${plan.name}`;
}
