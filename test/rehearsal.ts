import { expect } from 'vitest';
import {
  chooseGoods,
  type Goods,
  type Rehearsal,
  type Result,
  rehearse,
} from '../billing/rehearsal/rehearsal.ts';
import type { PreflightRig } from './preflight.ts';

/** Rehearses on an installation, with something done in the moment after a step. */
export async function rehearseOn(
  { context }: PreflightRig,
  {
    after = {},
    ...changes
  }: Partial<Rehearsal> & { after?: Record<string, (rehearsal: Rehearsal) => unknown> } = {},
): Promise<Result[]> {
  const { config, keystore, mode, stripe } = context;
  const rehearsal: Rehearsal = {
    mode,
    config,
    stripe,
    keystore,
    goods: (await chooseGoods(stripe, config.plans, mode)) as Goods,
    path: '/',
    payWithinMs: 20_000,
    followWithinMs: 20_000,
    signal: new AbortController().signal,
    onCheckout: () => {},
    ...changes,
  };
  return rehearse(rehearsal, async ({ id }) => {
    await after[id]?.(rehearsal);
  });
}

/** The steps that came to this. */
export function stepsThat(verdict: Result['verdict'], results: readonly Result[]): string[] {
  return results.filter((result) => result.verdict === verdict).map(({ id }) => id);
}

/** Everything that was ever bought is canceled and paid back, and nobody can pay what was opened. */
export async function expectNothingLeft({ stripe }: PreflightRig): Promise<void> {
  const { data: subscriptions } = await stripe.subscriptions.list({ status: 'all', limit: 100 });
  expect(subscriptions.filter(({ status }) => status !== 'canceled')).toEqual([]);
  const { data: charges } = await stripe.charges.list({ limit: 100 });
  expect(charges.filter((charge) => charge.amount_refunded < charge.amount_captured)).toEqual([]);
  const { data: sessions } = await stripe.checkout.sessions.list({ status: 'open', limit: 100 });
  expect(sessions).toEqual([]);
}
