import type { KeyFacts } from '../keystore/keystore.ts';
import { accessOf } from '../shared/access.ts';
import type { Logger } from '../shared/log.ts';
import type { Plan, PlanCatalogue } from '../shared/plans.ts';
import { type Decision, type Refused, refused } from './decision.ts';
import { EffectivePlans } from './effective-plans.ts';
import { type Identify, wrongMode } from './identify.ts';
import type { Windows, WindowsSpent } from './limits.ts';
import { type BuyerPages, noAccess, placeToPay } from './no-access.ts';
import type { Credential } from './presented-key.ts';
import type { QuotaState, Quotas } from './quota.ts';

/** What a decision is about. */
export type Ask = {
  credential: Credential;
  /** The client's address. */
  address: string;
  /** Milliseconds since the epoch. */
  now: number;
};

type Options = {
  identify: Pick<Identify, 'identify' | 'mode'>;
  plans: Pick<PlanCatalogue, 'plan'>;
  windows: Windows;
  quotas: Quotas;
  pages: BuyerPages;
  log: Logger;
};

/** `look` answers the same question without counting anything. */
export type Decide = (ask: Ask, how: 'spend' | 'look') => Promise<Decision>;

/**
 * The one function that decides on a request: whose key it is, what that key may do now, and whether its limits leave
 * room. Knows nothing of sockets; changes nothing but the counters it spends from.
 */
export function createDecide(options: Options): Decide {
  const { identify, windows, quotas, pages, log } = options;
  const plans = new EffectivePlans(options.plans);
  const missingPlans = new Set<string>();

  return async function decide({ credential, address, now }, how) {
    if (credential.kind === 'none') return refused('missing_key');
    if (credential.kind === 'conflict') return refused('conflicting_credentials');
    const identified = identify.identify(credential.text, address);
    const key = identified instanceof Promise ? await identified : identified;
    if ('allowed' in key) return key;

    const { mode } = identify;
    if (mode !== null && key.mode !== mode) return { ...wrongMode(key.mode, mode), key };
    const plan = plans.of(key);
    const access = accessOf(key, key.subscription, plan ?? {}, now);
    if (access.state !== 'active') return noAccess(access.code, key, pages);
    if (plan === undefined) return planMissing(key);

    if (how === 'look') {
      const states = await windows.look(key.rootId, plan.limits);
      return { allowed: true, key, plan, access, windows: states, quota: quotas.look(key, plan, now) };
    }
    const spent = await windows.spend(key.rootId, plan.limits);
    if (spent.violated.length > 0) {
      const quota = quotas.look(key, plan, now);
      // Who has nothing left for ever is not told to come back when the window renews.
      if (quota?.per === 'purchase' && quota.remaining === 0) return quotaUsedUp(key, plan, spent, quota);
      return windowFull(key, plan, spent, quota);
    }
    if (!quotas.spend(key, plan, now)) {
      await windows.giveBack(spent);
      return quotaUsedUp(key, plan, spent, quotas.look(key, plan, now));
    }
    return {
      allowed: true,
      key,
      plan,
      access,
      windows: spent.windows,
      quota: quotas.look(key, plan, now),
    };
  };

  /** The plan file lost a plan that people pay for: ours to mend, and worth one line, not one for each request. */
  function planMissing(key: KeyFacts): Refused {
    if (!missingPlans.has(key.planId)) {
      missingPlans.add(key.planId);
      log.error(
        { plan: key.planId, keyId: key.id },
        'Keys have a plan that is not in the plan catalogue; their requests are refused until it is back',
      );
    }
    return refused('plan_unavailable', {
      key,
      detail: `The plan "${key.planId}" of this key is not available at the moment.`,
      retryAfterSeconds: 60,
    });
  }

  function windowFull(key: KeyFacts, plan: Plan, spent: WindowsSpent, quota: QuotaState | null): Refused {
    const limits = plan.limits.filter((limit) => spent.violated.includes(limit.name));
    return refused('rate_limited', {
      key,
      detail: `${named(plan, key)} allows ${limits.map((limit) => `${limit.requests} requests a ${limit.name}`).join(' and ')}.`,
      extensions: { 'violated-policies': spent.violated },
      retryAfterSeconds: spent.retryAfterSeconds,
      windows: spent.windows,
      quota,
    });
  }

  function quotaUsedUp(key: KeyFacts, plan: Plan, spent: WindowsSpent, quota: QuotaState | null): Refused {
    const renews = quota?.per !== 'purchase';
    const code = renews ? 'quota_exceeded' : 'requests_used_up';
    return refused(code, {
      key,
      detail: renews
        ? `${named(plan, key)} allows ${plan.quota} requests a calendar month (UTC).`
        : `${named(plan, key)} has ${plan.quota} requests, and all of them are used.`,
      extensions: {
        'violated-policies': [renews ? 'month' : 'purchase'],
        manage_url: placeToPay(code, pages),
      },
      retryAfterSeconds: renews ? (quota?.resetSeconds ?? null) : null,
      windows: spent.windows,
      quota,
    });
  }
}

/** A plan in a sentence. */
function named(plan: Plan, { quantity }: KeyFacts): string {
  return plan.perUnit && quantity > 1
    ? `The plan ${plan.name}, bought ${quantity} times,`
    : `The plan ${plan.name}`;
}
