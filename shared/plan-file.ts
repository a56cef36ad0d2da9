import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { toUnitAmount } from './currency.ts';
import {
  type ConfigProblem,
  type MappedPrice,
  PLAN_DEFAULTS,
  type Plan,
  PRICE_ID_PATTERN,
  type Price,
  type Window,
} from './plan.ts';

const PLAN_ID = /^[a-z][a-z0-9_-]{0,31}$/;
const UNIT_SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
const NAMED_WINDOWS = { second: 1, minute: 60, hour: 3600, day: 86_400 } as const;

const MAX_WINDOW_SECONDS = 24 * 86_400;

/** Stripe takes amounts of up to eight digits. */
const MAX_UNIT_AMOUNT = 99_999_999;

const amountSchema = z.int().min(1).max(1_000_000_000);
const perSchema = z
  .string()
  .regex(
    /^(second|minute|hour|day|[1-9][0-9]{0,5}[smhd])$/,
    'is second, minute, hour, day, or a time such as 10s, 5m, 1h',
  )
  // Counters live in memory and end with the process; what lasts longer is what a quota is for.
  .refine((per) => windowSeconds(per) <= MAX_WINDOW_SECONDS, 'is longer than 24 days: use `quota` for that');
const windowSchema = z.strictObject({ requests: amountSchema, per: perSchema });
const messageWindowSchema = z.strictObject({ messages: amountSchema, per: perSchema });
const priceIdsSchema = z
  .array(z.string().regex(PRICE_ID_PATTERN, 'is a Stripe price id such as price_1AbC'))
  .default([]);
const allowOrSuspend = z.enum(['allow', 'suspend'], 'is allow or suspend').exactOptional();
const revokeOrKeep = z.enum(['revoke', 'keep'], 'is revoke or keep').exactOptional();
const accessSchema = z.strictObject({
  trialing: allowOrSuspend,
  past_due: allowOrSuspend,
  unpaid: allowOrSuspend,
  incomplete: allowOrSuspend,
  paused: allowOrSuspend,
  dispute: allowOrSuspend,
  refund: revokeOrKeep,
  lost_dispute: revokeOrKeep,
});
const planSchema = z.strictObject({
  name: z.string().min(1).max(60),
  description: z.string().max(300).default(''),
  hidden: z.boolean().default(false),
  price: z
    .strictObject({
      amount: z.number().min(0),
      currency: z.string().regex(/^[a-z]{3}$/, 'is a three-letter code in lower case, such as usd'),
      per: z.enum(['day', 'week', 'month', 'year', 'once']),
    })
    .refine(({ amount, currency }) => (toUnitAmount(amount, currency) ?? 0) <= MAX_UNIT_AMOUNT, {
      error: 'is more than Stripe takes',
      path: ['amount'],
    })
    .refine(({ amount, currency }) => toUnitAmount(amount, currency) !== undefined, {
      error: 'has more decimals than the currency',
      path: ['amount'],
    })
    .optional(),
  stripe_prices: z
    .union([priceIdsSchema, z.strictObject({ test: priceIdsSchema, live: priceIdsSchema })])
    .default([]),
  limits: z.array(windowSchema).max(8).default([]),
  websocket: z.strictObject({ messages: z.array(messageWindowSchema).max(8).default([]) }).optional(),
  quota: z
    .union([z.int().min(1), z.strictObject({ requests: z.int().min(1), per: z.enum(['month', 'purchase']) })])
    .optional(),
  per_unit: z.boolean().default(PLAN_DEFAULTS.perUnit),
  features: z
    .array(z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'is lower-case letters, digits, dots, - and _'))
    .default([]),
  grace_days: z.number().min(0).max(365).default(PLAN_DEFAULTS.graceDays),
  access_days: z.int().min(1).max(36_500).optional(),
  // Stripe takes trials of up to two years.
  trial: z.strictObject({ days: z.int().min(1).max(730), once: z.boolean().default(false) }).optional(),
  access: accessSchema.default({}),
});
const fileSchema = z.strictObject({
  plans: z.record(z.string().regex(PLAN_ID, 'plan ids are lower-case letters, digits, - and _'), planSchema),
});

/** Reads the plan file into `plans` and `prices`; what is wrong with it goes to `problems`. */
export function readPlanFile(
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
    const limits = plan.limits.map(toWindow).sort(byLength);
    const messages = (plan.websocket?.messages ?? [])
      .map(({ messages: requests, per }) => toWindow({ requests, per }))
      .sort(byLength);
    for (const [where, windows] of [
      ['limits', limits],
      ['websocket.messages', messages],
    ] as const) {
      for (const [i, limit] of windows.entries()) {
        if (windows[i + 1]?.seconds !== limit.seconds) continue;
        problems.push({
          variable: 'PLANS_FILE',
          message: `${file}: plans.${id}.${where}: two limits per ${limit.name}; keep one`,
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
      messages,
      ...toQuota(plan.quota),
      perUnit: plan.per_unit,
      features: plan.features,
      graceDays: plan.grace_days,
      accessDays: plan.access_days ?? null,
      trial: plan.trial ?? null,
      access: plan.access,
    });
    if (
      plan.price &&
      plan.price.per !== 'once' &&
      typeof plan.quota === 'object' &&
      plan.quota.per === 'purchase'
    ) {
      problems.push({
        variable: 'PLANS_FILE',
        message: `${file}: plans.${id}.quota: a quota per purchase is for what is paid once; a subscription has one per month`,
      });
    }
    if (plan.price && plan.price.per === 'once' && plan.trial) {
      problems.push({
        variable: 'PLANS_FILE',
        message: `${file}: plans.${id}.trial: a plan that is paid once has no trial; a subscription has`,
      });
    }
    if (plan.price && plan.price.per !== 'once' && plan.access_days !== undefined) {
      problems.push({
        variable: 'PLANS_FILE',
        message: `${file}: plans.${id}.access_days: is for what is paid once; a subscription lasts while it is paid`,
      });
    }
    const ids = plan.stripe_prices;
    if (Array.isArray(ids))
      for (const priceId of ids) prices.push({ priceId, planId: id, mode: null, variable: 'PLANS_FILE' });
    else
      for (const mode of ['test', 'live'] as const)
        for (const priceId of ids[mode]) prices.push({ priceId, planId: id, mode, variable: 'PLANS_FILE' });
  }
}

function toQuota(quota: z.output<typeof planSchema>['quota']): Pick<Plan, 'quota' | 'quotaPer'> {
  if (typeof quota === 'object') return { quota: quota.requests, quotaPer: quota.per };
  return { quota: quota ?? null, quotaPer: 'month' };
}

function toPrice({ amount, currency, per }: { amount: number; currency: string; per: string }): Price {
  const interval = per === 'once' ? null : (per as Price['interval']);
  // The schema has refused amounts that the currency cannot have.
  return { unitAmount: toUnitAmount(amount, currency) as number, currency, interval };
}

function windowSeconds(per: string): number {
  return (
    NAMED_WINDOWS[per as keyof typeof NAMED_WINDOWS] ??
    Number(per.slice(0, -1)) * UNIT_SECONDS[per.slice(-1) as keyof typeof UNIT_SECONDS]
  );
}

function byLength(a: Window, b: Window): number {
  return a.seconds - b.seconds;
}

function toWindow(limit: { requests: number; per: string }): Window {
  const seconds = windowSeconds(limit.per);
  const name = Object.entries(NAMED_WINDOWS).find(([, length]) => length === seconds)?.[0] ?? limit.per;
  return { name, requests: limit.requests, seconds };
}
