import { type AccessRules, DEFAULT_GRACE_DAYS } from './access.ts';
import type { Mode } from './keys.ts';

/** One rate-limit window: at most `requests` in each `seconds`. */
export type Window = { name: string; requests: number; seconds: number };

/** What a plan costs: in the currency's smallest unit; `interval` is `null` for a one-time purchase. */
export type Price = {
  unitAmount: number;
  currency: string;
  interval: 'day' | 'week' | 'month' | 'year' | null;
};

/** What a key grants as a licence. */
export type LicenceTerms = {
  /** On how many devices it works at a time. */
  devices: number;
  /** After how long without a sign of life a device's place is free again, milliseconds; `null`: when it is given back. */
  freeAfterMs: number | null;
  /** Days of a trial without a card; `null`: there is none. */
  trialDays: number | null;
  /** How long an entitlement token is good for, milliseconds. */
  tokenTtlMs: number;
  /** How long after that a program that cannot reach us goes on, milliseconds. */
  offlineGraceMs: number;
};

/** What is sold. */
export type Plan = {
  id: string;
  name: string;
  description: string;
  /** Hidden plans are not on the pricing page and cannot be bought through it; keys and payment links can have them. */
  hidden: boolean;
  price: Price | null;
  /** Sorted from the shortest window to the longest. Empty: no rate limit. */
  limits: readonly Window[];
  /** Messages that clients may send over all WebSockets of a key, as `limits`. Empty: any number. */
  messages: readonly Window[];
  /** Requests in each `quotaPer`; `null`: no quota. */
  quota: number | null;
  /** A calendar month (UTC), or everything a purchase buys: then the key is used up, and never renews. */
  quotaPer: 'month' | 'purchase';
  /** Whether a quantity bought multiplies limits, quota and devices. */
  perUnit: boolean;
  /** Names of what the plan includes. */
  features: readonly string[];
  /** Of features that are more than there or not: how much, or which. Each is in `features` too. */
  featureValues: Readonly<Record<string, string | number>>;
  /** What its keys grant as licences of software that runs elsewhere; `null`: nothing. */
  licence: LicenceTerms | null;
  /** Days a failed renewal keeps access, counted from the first failure. */
  graceDays: number;
  /** Days a one-time purchase lasts, counted from when its key was made; `null`: for ever. */
  accessDays: number | null;
  /** A trial that checkouts of this plan begin with; `once`: a customer who had one before gets no key for another. */
  trial: { days: number; once: boolean } | null;
  /** Where this plan differs from the usual rules on access. */
  access: AccessRules;
};

/** What a plan from a variable, without a plan file, has. */
export const PLAN_DEFAULTS = {
  description: '',
  hidden: false,
  price: null,
  limits: [],
  messages: [],
  quota: null,
  quotaPer: 'month',
  perUnit: false,
  features: [],
  featureValues: {},
  licence: null,
  graceDays: DEFAULT_GRACE_DAYS,
  accessDays: null,
  trial: null,
  access: {},
} as const satisfies Omit<Plan, 'id' | 'name'>;

/** How much of a feature a plan includes, or which; `undefined`: it has no value, or the plan has it not. */
export function featureValue(
  { featureValues }: Pick<Plan, 'featureValues'>,
  name: string,
): string | number | undefined {
  // Names are the seller's: one may be that of something every object has.
  return Object.hasOwn(featureValues, name) ? featureValues[name] : undefined;
}

/** The plan as somebody has it who bought so many of it: with `perUnit`, limits, quota and devices are multiplied. */
export function planFor(plan: Plan, quantity: number): Plan {
  if (!plan.perUnit || quantity <= 1) return plan;
  return {
    ...plan,
    limits: multiplied(plan.limits, quantity),
    messages: multiplied(plan.messages, quantity),
    quota: plan.quota === null ? null : plan.quota * quantity,
    licence: plan.licence && { ...plan.licence, devices: plan.licence.devices * quantity },
  };
}

/** Limits of one key that count instead of its plan's. `null`: the plan's do. */
export type LimitsOverride = {
  /** Sorted from the shortest window to the longest. */
  limits: readonly Window[] | null;
  /** Requests in each of what the plan's quota is for; in each month where the plan has none. */
  quota: number | null;
};

/**
 * The plan as a key has it: for the quantity that was bought, and with the limits of the key's own. Those are absolute: no
 * quantity multiplies them.
 */
export function planOfKey(plan: Plan, key: { quantity: number; override: LimitsOverride | null }): Plan {
  return overridden(planFor(plan, key.quantity), key.override);
}

/** A plan with these limits in place of its own. */
export function overridden(plan: Plan, override: LimitsOverride | null): Plan {
  if (override === null) return plan;
  return { ...plan, limits: override.limits ?? plan.limits, quota: override.quota ?? plan.quota };
}

function multiplied(windows: readonly Window[], quantity: number): Window[] {
  return windows.map((window) => ({ ...window, requests: window.requests * quantity }));
}

/** A Stripe price and the plan it stands for; `mode` is `null` where it was mapped without one. */
export type MappedPrice = {
  priceId: string;
  planId: string;
  mode: Mode | null;
  /** Where it was mapped, to name it in a complaint. */
  variable: string;
};

/** The plans and the price map. */
export type PlanCatalogue = {
  plans: readonly Plan[];
  /** The plan with this id, hidden or not. */
  plan(id: string): Plan | undefined;
  /**
   * The plan that a Stripe price stands for. `wrong_mode`: the price is mapped, but for the other mode only;
   * `unknown`: it is not in the catalogue, and whoever asked must say so loudly.
   */
  planForPrice(priceId: string, mode: Mode): Plan | 'unknown' | 'wrong_mode';
  /** The Stripe price to sell a plan at: the first one mapped, the environment before the file. `undefined` while the plan has none in this mode. */
  priceForPlan(planId: string, mode: Mode): string | undefined;
  /** Every price that stands for a plan in this mode, each once. */
  pricesIn(mode: Mode): readonly { priceId: string; planId: string }[];
};

/** One thing wrong with a variable or with the plan file. */
export type ConfigProblem = { variable: string; message: string; example?: string };

/** What a Stripe price id looks like. */
export const PRICE_ID_PATTERN = /^price_[0-9A-Za-z_]{1,250}$/;
