import {
  type Access,
  accessOf,
  type RevocationReason,
  refusedBecause,
  type SubscriptionStatus,
} from './access.ts';
import { isAllowedFrom } from './address-ranges.ts';
import { type LimitsOverride, type Plan, type PlanCatalogue, planOfKey } from './plan.ts';
import { PROBLEM_STATUSES, type ProblemCode, problem, problemStatus } from './problems.ts';
import { type Verdict, verdictSchema, type WhyQuestion } from './verdict.ts';

/** A key, as far as it bears on what becomes of a request. Times are milliseconds since the epoch. */
export type WhyKey = {
  id: string;
  rootId: string;
  lastFour: string;
  mode: string;
  planId: string;
  name: string | null;
  email: string | null;
  customerId: string | null;
  quantity: number;
  createdAt: number;
  expiresAt: number | null;
  revokedAt: number | null;
  revokedReason: RevocationReason | null;
  suspendedAt: number | null;
  suspendedNote: string | null;
  disputedSince: number | null;
  override: LimitsOverride | null;
  allowedAddresses: readonly string[] | null;
  replacedBy: string | null;
  subscription: null | {
    id: string;
    status: SubscriptionStatus;
    pastDueSince: number | null;
    currentPeriodEnd: number | null;
    cancelAt: number | null;
    trialEnd: number | null;
  };
  usedThisMonth: number;
  usedInAll: number | null;
};

/** A request that was refused, as a gateway wrote it down. `at` in milliseconds since the epoch. */
export type WhyRefusal = {
  at: number;
  requestId: string;
  /** `null`: whose key it was, if there was one, is not known. */
  keyId: string | null;
  /** The code of the problem that was the answer. */
  code: string;
  /** The answer's own sentence; `null`: the problem's title was it. */
  detail: string | null;
  method: string;
  host: string;
  /** Without its query. */
  path: string;
  /** The name of the route; `null`: none was reached. */
  route: string | null;
  /** The client's. */
  address: string;
};

/** Where the answer comes from. A keystore is one. */
export type WhySources = {
  findKey(id: string): Promise<WhyKey | undefined>;
  listRefusals(input: { keyId: string; limit: number }): Promise<WhyRefusal[]>;
  findRefusal(requestId: string): Promise<WhyRefusal | undefined>;
};

/** Why a customer is refused, or is not. */
export type Why = {
  /** The request that was asked about by its id; `null`: it was a key. */
  request: WhyRefusal | null;
  /** `null`: whose key it was, if there was one, is not known. */
  key: WhyKey | null;
  access: Access | null;
  plan: Plan | null;
  /** What would become of a request now: like that of `request`, else any with the key. `null` without a key. */
  verdict: Verdict | null;
  /** `keystore`: no gateway answered, so that windows, routes and what is not in the ledger yet are not known. */
  from: 'gateway' | 'keystore';
  /** The last of the key, the newest first. */
  refusals: WhyRefusal[];
};

/** How long a gateway may take to answer. */
const GATEWAY_MS = 2000;
const REFUSALS = 20;

/**
 * Answers what would become of a request now and why, and what its last refusals were.
 *
 * @param about.id of a key, or of a request that was refused
 * @param about.gatewayUrl where a gateway's internal listener is
 * @param about.now milliseconds since the epoch
 * @returns `null` when nothing is known by that id
 */
export async function why(
  sources: WhySources,
  about: { id: string; gatewayUrl: string; plans: Pick<PlanCatalogue, 'plan'>; now: number },
): Promise<Why | null> {
  const { id, gatewayUrl, plans, now } = about;
  const asked = await sources.findKey(id);
  const request = asked ? null : ((await sources.findRefusal(id)) ?? null);
  if (!asked && !request) return null;
  const keyId = request?.keyId;
  const key = asked ?? (keyId ? await sources.findKey(keyId) : undefined) ?? null;
  if (!key) return { request, key, access: null, plan: null, verdict: null, from: 'keystore', refusals: [] };

  const sold = plans.plan(key.planId);
  const plan = sold ? planOfKey(sold, key) : null;
  const access = accessOf(key, key.subscription, plan ?? {}, now);
  const refusals = await sources.listRefusals({ keyId: key.id, limit: REFUSALS });
  const told = await askGateway(gatewayUrl, questionAbout(key, request));
  const verdict = told ?? fromKeystore(key, plan, access, request?.address ?? null, now);
  return { request, key, access, plan, verdict, from: told ? 'gateway' : 'keystore', refusals };
}

/** The answer that a request got: `429 rate_limited`; of a code that is not known here, the code alone. */
export function outcomeOf({ code }: WhyRefusal): string {
  return isKnown(code) ? `${problemStatus(code)} ${code}` : code;
}

/** Why a request was refused, in a sentence; where none is known, the code. */
export function sentenceOf({ code, detail }: WhyRefusal): string {
  return detail ?? (isKnown(code) ? problem(code).detail : code);
}

/** A gateway of another version may have written down a code that is not. */
function isKnown(code: string): code is ProblemCode {
  return Object.hasOwn(PROBLEM_STATUSES, code);
}

function questionAbout({ id }: WhyKey, request: WhyRefusal | null): WhyQuestion {
  if (request === null) return { key_id: id };
  const { address, method, host, path } = request;
  return { key_id: id, method, host, path, ...(address === '' ? {} : { address }) };
}

/** What a gateway says; `null` when none answers so that it can be understood. */
async function askGateway(gatewayUrl: string, question: WhyQuestion): Promise<Verdict | null> {
  try {
    const signal = AbortSignal.timeout(GATEWAY_MS);
    const response = await fetch(`${gatewayUrl}/why?${new URLSearchParams(question)}`, { signal });
    return response.ok ? (verdictSchema.safeParse(await response.json()).data ?? null) : null;
  } catch {
    return null;
  }
}

/** What the keystore alone tells. The rules are the gateway's own; its counters are not known. */
function fromKeystore(
  key: WhyKey,
  plan: Plan | null,
  access: Access,
  address: string | null,
  now: number,
): Verdict {
  const quota = plan && quotaOf(key, plan, now);
  const refuse = (code: ProblemCode, more: { detail?: string; remedy?: string } = {}): Verdict => {
    const {
      status,
      detail,
      remedy = null,
    } = problem(code, more.detail, more.remedy ? { remedy: more.remedy } : {});
    return { ...UNKNOWN, admitted: false, code, status, detail, remedy, quota };
  };
  if (access.state !== 'active') return refuse(access.code, refusedBecause(access.code, key));
  if (plan === null)
    return refuse('plan_unavailable', { detail: `The plan "${key.planId}" is not in the plan catalogue.` });
  if (address !== null && !isAllowedFrom(key, address))
    return refuse('address_not_allowed', { detail: `This key may not be used from ${address}.` });
  if (quota !== null && quota.remaining < 1)
    return refuse(quota.per === 'purchase' ? 'requests_used_up' : 'quota_exceeded');
  return {
    ...UNKNOWN,
    admitted: true,
    detail: 'A request would be admitted, if its rate limits leave room.',
    access_until: access.until === null ? null : new Date(access.until).toISOString(),
    quota,
  };
}

const UNKNOWN = {
  code: null,
  status: null,
  remedy: null,
  retry_after_s: null,
  route: null,
  access_until: null,
  limits: null,
} as const;

function quotaOf(key: WhyKey, plan: Plan, now: number): Verdict['quota'] {
  if (plan.quota === null) return null;
  const bought = plan.quotaPer === 'purchase' && key.usedInAll !== null;
  const used = bought ? (key.usedInAll as number) : key.usedThisMonth;
  const date = new Date(now);
  const monthEnd = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1));
  return {
    per: bought ? 'purchase' : 'month',
    limit: plan.quota,
    used,
    remaining: Math.max(0, plan.quota - used),
    resets_at: bought ? null : monthEnd.toISOString(),
  };
}
