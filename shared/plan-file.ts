import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { toUnitAmount } from './currency.ts';
import {
  type ConfigProblem,
  type LicenceTerms,
  type MappedPrice,
  PLAN_DEFAULTS,
  type Plan,
  PRICE_ID_PATTERN,
  type Price,
} from './plan.ts';
import {
  amountSchema,
  MAX_WINDOWS,
  namedTwice,
  perSchema,
  quotaSchema,
  toWindows,
  windowSchema,
} from './windows.ts';

const PLAN_ID = /^[a-z][a-z0-9_-]{0,31}$/;
const DURATION_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

const MIN_TOKEN_MS = 5 * 60_000;
const MAX_TOKEN_MS = 366 * 86_400_000;
const DEFAULT_TOKEN_MS = 24 * 3_600_000;
const DEFAULT_OFFLINE_GRACE_MS = 72 * 3_600_000;

/** Stripe takes amounts of up to eight digits. */
const MAX_UNIT_AMOUNT = 99_999_999;

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
const featureNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'is lower-case letters, digits, dots, - and _');
const featuresSchema = z.union(
  [
    z.array(featureNameSchema),
    z.record(
      featureNameSchema,
      z
        .union([z.boolean(), z.number().positive('is not above 0'), z.string().min(1).max(100)], {
          error: 'is true, false, a number above 0 or a text',
        })
        // In YAML 1.1 these were truth values, and whoever writes them means that.
        .refine(
          (value) => !/^(yes|no|on|off)$/i.test(String(value)),
          'is a text that may be meant as true or false: write that',
        ),
    ),
  ],
  { error: 'is a list of names, or names with true, false, a number or a text each' },
);
const durationSchema = z
  .string({ error: 'is a time such as 30m, 72h or 7d' })
  .regex(/^(0|[1-9][0-9]{0,5})[mhd]$/, 'is a time such as 30m, 72h or 7d')
  .transform((text) => Number(text.slice(0, -1)) * DURATION_MS[text.slice(-1) as keyof typeof DURATION_MS]);
const devicesSchema = z.int().min(1).max(100_000);
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
  limits: z.array(windowSchema).max(MAX_WINDOWS).default([]),
  websocket: z
    .strictObject({ messages: z.array(messageWindowSchema).max(MAX_WINDOWS).default([]) })
    .optional(),
  quota: z
    .union([quotaSchema, z.strictObject({ requests: quotaSchema, per: z.enum(['month', 'purchase']) })])
    .optional(),
  per_unit: z.boolean().default(PLAN_DEFAULTS.perUnit),
  features: featuresSchema.default([]),
  devices: z
    .union(
      [
        devicesSchema,
        z.strictObject({
          count: devicesSchema,
          // A token is good for as long where `token_ttl` says nothing else.
          free_after: durationSchema.refine(
            (ms) => ms >= MIN_TOKEN_MS && ms <= MAX_TOKEN_MS,
            'is between 5m and 366d; for places that are free only when they are given back, say `devices` as a number',
          ),
        }),
      ],
      { error: 'is a number, or for floating seats { count: 10, free_after: 15m }' },
    )
    .optional(),
  trial_days: z.int().min(1).max(365).optional(),
  token_ttl: durationSchema
    .refine((ms) => ms >= MIN_TOKEN_MS && ms <= MAX_TOKEN_MS, 'is between 5m and 366d')
    .optional(),
  offline_grace: durationSchema.refine((ms) => ms <= MAX_TOKEN_MS, 'is at most 366d').optional(),
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
    const limits = toWindows(plan.limits);
    const messages = toWindows(
      (plan.websocket?.messages ?? []).map(({ messages: requests, per }) => ({ requests, per })),
    );
    for (const [where, windows] of [
      ['limits', limits],
      ['websocket.messages', messages],
    ] as const) {
      for (const name of namedTwice(windows)) {
        problems.push({
          variable: 'PLANS_FILE',
          message: `${file}: plans.${id}.${where}: two limits per ${name}; keep one`,
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
      ...toFeatures(plan.features),
      licence: toLicence(plan),
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
    for (const name of ['trial_days', 'token_ttl', 'offline_grace'] as const) {
      if (plan[name] === undefined || plan.devices !== undefined) continue;
      problems.push({
        variable: 'PLANS_FILE',
        message: `${file}: plans.${id}.${name}: is for licences; say with \`devices\` on how many devices one works`,
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

function toFeatures(features: z.output<typeof featuresSchema>): Pick<Plan, 'features' | 'featureValues'> {
  if (Array.isArray(features)) return { features, featureValues: {} };
  const included = Object.entries(features).filter(([, value]) => value !== false);
  return {
    features: included.map(([name]) => name),
    featureValues: Object.fromEntries(
      included.filter((entry): entry is [string, string | number] => typeof entry[1] !== 'boolean'),
    ),
  };
}

function toLicence(plan: z.output<typeof planSchema>): LicenceTerms | null {
  const { devices } = plan;
  if (devices === undefined) return null;
  const more = { trialDays: plan.trial_days ?? null };
  if (typeof devices === 'number') {
    return {
      ...more,
      devices,
      freeAfterMs: null,
      tokenTtlMs: plan.token_ttl ?? DEFAULT_TOKEN_MS,
      offlineGraceMs: plan.offline_grace ?? DEFAULT_OFFLINE_GRACE_MS,
    };
  }
  // A token that outlasts its seat would let whoever gives the seat away go on beside whoever takes it.
  return {
    ...more,
    devices: devices.count,
    freeAfterMs: devices.free_after,
    tokenTtlMs: plan.token_ttl ?? devices.free_after,
    offlineGraceMs: plan.offline_grace ?? 0,
  };
}

function toPrice({ amount, currency, per }: { amount: number; currency: string; per: string }): Price {
  const interval = per === 'once' ? null : (per as Price['interval']);
  // The schema has refused amounts that the currency cannot have.
  return { unitAmount: toUnitAmount(amount, currency) as number, currency, interval };
}
