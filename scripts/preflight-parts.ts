import {
  outcomeOf,
  type PreflightContext,
  type Result,
  type Verdict,
} from '../billing/preflight/preflight.ts';
import { createStripe } from '../billing/stripe-client.ts';
import { configuredRoutes } from '../gateway/routes/routes-file.ts';
import type { Config, StripeConfig } from '../shared/config.ts';
import type { Mode } from '../shared/keys.ts';
import { withKeystore } from './command.ts';

const SIGNS: Readonly<Record<Verdict, string>> = { ok: '✓', warning: '!', stop: '✗', skipped: '-' };

/**
 * Runs work with what preflight looks at.
 *
 * @param config of that mode, with a Stripe key
 * @throws KeystoreError
 */
export async function withPreflightContext(
  config: Config,
  { mode, backup }: { mode: Mode; backup?: string },
  work: (context: PreflightContext) => Promise<void>,
): Promise<void> {
  const stripe = config.stripe as StripeConfig;
  await withKeystore(async (keystore) => {
    await keystore.bindMode(stripe.mode);
    await work({
      mode,
      config,
      stripe: createStripe(stripe),
      keystore,
      upstreamUrls: upstreamUrls(config),
      folder: process.cwd(),
      backupFile: backup ?? null,
      now: Date.now,
    });
  }, config);
}

/** Where the gateway that is started with the same variables sends requests; `null`: they do not say. */
function upstreamUrls(config: Config): string[] | null {
  if (config.routesFile !== null)
    return configuredRoutes(config, process.env).flatMap(({ upstream }) => [...upstream.urls]);
  return config.upstreamUrl === null ? null : [config.upstreamUrl];
}

/** Prints what a check found. */
export function showCheck({ verdict, title, detail, remedy, repaired }: Result): void {
  console.log(`${SIGNS[verdict]} ${title}`);
  if (repaired !== null) console.log(`    Repaired: ${repaired}`);
  console.log(`    ${detail}`);
  if (remedy !== undefined && verdict !== 'ok') console.log(`    → ${remedy}`);
}

/** What it comes to, and how many of each there are. */
export function preflightSummary(results: readonly Result[]): string {
  const count = (verdict: Verdict) => results.filter((result) => result.verdict === verdict).length;
  const counted = `${count('ok')} ok, ${count('warning')} to look at, ${count('stop')} in the way, ${count('skipped')} skipped.`;
  return outcomeOf(results) === 'go' ? `GO: ${counted}` : `STOP: ${counted}`;
}
