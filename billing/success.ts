import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import type { Replacement, RevealState } from '../keystore/keystore.ts';
import type { ProblemCode } from '../shared/problems.ts';
import { ProblemError } from '../shared/problems.ts';
import { AddressLimit } from './address-limit.ts';
import type { Billing } from './context.ts';
import { showKey } from './key-page.ts';
import { onlyBy, parsedBody } from './methods.ts';
import { planText, sendPage, timeText, wantsPage } from './pages.ts';
import { RateLimit } from './rate-limit.ts';
import { type Settlement, settle } from './settle.ts';

/** Until when a repeated trial is paid may be weeks: no need to look often, seconds. */
const TRIAL_RELOAD_S = 300;

const sessionIdSchema = z.string().regex(/^cs_(test|live)_[0-9A-Za-z]{1,240}$/);
const keyIdSchema = z.string().regex(/^[0-9A-Za-z]{12}$/);

/** How often an address may ask in a minute for sessions that do not exist: each is a call to Stripe. */
const MISSES_A_MINUTE = 60;
/** How often Stripe is looked at in a minute for one session that waits: its page asks every few seconds. */
const LOOKS_A_MINUTE = 60;

/** Where a purchase stands, from the buyer's point of view. */
export type SuccessState =
  | {
      status: 'ready' | 'claimed' | 'reveal_expired' | 'revoked';
      planId: string;
      keyId: string;
      lastFour: string;
      at: number | null;
      /** Until when the buyer can say that the key never arrived, and get another; `null`: not (any more). */
      replaceableUntil: number | null;
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

/**
 * `GET /billing/success` says where the purchase stands and never shows a key; `POST /billing/success/claim` shows it
 * once; `POST /billing/success/replace` makes a new one where that showing was lost on the way.
 */
export function successRoutes(billing: Billing): Router {
  const router = express.Router();
  const limits = {
    misses: new AddressLimit(MISSES_A_MINUTE, 60),
    looks: new RateLimit(LOOKS_A_MINUTE, 60, 'This page was loaded too often.'),
  };
  const look = (request: Request, sessionId: string) => stateOf(billing, request, sessionId, limits);
  const form = [
    express.json({ limit: '4kb' }),
    express.urlencoded({ extended: false, limit: '4kb' }),
    parsedBody,
  ];
  const refuse = (request: Request, response: Response, sessionId: string, state: SuccessState) => {
    if (!wantsPage(request)) throw refusal(state);
    response.status(refusal(state).toProblem().status);
    showState(billing, response, state, sessionId);
  };

  router.get('/billing/success', async (request, response) => {
    const sessionId = readSessionId(billing, request.query.session_id);
    const state = await look(request, sessionId);
    if (wantsPage(request)) showState(billing, response, state, sessionId);
    else if (state.status === 'not_found') throw refusal(state);
    else response.json(stateJson(state));
  });

  router.post('/billing/success/claim', ...form, async (request, response) => {
    const sessionId = readSessionId(billing, request.body?.session_id);
    const before = await look(request, sessionId);
    const claim =
      before.status === 'ready'
        ? await billing.keystore.claimReveal({ sessionId, actor: 'success_page' })
        : null;
    if (claim?.outcome === 'claimed') {
      billing.log.info({ key: claim.keyId, purchase: claim.purchase.id }, 'Key claimed');
      await showKey(billing, request, response, claim, successAddress(sessionId));
      return;
    }
    refuse(request, response, sessionId, claim ? await look(request, sessionId) : before);
  });

  router.post('/billing/success/replace', ...form, async (request, response) => {
    const sessionId = readSessionId(billing, request.body?.session_id);
    const keyId = keyIdSchema.safeParse(request.body?.key_id);
    if (!keyId.success) {
      throw new ProblemError('invalid_request', 'The key to replace is not named.', {
        errors: [{ field: 'key_id', message: 'is the id of the key that was shown' }],
      });
    }
    const state = await look(request, sessionId);
    if (state.status !== 'claimed') {
      if (state.status === 'ready')
        throw new ProblemError('invalid_request', 'This key was not shown yet: claim it.');
      refuse(request, response, sessionId, state);
      return;
    }
    const replacement = await billing.keystore.replaceUnused({
      sessionId,
      keyId: keyId.data,
      actor: 'success_page',
    });
    if (replacement.outcome === 'replaced') {
      const { purchase } = replacement;
      billing.log.info({ old: keyId.data, key: replacement.keyId, purchase: purchase.id }, 'Key replaced');
      const shown = { ...replacement, replaces: { keyId: keyId.data, worksUntil: null } };
      await showKey(billing, request, response, shown, successAddress(sessionId));
      return;
    }
    const problem = notReplaced(replacement.outcome);
    if (!wantsPage(request)) throw problem;
    response.status(problem.toProblem().status);
    showState(billing, response, await look(request, sessionId), sessionId, problem);
  });
  router.all('/billing/success/replace', onlyBy('POST'));
  router.all('/billing/success/claim', onlyBy('POST'));
  router.all('/billing/success', onlyBy('GET'));
  return router;
}

function successAddress(sessionId: string): string {
  return `/billing/success?session_id=${sessionId}`;
}

/** Why a key that was shown has no replacement. */
function notReplaced(outcome: Exclude<Replacement['outcome'], 'replaced'>): ProblemError {
  switch (outcome) {
    case 'used':
      return new ProblemError('key_in_use', 'This key has been used, so it did arrive.');
    case 'too_late':
      return new ProblemError('replace_too_late', 'This key was shown more than 24 hours ago.');
    case 'superseded':
      return new ProblemError('already_replaced', 'This key was replaced or switched off before.');
    default:
      return new ProblemError('purchase_not_found', 'This purchase has no such key.');
  }
}

/** @throws ProblemError `purchase_not_found` when it cannot be the id of a session of this mode */
function readSessionId({ mode }: Billing, value: unknown): string {
  const parsed = sessionIdSchema.safeParse(value);
  if (!parsed.success) {
    throw new ProblemError('purchase_not_found', 'The link has no valid session_id.', {
      errors: [
        { field: 'session_id', message: 'is the id of a checkout session, as Stripe puts it in the link' },
      ],
    });
  }
  if (!parsed.data.startsWith(`cs_${mode}_`)) {
    const other = mode === 'live' ? 'test' : 'live';
    throw new ProblemError(
      'purchase_not_found',
      `This purchase was made in ${other} mode; this server is in ${mode} mode.`,
    );
  }
  return parsed.data;
}

/** What the keystore knows, or else what settling with Stripe finds. */
async function stateOf(
  billing: Billing,
  request: Request,
  sessionId: string,
  { misses, looks }: { misses: AddressLimit; looks: RateLimit },
): Promise<SuccessState> {
  const known = await billing.keystore.findReveal(sessionId);
  if (known?.reveal) return revealedState(known);
  // First what an address may try: made-up ids are then not even remembered to be counted by.
  await misses.spend(request);
  let missed = false;
  let settlement: Settlement;
  try {
    await looks.spend(sessionId);
    settlement = await settle(billing, sessionId, 'success_page');
    missed = settlement.outcome === 'not_found';
  } finally {
    if (!missed) await misses.refund(request);
  }
  if (settlement.outcome === 'provisioned' || settlement.outcome === 'already_provisioned') {
    const provisioned = await billing.keystore.findReveal(sessionId);
    if (provisioned?.reveal) return revealedState(provisioned);
  }
  return unprovisionedState(settlement);
}

function revealedState({ purchase, reveal }: RevealState): SuccessState {
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
  return { status, planId: purchase.planId ?? '', keyId, lastFour, at, replaceableUntil };
}

function unprovisionedState(settlement: Settlement): SuccessState {
  if (settlement.outcome === 'not_found' || settlement.outcome === 'not_ours') return { status: 'not_found' };
  const about = { purchaseId: settlement.purchase.id, createdAt: settlement.purchase.createdAt };
  switch (settlement.outcome) {
    case 'failed':
      return { status: 'payment_failed', ...about };
    case 'canceled':
      return { status: 'canceled', ...about };
    case 'unknown_price':
    case 'wrong_mode_price':
      return { status: 'unknown_price', ...about };
    case 'open':
    case 'trial_used':
      return { status: settlement.outcome, ...about };
    default:
      return { status: 'pending', ...about };
  }
}

function stateJson(state: Exclude<SuccessState, { status: 'not_found' }>): object {
  if ('keyId' in state) {
    return {
      status: state.status,
      plan: state.planId,
      key_id: state.keyId,
      last_four: state.lastFour,
      ...(state.at === null
        ? {}
        : { [state.status === 'claimed' ? 'claimed_at' : 'claim_until']: new Date(state.at).toISOString() }),
      ...(state.status === 'claimed'
        ? {
            replaceable_until:
              state.replaceableUntil === null ? null : new Date(state.replaceableUntil).toISOString(),
          }
        : {}),
    };
  }
  return {
    status: state.status,
    purchase_id: state.purchaseId,
    ...(isWaiting(state)
      ? { poll_after_ms: state.status === 'trial_used' ? TRIAL_RELOAD_S * 1000 : 2000 }
      : {}),
  };
}

/** Whether looking again later can show something else. */
function isWaiting(state: SuccessState): state is Extract<SuccessState, { purchaseId: string }> {
  return state.status === 'open' || state.status === 'pending' || state.status === 'trial_used';
}

/** Why there is nothing to claim. */
function refusal(state: SuccessState): ProblemError {
  const codes: Record<SuccessState['status'], ProblemCode> = {
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
    return new ProblemError(
      'already_claimed',
      `This key was shown on ${timeText(state.at)}. It ends in ${state.lastFour}.`,
      {
        key_id: state.keyId,
        last_four: state.lastFour,
        claimed_at: new Date(state.at).toISOString(),
      },
    );
  }
  return new ProblemError(codes[state.status]);
}

function showState(
  billing: Billing,
  response: Response,
  state: SuccessState,
  sessionId: string,
  problem?: ProblemError,
): void {
  const plan = 'planId' in state ? billing.plans.plan(state.planId) : undefined;
  if (state.status === 'not_found') response.status(404);
  if (isWaiting(state)) {
    const seconds =
      state.status === 'trial_used' ? TRIAL_RELOAD_S : secondsToReload(Date.now() - state.createdAt);
    response.set('Refresh', String(seconds));
  }
  const replaceable = 'replaceableUntil' in state && state.replaceableUntil !== null;
  sendPage(response, 'success', {
    status: state.status,
    sessionId: state.status === 'ready' || replaceable ? sessionId : null,
    address: successAddress(sessionId),
    problem: problem?.toProblem(),
    plan: plan && planText(plan),
    lastFour: 'lastFour' in state ? state.lastFour : null,
    keyId: 'keyId' in state ? state.keyId : null,
    purchaseId: 'purchaseId' in state ? state.purchaseId : null,
    at: 'at' in state && state.at !== null ? timeText(state.at) : null,
    replaceableUntil: replaceable ? timeText(state.replaceableUntil as number) : null,
    slow: 'createdAt' in state && Date.now() - state.createdAt > 60_000,
  });
}

/** A card is confirmed within seconds, a bank debit within days: look often at first, then ever more rarely. */
function secondsToReload(ageMs: number): number {
  return Math.min(300, Math.max(3, Math.round(ageMs / 10_000)));
}
