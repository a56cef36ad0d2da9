import type { Request } from 'express';
import type { Purchase, RevealState } from '../keystore/keystore.ts';
import { AddressLimit } from '../shared/address-limit.ts';
import type { ProblemCode } from '../shared/problems.ts';
import { ProblemError } from '../shared/problems.ts';
import { RateLimit } from '../shared/rate-limit.ts';
import type { Billing } from './context.ts';
import { timeText } from './pages.ts';
import { type Settlement, settle } from './settle.ts';

/** How often an address may ask in a minute for sessions that do not exist: each is a call to Stripe. */
const MISSES_A_MINUTE = 60;
/** How often Stripe is looked at in a minute for one session that waits: who waits for it asks every few seconds. */
const LOOKS_A_MINUTE = 60;

/** The longest that anybody waits before looking again, milliseconds. */
const LONGEST_MS = 300_000;

/** What the audit log says of a claim by the program that began the purchase. */
export const PROGRAM_ACTOR = 'purchase_claim';

/** Where a purchase stands, from the buyer's point of view. */
export type PurchaseState =
  | {
      status: 'ready' | 'claimed' | 'reveal_expired' | 'revoked';
      planId: string;
      keyId: string;
      lastFour: string;
      at: number | null;
      /** Until when the buyer can say that the key never arrived, and get another; `null`: not (any more). */
      replaceableUntil: number | null;
      /** Whether the program that began the purchase is to claim the key, or did. */
      byProgram: boolean;
      readySince: number;
    }
  | {
      /**
       * `open`: the buyer has not paid yet; `pending`: paid, and Stripe waits for the money; `trial_used`: not the
       * buyer's first trial, so the key comes with the first payment.
       */
      status: 'open' | 'pending' | 'trial_used' | 'payment_failed' | 'canceled' | 'unknown_price';
      purchaseId: string;
      createdAt: number;
    }
  | { status: 'not_found' };

/** Tells how purchases stand, and looks at Stripe no more often than it has to. */
export class PurchaseStates {
  readonly #billing: Billing;
  readonly #misses = new AddressLimit(MISSES_A_MINUTE, 60);
  readonly #looks = new RateLimit(LOOKS_A_MINUTE, 60, 'This purchase was asked for too often.');

  constructor(billing: Billing) {
    this.#billing = billing;
  }

  /**
   * What the keystore knows of a checkout session's purchase, or else what settling with Stripe finds.
   *
   * @param actor who asks, for the audit log
   */
  async of(request: Request, sessionId: string, actor: string): Promise<PurchaseState> {
    const { keystore } = this.#billing;
    const known = await keystore.findReveal(sessionId);
    if (known?.reveal) return revealedState(known);
    // First what an address may try: made-up ids are then not even remembered to be counted by.
    await this.#misses.spend(request);
    let missed = false;
    let settlement: Settlement;
    try {
      await this.#looks.spend(sessionId);
      settlement = await settle(this.#contextOf(request), sessionId, actor);
      missed = settlement.outcome === 'not_found';
    } finally {
      if (!missed) await this.#misses.refund(request);
    }
    if (settlement.outcome === 'provisioned' || settlement.outcome === 'already_provisioned') {
      const provisioned = await keystore.findReveal(sessionId);
      if (provisioned?.reveal) return revealedState(provisioned);
    }
    return settledState(settlement);
  }

  #contextOf({ res }: Request): Billing {
    const requestId = res?.locals.requestId as string;
    return { ...this.#billing, log: this.#billing.log.child({ request_id: requestId }), requestId };
  }
}

/** Of a purchase that has a key. */
export function revealedState({ purchase, reveal }: RevealState): PurchaseState {
  if (!reveal) throw new Error('A provisioned purchase has no reveal');
  const status = (
    { sealed: 'ready', claimed: 'claimed', expired: 'reveal_expired', revoked: 'revoked' } as const
  )[reveal.state];
  const at = {
    claimed: reveal.claimedAt,
    sealed: reveal.expiresAt,
    expired: reveal.expiresAt,
    revoked: null,
  }[reveal.state];
  const { keyId, lastFour, replaceableUntil } = reveal;
  const byProgram = status === 'claimed' ? reveal.claimedBy === PROGRAM_ACTOR : purchase.byProgram;
  const readySince = purchase.provisionedAt ?? purchase.createdAt;
  return {
    status,
    planId: purchase.planId ?? '',
    keyId,
    lastFour,
    at,
    replaceableUntil,
    byProgram,
    readySince,
  };
}

function settledState(settlement: Settlement): PurchaseState {
  if (settlement.outcome === 'not_found' || settlement.outcome === 'not_ours') return { status: 'not_found' };
  switch (settlement.outcome) {
    case 'failed':
      return keylessState('payment_failed', settlement.purchase);
    case 'unknown_price':
    case 'wrong_mode_price':
      return keylessState('unknown_price', settlement.purchase);
    case 'canceled':
    case 'open':
    case 'trial_used':
      return keylessState(settlement.outcome, settlement.purchase);
    default:
      return keylessState('pending', settlement.purchase);
  }
}

type KeylessState = Extract<PurchaseState, { purchaseId: string }>;

/** Of a purchase that has no key. */
export function keylessState(status: KeylessState['status'], { id, createdAt }: Purchase): KeylessState {
  return { status, purchaseId: id, createdAt };
}

/**
 * After how many milliseconds to look again at a purchase without a key; `null`: it is as it will be. A buyer is at the
 * checkout for minutes, a card is confirmed within seconds, a bank debit within days: often at first, then ever more rarely.
 */
export function lookAgainMs(state: PurchaseState): number | null {
  if (!('createdAt' in state)) return null;
  switch (state.status) {
    case 'open':
      return growing(state.createdAt, 60);
    case 'pending':
      return growing(state.createdAt, 10);
    case 'trial_used':
    case 'unknown_price':
      // Somebody has to pay, or to act, first.
      return LONGEST_MS;
    default:
      return null;
  }
}

/** The part of the time since then, in whole seconds, from 3 s to 5 minutes. */
export function growing(since: number, part: number): number {
  const seconds = Math.round((Date.now() - since) / part / 1000);
  return Math.min(LONGEST_MS, Math.max(3000, seconds * 1000));
}

/** Why there is nothing to claim. */
export function refusal(state: PurchaseState): ProblemError {
  const codes: Record<PurchaseState['status'], ProblemCode> = {
    ready: 'already_claimed',
    claimed: 'already_claimed',
    reveal_expired: 'reveal_expired',
    revoked: 'reveal_revoked',
    open: 'payment_pending',
    pending: 'payment_pending',
    payment_failed: 'payment_failed',
    canceled: 'purchase_canceled',
    trial_used: 'trial_used',
    unknown_price: 'unknown_price',
    not_found: 'purchase_not_found',
  };
  if (state.status === 'claimed' && state.at !== null) {
    const done = state.byProgram ? 'handed over' : 'shown';
    return new ProblemError(
      'already_claimed',
      `This key was ${done} on ${timeText(state.at)}. It ends in ${state.lastFour}.`,
      {
        key_id: state.keyId,
        last_four: state.lastFour,
        claimed_at: new Date(state.at).toISOString(),
        ...(state.replaceableUntil === null
          ? {}
          : {
              remedy:
                'If it never arrived, the page that you were sent to after paying makes a new one, as long as it was not used.',
            }),
      },
    );
  }
  return new ProblemError(codes[state.status]);
}
