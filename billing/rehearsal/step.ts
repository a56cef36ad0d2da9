import { setTimeout as pause } from 'node:timers/promises';
import type { Keystore } from '../../keystore/keystore.ts';
import type { Config } from '../../shared/config.ts';
import type { Mode } from '../../shared/keys.ts';
import type { StripeClient } from '../stripe-client.ts';
import type { Goods } from './goods.ts';

/** What a rehearsal is about. */
export type Rehearsal = {
  mode: Mode;
  config: Config;
  stripe: StripeClient;
  /** Read only, to see whether an event arrived. */
  keystore: Keystore;
  goods: Goods;
  /** Where the call through the gateway goes: a path of the seller's API. */
  path: string;
  /** How long the person who pays may take, milliseconds. */
  payWithinMs: number;
  /** How long everything else may take to follow, milliseconds. */
  followWithinMs: number;
  /** Ends all waiting; what was bought is given back all the same. */
  signal: AbortSignal;
  /** Tells the person who pays where. */
  onCheckout(url: string): void;
};

/** What the steps so far brought. */
export type Bought = {
  purchaseId: string;
  claimToken: string;
  checkoutUrl: string;
  sessionId: string;
  subscriptionId: string | null;
  key: string;
};

/** `ok`; `wrong`: not as it should be; `skipped`: it does not apply, or was not come to. */
export type Finding = {
  verdict: 'ok' | 'wrong' | 'skipped';
  /** What was seen, in a sentence or two; never a key. */
  detail: string;
  /** What to do about it. */
  remedy?: string;
};

/** One thing that a buyer does, or that becomes of it. */
export type Step = {
  id: string;
  title: string;
  /** What it would do, for who wants to know before. */
  plan(rehearsal: Pick<Rehearsal, 'config' | 'goods' | 'path'>): string;
  /** Whether the steps after it are of no use when it went wrong. */
  needed: boolean;
  /** Does it, and adds to what was bought. */
  run(rehearsal: Rehearsal, bought: Partial<Bought>): Promise<Finding>;
};

export const ok = (detail: string): Finding => ({ verdict: 'ok', detail });
export const wrong = (detail: string, remedy: string): Finding => ({ verdict: 'wrong', detail, remedy });
export const skipped = (detail: string): Finding => ({ verdict: 'skipped', detail });

/**
 * Looks again and again until it sees something.
 *
 * @param everyMs how long between two looks
 * @returns what was seen; `null` when it was not within the time
 * @throws the signal's reason when it is aborted meanwhile
 */
export async function waitFor<T>(
  { signal }: Pick<Rehearsal, 'signal'>,
  withinMs: number,
  look: () => Promise<T | null>,
  everyMs = 250,
): Promise<T | null> {
  const giveUp = performance.now() + withinMs;
  for (;;) {
    signal.throwIfAborted();
    const seen = await look();
    if (seen !== null || performance.now() > giveUp) return seen;
    await pause(everyMs, undefined, { signal });
  }
}

export const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
