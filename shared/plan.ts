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
  /** Whether a quantity bought multiplies limits and quota. */
  perUnit: boolean;
  features: readonly string[];
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
  graceDays: DEFAULT_GRACE_DAYS,
  accessDays: null,
  trial: null,
  access: {},
} as const satisfies Omit<Plan, 'id' | 'name'>;

/** The plan as somebody has it who bought so many of it: with `perUnit`, limits and quota are multiplied. */
export function planFor(plan: Plan, quantity: number): Plan {
  if (!plan.perUnit || quantity <= 1) return plan;
  return {
    ...plan,
    limits: multiplied(plan.limits, quantity),
    messages: multiplied(plan.messages, quantity),
    quota: plan.quota === null ? null : plan.quota * quantity,
  };
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
};

/** One thing wrong with a variable or with the plan file. */
export type ConfigProblem = { variable: string; message: string; example?: string };

/** What a Stripe price id looks like. */
export const PRICE_ID_PATTERN = /^price_[0-9A-Za-z_]{1,250}$/;
