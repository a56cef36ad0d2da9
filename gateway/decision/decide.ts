import { accessOf } from '../../shared/access.ts';
import { isAllowedFrom } from '../../shared/address-ranges.ts';
import type { Logger } from '../../shared/log.ts';
import type { PlanCatalogue } from '../../shared/plans.ts';
import { quotaUsedUp, tooManyConcurrent, windowFull } from '../answers/limit-refusals.ts';
import {
  addressNotAllowed,
  type BuyerPages,
  featureRequired,
  missingFeatures,
  noAccess,
} from '../answers/no-access.ts';
import type { RoutePolicy } from '../routes/route-spec.ts';
import { type Allowed, type Decision, type Refused, refused } from './decision.ts';
import { EffectivePlans } from './effective-plans.ts';
import { type Identify, wrongMode } from './identify.ts';
import type { Key } from './key.ts';
import type { WindowsSpent } from './limits.ts';
import type { Credential } from './presented-key.ts';
import { LimitsUnavailable } from './shared-windows.ts';
import type { Counters } from './spending.ts';

/** What a decision is about. */
export type Ask = {
  /** `known`: nobody presents anything; an operator asks about the key. */
  credential: Credential | { kind: 'known'; key: Key };
  /** The client's address; `null`: any that the key may be used from. */
  address: string | null;
  /** Of the route that is asked for. One that is public asks for no decision. */
  policy: RoutePolicy;
  /** Milliseconds since the epoch. */
  now: number;
};

type Options = {
  identify: Pick<Identify, 'identify' | 'mode'>;
  plans: Pick<PlanCatalogue, 'plan'>;
  counters: Counters;
  pages: BuyerPages;
  log: Logger;
};

/**
 * `spend` counts the request, admitted or refused, in all that there is to count it in, the ledger included; once the
 * exchange is over, `release` has to be told. `look` counts nothing, and admits whoever has access, with how its limits
 * stand. `foresee` counts nothing either, and answers what `spend` would: while what counts limits is away, by what is known
 * of them, or that nothing passes. A promise only when something has to be waited for.
 */
export type Decide = (ask: Ask, how: How) => Decision | Promise<Decision>;
type How = 'spend' | 'look' | 'foresee';

/**
 * The one function that decides on a request: whose key it is, what that key may do now, and whether its limits leave
 * room. Knows nothing of sockets; changes nothing but the counters it spends from.
 */
export function createDecide(options: Options): Decide {
  const { identify, counters, pages, log } = options;
  const { windows, quotas, usage, underWay } = counters;
  const plans = new EffectivePlans(options.plans);
  const missingPlans = new Set<string>();

  return function decide(ask, how) {
    const { credential, address } = ask;
    if (credential.kind === 'none') return refused('missing_key');
    if (credential.kind === 'conflict') return refused('conflicting_credentials');
    if (credential.kind === 'known') return judge(credential.key, ask, how);
    const key = identify.identify(credential.text, address ?? '', ask.now);
    return key instanceof Promise ? key.then((found) => judge(found, ask, how)) : judge(key, ask, how);
  };

  function judge(key: Key | Refused, ask: Ask, how: How): Decision | Promise<Decision> {
    if ('allowed' in key) return key;
    const allowed = entitled(key, ask);
    if (how === 'look') return allowed.allowed ? look(allowed, ask.now, how) : allowed;
    if (how === 'foresee') return allowed.allowed ? foresee(allowed) : allowed;
    const decision = allowed.allowed ? spend(allowed) : allowed;
    if (!(decision instanceof Promise)) return counted(decision, key, ask.now);
    return decision.then(
      (decided) => counted(decided, key, ask.now),
      (error: unknown) => counted(unavailable(error, key), key, ask.now),
    );
  }

  /** Ours to mend, whatever the key has left. */
  function unavailable(error: unknown, key: Key): Refused {
    if (!(error instanceof LimitsUnavailable)) throw error;
    return refused('limits_unavailable', { key, retryAfterSeconds: 1 });
  }

  /** Whether the key may do this at all, whatever its limits leave. */
  function entitled(key: Key, { policy, address, now }: Ask): Allowed | Refused {
    const { mode } = identify;
    if (mode !== null && key.mode !== mode) return { ...wrongMode(key.mode, mode), key };
    const plan = plans.of(key);
    const access = accessOf(key, key.subscription, plan ?? {}, now);
    if (access.state !== 'active') return noAccess(access.code, key, pages);
    if (plan === undefined) return planMissing(key);
    if (address !== null && !isAllowedFrom(key, address)) return addressNotAllowed(key, address);
    if (policy.features.length > 0) {
      const missing = missingFeatures(policy.features, plan, key);
      if (missing.length > 0) return featureRequired(missing, plan, key, pages);
    }
    const { cost } = policy;
    return {
      allowed: true,
      key,
      plan,
      access,
      policy,
      windows: [],
      quota: null,
      cost: typeof cost === 'number' ? cost : cost.estimate,
      countedAt: now,
      settled: typeof cost === 'number',
      underWay: false,
      counters,
    };
  }

  function look(allowed: Allowed, now: number, how: 'look' | 'foresee'): Allowed | Promise<Allowed> {
    const { key, plan } = allowed;
    allowed.quota = quotas.look(key, plan, now);
    const states = windows[how](key.chain, plan.limits, now);
    if (states instanceof Promise) {
      return states.then((known) => {
        allowed.windows = known;
        return allowed;
      });
    }
    allowed.windows = states;
    return allowed;
  }

  /** What {@link spend} would say, in the same order. */
  function foresee(allowed: Allowed): Decision | Promise<Decision> {
    const { key, policy } = allowed;
    const { concurrency } = policy;
    if (concurrency !== null && underWay.count(policy, key.rootId) >= concurrency)
      return tooManyConcurrent(key, concurrency);
    const looked = look(allowed, allowed.countedAt, 'foresee');
    return looked instanceof Promise
      ? looked.then(foreseen, (error: unknown) => unavailable(error, key))
      : foreseen(looked);
  }

  function foreseen(looked: Allowed): Decision {
    const { key, plan, windows: states, quota } = looked;
    const needed = neededFor(looked);
    const full = needed > 0 ? states.filter(({ remaining }) => remaining < needed) : [];
    const usedUp = needed > 0 && quota !== null && quota.remaining < needed;
    // Of a purchase that is used up no window is asked any more.
    if (full.length === 0 || (usedUp && quota.per === 'purchase'))
      return usedUp ? quotaUsedUp(key, plan, [...states], quota, pages) : looked;
    const spent = {
      windows: [...states],
      violated: full.map(({ name }) => name),
      retryAfterSeconds: Math.max(...full.map(({ resetSeconds }) => resetSeconds)),
    };
    return windowFull(key, plan, spent, quota);
  }

  function spend(allowed: Allowed): Decision | Promise<Decision> {
    const { key, plan, policy, cost, countedAt } = allowed;
    const { concurrency } = policy;
    if (concurrency !== null) {
      if (!underWay.enter(policy, key.rootId)) return tooManyConcurrent(key, concurrency);
      allowed.underWay = true;
    }
    const needed = neededFor(allowed);
    if (!quotas.spend(key, plan, countedAt, cost, needed)) {
      leave(allowed);
      // Who has nothing left for ever is not told to come back when the window renews; anybody else is.
      const quota = quotas.look(key, plan, countedAt);
      const states = windows.spend(
        key.chain,
        plan.limits,
        0,
        quota?.per === 'purchase' ? 0 : needed,
        countedAt,
      );
      return states instanceof Promise
        ? states.then((spent) => noQuota(allowed, spent))
        : noQuota(allowed, states);
    }
    let spent: WindowsSpent | Promise<WindowsSpent>;
    try {
      spent = windows.spend(key.chain, plan.limits, cost, needed, countedAt);
    } catch (error) {
      leave(allowed);
      throw error;
    }
    if (!(spent instanceof Promise)) return admitted(allowed, spent);
    return spent.then(
      (done) => admitted(allowed, done),
      (error: unknown) => {
        quotas.settle(key, plan, -cost, countedAt, countedAt);
        leave(allowed);
        throw error;
      },
    );
  }

  /** What is priced after the fact is not free before it: something must be left, whatever the estimate. */
  function neededFor({ policy, cost }: Allowed): number {
    return typeof policy.cost === 'number' ? cost : Math.max(1, cost);
  }

  function admitted(allowed: Allowed, spent: WindowsSpent): Decision {
    const { key, plan, cost, countedAt } = allowed;
    if (spent.violated.length > 0) {
      quotas.settle(key, plan, -cost, countedAt, countedAt);
      leave(allowed);
      return windowFull(key, plan, spent, quotas.look(key, plan, countedAt));
    }
    allowed.windows = spent.windows;
    allowed.quota = quotas.look(key, plan, countedAt);
    return allowed;
  }

  function noQuota({ key, plan, countedAt }: Allowed, spent: WindowsSpent): Refused {
    const quota = quotas.look(key, plan, countedAt);
    if (spent.violated.length > 0) return windowFull(key, plan, spent, quota);
    return quotaUsedUp(key, plan, spent.windows, quota, pages);
  }

  function leave(allowed: Allowed): void {
    if (!allowed.underWay) return;
    allowed.underWay = false;
    underWay.leave(allowed.policy, allowed.key.rootId);
  }

  function counted(decision: Decision, key: Key, now: number): Decision {
    usage.count(key, decision.allowed, now, decision.allowed ? decision.cost : 1);
    return decision;
  }

  /** The plan file lost a plan that people pay for: ours to mend, and worth one line, not one for each request. */
  function planMissing(key: Key): Refused {
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
}
