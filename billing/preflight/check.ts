import type { Keystore } from '../../keystore/keystore.ts';
import type { Config } from '../../shared/config.ts';
import type { Mode } from '../../shared/keys.ts';
import type { StripeClient } from '../stripe-client.ts';

/** What checks look at. They change nothing, but for an event that leaves a row in the inbox. */
export type PreflightContext = {
  /** Which money is to be taken. It is the mode of `config.stripe`. */
  mode: Mode;
  config: Config;
  stripe: StripeClient;
  keystore: Keystore;
  /** Where the gateway sends requests; `null`: this process does not know. */
  upstreamUrls: readonly string[] | null;
  /** The seller's own folder: what git tracks, and `preflight.yaml`. */
  folder: string;
  /** The backup to try instead of the last one that was made. */
  backupFile: string | null;
  /** Milliseconds since the epoch. */
  now(): number;
};

/**
 * `ok`; `warning`: it works, and could be better; `stop`: nobody's money should be taken so; `skipped`: it does not apply, or
 * cannot be told from here.
 */
export type Verdict = 'ok' | 'warning' | 'stop' | 'skipped';

export type Finding = {
  verdict: Verdict;
  /** What was found, in a sentence or two; never a secret. */
  detail: string;
  /** What to do about it. */
  remedy?: string;
};

/** One question of the preflight. */
export type Check = {
  id: string;
  title: string;
  /** Whether it asks nobody over a network. */
  offline: boolean;
  run(context: PreflightContext): Finding | Promise<Finding>;
  /** Puts right what can be, where the check found a stop or a warning; what was done, in a sentence. */
  repair?(context: PreflightContext): Promise<string | null>;
};

export const ok = (detail: string): Finding => ({ verdict: 'ok', detail });
export const skipped = (detail: string, remedy?: string): Finding => ({
  verdict: 'skipped',
  detail,
  ...(remedy === undefined ? {} : { remedy }),
});
export const warning = (detail: string, remedy: string): Finding => ({ verdict: 'warning', detail, remedy });
export const stop = (detail: string, remedy: string): Finding => ({ verdict: 'stop', detail, remedy });

/** What stands in the way of real money, and in test mode is only to be known. */
export function stopIfLive({ mode }: PreflightContext, detail: string, remedy: string): Finding {
  return mode === 'live' ? stop(detail, remedy) : warning(detail, remedy);
}

/** What to type to have a check put right what it can. */
export function repairCommand({ mode }: PreflightContext): string {
  return `npm run preflight -- --mode ${mode} --repair`;
}
