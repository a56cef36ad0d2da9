import type { Mode } from './keys.ts';
import {
  type ConfigProblem,
  type MappedPrice,
  PLAN_DEFAULTS,
  type Plan,
  PRICE_ID_PATTERN,
  type Window,
} from './plan.ts';

/** How environment variables spell a plan's id: `my-plan` is `MY_PLAN`. */
export function planVariable(planId: string): string {
  return planId.toUpperCase().replaceAll('-', '_');
}

/** `RATE_LIMIT_<PLAN>`: requests a minute; defines the plan where there is none of this name. */
export function readRateLimits(
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
        ...PLAN_DEFAULTS,
        id,
        name: id.charAt(0).toUpperCase() + id.slice(1),
        limits: [window],
      });
    }
  }
}

/** `STRIPE_PRICE_MAP`: `price_a:pro;price_b:team`, or the same as a JSON object. */
export function readPriceMap(
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
    if (!PRICE_ID_PATTERN.test(priceId)) bad(`has "${priceId}" where a Stripe price id should be`);
    else if (typeof planId !== 'string' || !planId) bad(`names no plan for ${priceId}`);
    else prices.push({ priceId, planId, mode: null, variable: 'STRIPE_PRICE_MAP' });
  }
}

/** `PRICE_ID_<PLAN>` and `PRICE_ID_<LIVE|TEST>_<PLAN>`. */
export function readPriceIds(
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
    const part = modeName && [...plans.keys()].find((id) => planVariable(id) === rest);
    if (whole && part) {
      problems.push({
        variable,
        message: `could be for the plan "${whole}" or for "${part}": use STRIPE_PRICE_MAP instead`,
      });
      continue;
    }
    const mode = whole || !modeName ? null : (modeName.toLowerCase() as Mode);
    const wanted = mode ? (rest as string) : suffix;
    const planId =
      whole ?? [...plans.keys()].find((id) => planVariable(id) === wanted) ?? wanted.toLowerCase();
    if (!PRICE_ID_PATTERN.test(value)) {
      problems.push({
        variable,
        message: `is "${value}", not a Stripe price id`,
        example: `${variable}=price_1AbC`,
      });
    } else prices.push({ priceId: value, planId, mode, variable });
  }
}
