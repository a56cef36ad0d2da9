import { setTimeout as pause } from 'node:timers/promises';
import type { KeystoreError } from '../../keystore/keystore.ts';
import { type Config, ConfigError, loadConfig } from '../../shared/config.ts';
import type { Mode } from '../../shared/keys.ts';
import { redact } from '../../shared/log.ts';
import { ProblemError } from '../../shared/problems.ts';
import { attestations } from './attestations.ts';
import { backup } from './backup.ts';
import { canceledCustomers } from './canceled-customers.ts';
import { type Check, type Finding, type PreflightContext, skipped, stop, type Verdict } from './check.ts';
import { clock } from './clock.ts';
import { configuration } from './configuration.ts';
import { keystorePlace } from './keystore-place.ts';
import { paymentLinks } from './payment-links.ts';
import { plans } from './plans.ts';
import { policies } from './policies.ts';
import { portal } from './portal.ts';
import { prices } from './prices.ts';
import { publicUrls } from './public-urls.ts';
import { secrets } from './secrets.ts';
import { signature } from './signature.ts';
import { upstream } from './upstream.ts';
import { webhookEndpoint } from './webhook-endpoint.ts';

export type { Check, Finding, PreflightContext, Verdict } from './check.ts';

/** Every question, in the order in which they are best answered. */
export const CHECKS: readonly Check[] = [
  configuration,
  secrets,
  keystorePlace,
  backup,
  clock,
  plans,
  prices,
  publicUrls,
  upstream,
  webhookEndpoint,
  signature,
  portal,
  paymentLinks,
  canceledCustomers,
  policies,
  attestations,
];

/** What a check found. */
export type Result = Finding & {
  id: string;
  title: string;
  /** What was repaired before this was found; `null`: nothing. */
  repaired: string | null;
};

/**
 * Answers every question, one after the other. What could not be looked at is a stop: nobody knows that it is well.
 *
 * @param options.repair puts right what can be, and looks again
 * @param options.onResult called with each as it is known
 * @param options.limitMs how long all of it may take; what was not looked at by then is a stop, too
 */
export async function runPreflight(
  context: PreflightContext,
  options: { repair?: boolean; onResult?: (result: Result) => void; limitMs?: number } = {},
): Promise<Result[]> {
  const results: Result[] = [];
  const deadline = performance.now() + (options.limitMs ?? Number.POSITIVE_INFINITY);
  for (const check of CHECKS) {
    let finding = await findingOf(check, context, deadline);
    let repaired: string | null = null;
    if (options.repair && check.repair && (finding.verdict === 'stop' || finding.verdict === 'warning')) {
      try {
        repaired = await check.repair(context);
        if (repaired !== null) finding = await findingOf(check, context, deadline);
      } catch (error) {
        finding = couldNotLook(error);
      }
    }
    const result = { id: check.id, title: check.title, ...finding, repaired };
    results.push(result);
    options.onResult?.(result);
  }
  return results;
}

/**
 * The configuration to check: as billing needs it, and of the mode that was asked for.
 *
 * @throws ConfigError
 */
export function preflightConfig(env: Readonly<Record<string, string | undefined>>, mode: Mode): Config {
  const config = loadedConfig(env);
  if (config.stripe?.mode !== mode) {
    throw new ConfigError([
      {
        variable: 'STRIPE_SECRET_KEY',
        message: `is a ${config.stripe?.mode} key, and this is about ${mode} mode`,
        example: `STRIPE_SECRET_KEY=rk_${mode}_...`,
      },
    ]);
  }
  return config;
}

/** The signing secret may be missing: it is had by registering the endpoint, which `repair` does. */
function loadedConfig(env: Parameters<typeof loadConfig>[0]): Config {
  try {
    return loadConfig(env, 'billing');
  } catch (error) {
    const onlyThat =
      error instanceof ConfigError &&
      error.problems.every(({ variable }) => variable === 'STRIPE_WEBHOOK_SECRET');
    if (!onlyThat) throw error;
    return loadConfig(env, 'tool');
  }
}

/** What there is to say when the configuration, or the keystore that it names, is of no use: nothing else can be looked at. */
export function withoutConfiguration(error: ConfigError | KeystoreError): Result[] {
  const problems = error instanceof ConfigError ? error.problems : [];
  const detail =
    problems.length === 0
      ? error.message
      : redact(problems.map(({ variable, message }) => `${variable} ${message}.`).join(' '));
  return CHECKS.map(({ id, title }) => {
    const finding =
      id === configuration.id
        ? stop(detail, 'Correct it: the README lists every variable, under "Configuration".')
        : skipped('Not without a configuration.');
    return { id, title, ...finding, repaired: null };
  });
}

/** What the preflight comes to. */
export function outcomeOf(results: readonly { verdict: Verdict }[]): 'go' | 'stop' {
  return results.some(({ verdict }) => verdict === 'stop') ? 'stop' : 'go';
}

/** @param deadline as `performance.now()` has it */
async function findingOf(check: Check, context: PreflightContext, deadline: number): Promise<Finding> {
  const inTime = new AbortController();
  try {
    const looking = check.run(context);
    if (deadline === Number.POSITIVE_INFINITY) return await looking;
    const leftMs = Math.max(0, deadline - performance.now());
    return await Promise.race([looking, pause(leftMs, TOO_LATE, { signal: inTime.signal, ref: false })]);
  } catch (error) {
    return couldNotLook(error);
  } finally {
    inTime.abort();
  }
}

const TRY_AGAIN = 'Try again in a moment.';
const TOO_LATE = stop('It could not be looked at in time.', TRY_AGAIN);

function couldNotLook(error: unknown): Finding {
  const { message, cause } = error as Error;
  const said = cause instanceof Error ? ` ${cause.message}` : '';
  const detail = redact(`It could not be looked at: ${message}${said}`);
  if (error instanceof ProblemError && error.code === 'stripe_refused')
    return stop(detail, 'Give the key of your Stripe account the permission: the README lists them.');
  return stop(detail, TRY_AGAIN);
}
