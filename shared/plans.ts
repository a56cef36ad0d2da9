import { existsSync, readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { DEFAULT_GRACE_DAYS } from './access.ts';
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
  /** Requests a calendar month (UTC); `null`: no quota. */
  quota: number | null;
  features: readonly string[];
  /** Days a failed renewal keeps access. */
  graceDays: number;
};

type MappedPrice = { priceId: string; planId: string; mode: Mode | null };

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

const PLAN_ID = /^[a-z][a-z0-9_-]{0,31}$/;
const PRICE_ID = /^price_[0-9A-Za-z_]{1,250}$/;
const UNIT_SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
const NAMED_WINDOWS = { second: 1, minute: 60, hour: 3600, day: 86_400 } as const;

const MAX_WINDOW_SECONDS = 24 * 86_400;

const windowSchema = z.strictObject({
  requests: z.int().min(1).max(1_000_000_000),
  per: z
    .string()
    .regex(
      /^(second|minute|hour|day|[1-9][0-9]{0,5}[smhd])$/,
      'is second, minute, hour, day, or a time such as 10s, 5m, 1h',
    )
    // A counter's end is a timer, and timers end at 2^31 ms; what lasts longer is what a quota is for.
    .refine(
      (per) => windowSeconds(per) <= MAX_WINDOW_SECONDS,
      'is longer than 24 days: use `quota` for that',
    ),
});
const priceIdsSchema = z
  .array(z.string().regex(PRICE_ID, 'is a Stripe price id such as price_1AbC'))
  .default([]);
const planSchema = z.strictObject({
  name: z.string().min(1).max(60),
  description: z.string().max(300).default(''),
  hidden: z.boolean().default(false),
  price: z
    .strictObject({
      amount: z.number().min(0).max(999_999.99),
      currency: z.string().regex(/^[a-z]{3}$/, 'is a three-letter code in lower case, such as usd'),
      per: z.enum(['day', 'week', 'month', 'year', 'once']),
    })
    .optional(),
  stripe_prices: z
    .union([priceIdsSchema, z.strictObject({ test: priceIdsSchema, live: priceIdsSchema })])
    .default([]),
  limits: z.array(windowSchema).max(8).default([]),
  quota: z.int().min(1).optional(),
  features: z
    .array(z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'is lower-case letters, digits, dots, - and _'))
    .default([]),
  grace_days: z.number().min(0).max(365).default(DEFAULT_GRACE_DAYS),
});
const fileSchema = z.strictObject({
  plans: z.record(z.string().regex(PLAN_ID, 'plan ids are lower-case letters, digits, - and _'), planSchema),
});

/** Currencies without a minor unit (Stripe, "Zero-decimal currencies"). */
const ZERO_DECIMAL = new Set('bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf'.split(' '));

/**
 * Reads the plan catalogue: the plan file, with the environment's short forms on top (`STRIPE_PRICE_MAP`,
 * `PRICE_ID_<PLAN>`, `PRICE_ID_<LIVE|TEST>_<PLAN>`, `RATE_LIMIT_<PLAN>` in requests a minute).
 *
 * @param env environment variables
 * @param file path of the plan file
 * @param fileRequired whether a missing file is a mistake (it was named) or just absent (the default path)
 * @returns the catalogue, or every problem found
 */
export function loadPlans(
  env: Readonly<Record<string, string | undefined>>,
  file: string,
  fileRequired: boolean,
): { catalogue: PlanCatalogue; problems: ConfigProblem[] } {
  const problems: ConfigProblem[] = [];
  const plans = new Map<string, Plan>();
  const filePrices: MappedPrice[] = [];
  const envPrices: MappedPrice[] = [];
  if (existsSync(file)) readPlanFile(file, plans, filePrices, problems);
  else if (fileRequired) {
    problems.push({
      variable: 'PLANS_FILE',
      message: `there is no file ${file}`,
      example: 'PLANS_FILE=./plans.yaml',
    });
  }
  readRateLimits(env, plans, problems);
  readPriceMap(env, envPrices, problems);
  readPriceIds(env, plans, envPrices, problems);
  const prices = [...envPrices, ...filePrices];
  checkPrices(plans, prices, problems);
  if (plans.size === 0 && problems.length === 0) {
    problems.push({
      variable: 'PLANS_FILE',
      message: `no plan is defined: there is no ${file} and no RATE_LIMIT_<PLAN>`,
      example: 'RATE_LIMIT_PRO=600 with STRIPE_PRICE_MAP=price_1AbC:pro',
    });
  }
  return { catalogue: createCatalogue([...plans.values()], prices), problems };
}

/** A catalogue over these plans and mapped prices. */
function createCatalogue(plans: readonly Plan[], prices: readonly MappedPrice[]): PlanCatalogue {
  const byId = new Map(plans.map((plan) => [plan.id, plan]));
  return {
    plans,
    plan: (id) => byId.get(id),
    planForPrice(priceId, mode) {
      const mapped = prices.filter((price) => price.priceId === priceId);
      const match = mapped.find((price) => price.mode === null || price.mode === mode);
      if (match) return byId.get(match.planId) ?? 'unknown';
      return mapped.length > 0 ? 'wrong_mode' : 'unknown';
    },
    priceForPlan: (planId, mode) =>
      prices.find((price) => price.planId === planId && (price.mode === null || price.mode === mode))
        ?.priceId,
  };
}

/** How environment variables spell a plan's id: `my-plan` is `MY_PLAN`. */
export function planVariable(planId: string): string {
  return planId.toUpperCase().replaceAll('-', '_');
}

function readPlanFile(
  file: string,
  plans: Map<string, Plan>,
  prices: MappedPrice[],
  problems: ConfigProblem[],
): void {
  let raw: unknown;
  try {
    raw = parseYaml(readFileSync(file, 'utf8'));
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0];
    problems.push({ variable: 'PLANS_FILE', message: `${file} cannot be read: ${reason}` });
    return;
  }
  const parsed = fileSchema.safeParse(raw);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      problems.push({
        variable: 'PLANS_FILE',
        message: `${file}: ${issue.path.join('.') || 'top level'}: ${issue.message}`,
      });
    }
    return;
  }
  for (const [id, plan] of Object.entries(parsed.data.plans)) {
    const limits = plan.limits.map(toWindow).sort((a, b) => a.seconds - b.seconds);
    for (const [i, limit] of limits.entries()) {
      if (limits[i + 1]?.seconds === limit.seconds) {
        problems.push({
          variable: 'PLANS_FILE',
          message: `${file}: plans.${id}.limits: two limits per ${limit.name}; keep one`,
        });
      }
    }
    plans.set(id, {
      id,
      name: plan.name,
      description: plan.description,
      hidden: plan.hidden,
      price: plan.price ? toPrice(plan.price) : null,
      limits,
      quota: plan.quota ?? null,
      features: plan.features,
      graceDays: plan.grace_days,
    });
    const ids = plan.stripe_prices;
    if (Array.isArray(ids)) for (const priceId of ids) prices.push({ priceId, planId: id, mode: null });
    else
      for (const mode of ['test', 'live'] as const)
        for (const priceId of ids[mode]) prices.push({ priceId, planId: id, mode });
  }
}

function toPrice(price: { amount: number; currency: string; per: string }): Price {
  const unitAmount = Math.round(price.amount * (ZERO_DECIMAL.has(price.currency) ? 1 : 100));
  return {
    unitAmount,
    currency: price.currency,
    interval: price.per === 'once' ? null : (price.per as Price['interval']),
  };
}

function windowSeconds(per: string): number {
  return (
    NAMED_WINDOWS[per as keyof typeof NAMED_WINDOWS] ??
    Number(per.slice(0, -1)) * UNIT_SECONDS[per.slice(-1) as keyof typeof UNIT_SECONDS]
  );
}

function toWindow(limit: { requests: number; per: string }): Window {
  const seconds = windowSeconds(limit.per);
  const name = Object.entries(NAMED_WINDOWS).find(([, length]) => length === seconds)?.[0] ?? limit.per;
  return { name, requests: limit.requests, seconds };
}

function readRateLimits(
  env: Readonly<Record<string, string | undefined>>,
  plans: Map<string, Plan>,
  problems: ConfigProblem[],
): void {
  for (const [variable, value] of Object.entries(env)) {
    const suffix = /^RATE_LIMIT_([A-Z][A-Z0-9_]*)$/.exec(variable)?.[1];
    if (!suffix || !value) continue;
    if (!/^[1-9][0-9]{0,8}$/.test(value)) {
      problems.push({
        variable,
        message: `is "${value}", not a number of requests a minute`,
        example: `${variable}=600`,
      });
      continue;
    }
    const window: Window = { name: 'minute', requests: Number(value), seconds: 60 };
    const existing = [...plans.values()].find((plan) => planVariable(plan.id) === suffix);
    if (existing) {
      const limits = [...existing.limits.filter((limit) => limit.seconds !== 60), window].sort(
        (a, b) => a.seconds - b.seconds,
      );
      plans.set(existing.id, { ...existing, limits });
    } else {
      const id = suffix.toLowerCase();
      plans.set(id, {
        id,
        name: id.charAt(0).toUpperCase() + id.slice(1),
        description: '',
        hidden: false,
        price: null,
        limits: [window],
        quota: null,
        features: [],
        graceDays: DEFAULT_GRACE_DAYS,
      });
    }
  }
}

function readPriceMap(
  env: Readonly<Record<string, string | undefined>>,
  prices: MappedPrice[],
  problems: ConfigProblem[],
): void {
  const value = env.STRIPE_PRICE_MAP?.trim();
  if (!value) return;
  const bad = (message: string) =>
    problems.push({
      variable: 'STRIPE_PRICE_MAP',
      message,
      example: 'STRIPE_PRICE_MAP=price_1AbC:pro;price_2DeF:team',
    });
  let pairs: [string, unknown][];
  if (value.startsWith('{')) {
    try {
      pairs = Object.entries(JSON.parse(value) as Record<string, unknown>);
    } catch {
      bad('is not valid JSON');
      return;
    }
  } else {
    pairs = value
      .split(/[;,]/)
      .filter((pair) => pair.trim())
      .map((pair) => {
        const [priceId = '', ...plan] = pair.split(':');
        return [priceId.trim(), plan.join(':').trim()];
      });
  }
  for (const [priceId, planId] of pairs) {
    if (!PRICE_ID.test(priceId)) bad(`has "${priceId}" where a Stripe price id should be`);
    else if (typeof planId !== 'string' || !planId) bad(`names no plan for ${priceId}`);
    else prices.push({ priceId, planId, mode: null });
  }
}

function readPriceIds(
  env: Readonly<Record<string, string | undefined>>,
  plans: Map<string, Plan>,
  prices: MappedPrice[],
  problems: ConfigProblem[],
): void {
  for (const [variable, value] of Object.entries(env)) {
    const suffix = /^PRICE_ID_([A-Z][A-Z0-9_]*)$/.exec(variable)?.[1];
    if (!suffix || !value) continue;
    const whole = [...plans.keys()].find((id) => planVariable(id) === suffix);
    const [, modeName, rest] = /^(LIVE|TEST)_(.+)$/.exec(suffix) ?? [];
    const mode = whole || !modeName ? null : (modeName.toLowerCase() as Mode);
    const wanted = mode ? (rest as string) : suffix;
    const planId =
      whole ?? [...plans.keys()].find((id) => planVariable(id) === wanted) ?? wanted.toLowerCase();
    if (!PRICE_ID.test(value)) {
      problems.push({
        variable,
        message: `is "${value}", not a Stripe price id`,
        example: `${variable}=price_1AbC`,
      });
    } else prices.push({ priceId: value, planId, mode });
  }
}

function checkPrices(
  plans: Map<string, Plan>,
  prices: readonly MappedPrice[],
  problems: ConfigProblem[],
): void {
  const known = [...plans.keys()].join(', ') || 'none';
  const seen = new Map<string, MappedPrice>();
  for (const price of prices) {
    if (!plans.has(price.planId)) {
      problems.push({
        variable: 'STRIPE_PRICE_MAP',
        message: `${price.priceId} is for the plan "${price.planId}", which does not exist (plans: ${known})`,
        example: `RATE_LIMIT_${planVariable(price.planId)}=600 defines it`,
      });
    }
    const other = seen.get(price.priceId);
    if (other && other.planId !== price.planId) {
      problems.push({
        variable: 'STRIPE_PRICE_MAP',
        message: `${price.priceId} stands for two plans: ${other.planId} and ${price.planId}`,
      });
    }
    seen.set(price.priceId, price);
  }
}
