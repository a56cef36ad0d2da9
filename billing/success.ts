import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import type { Claim, RevealState } from '../keystore/keystore.ts';
import type { ProblemCode } from '../shared/problems.ts';
import { ProblemError } from '../shared/problems.ts';
import { AddressLimit } from './address-limit.ts';
import type { Billing } from './context.ts';
import { onlyBy, parsedBody } from './methods.ts';
import { planText, sendPage, timeText, wantsPage } from './pages.ts';
import { type Settlement, settle } from './settle.ts';

const sessionIdSchema = z.string().regex(/^cs_(test|live)_[0-9A-Za-z]{1,240}$/);

/** How often an address may ask in a minute for sessions that do not exist: each is a call to Stripe. */
const MISSES_A_MINUTE = 60;

/** Where a purchase stands, from the buyer's point of view. */
export type SuccessState =
  | {
      status: 'ready' | 'claimed' | 'reveal_expired' | 'revoked';
      planId: string;
      keyId: string;
      lastFour: string;
      at: number | null;
    }
  | {
      /** `open`: the buyer has not paid yet; `pending`: paid, and Stripe waits for the money. */
      status: 'open' | 'pending' | 'payment_failed' | 'canceled' | 'unknown_price';
      purchaseId: string;
      createdAt: number;
    }
  | { status: 'not_found' };

/** `GET /billing/success` says where the purchase stands and never shows a key; `POST /billing/success/claim` shows it once. */
export function successRoutes(billing: Billing): Router {
  const router = express.Router();
  const misses = new AddressLimit(MISSES_A_MINUTE, 60);
  const look = (request: Request, sessionId: string) => stateOf(billing, request, sessionId, misses);

  router.get('/billing/success', async (request, response) => {
    const sessionId = readSessionId(billing, request.query.session_id);
    const state = await look(request, sessionId);
    if (wantsPage(request)) showState(billing, response, state, sessionId);
    else if (state.status === 'not_found') throw refusal(state);
    else response.json(stateJson(state));
  });

  router.post(
    '/billing/success/claim',
    express.json({ limit: '4kb' }),
    express.urlencoded({ extended: false, limit: '4kb' }),
    parsedBody,
    async (request, response) => {
      const sessionId = readSessionId(billing, request.body?.session_id);
      const before = await look(request, sessionId);
      const claim =
        before.status === 'ready'
          ? await billing.keystore.claimReveal({ sessionId, actor: 'success_page' })
          : null;
      if (claim?.outcome === 'claimed') {
        billing.log.info({ key: claim.keyId, purchase: claim.purchase.id }, 'Key claimed');
        showKey(billing, request, response, claim, sessionId);
        return;
      }
      const state = claim ? await look(request, sessionId) : before;
      if (!wantsPage(request)) throw refusal(state);
      response.status(refusal(state).toProblem().status);
      showState(billing, response, state, sessionId);
    },
  );
  router.all('/billing/success/claim', onlyBy('POST'));
  router.all('/billing/success', onlyBy('GET'));
  return router;
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
  misses: AddressLimit,
): Promise<SuccessState> {
  const known = await billing.keystore.findReveal(sessionId);
  if (known?.reveal) return revealedState(known);
  await misses.spend(request);
  let missed = false;
  let settlement: Settlement;
  try {
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
  return { status, planId: purchase.planId ?? '', keyId: reveal.keyId, lastFour: reveal.lastFour, at };
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
      return { status: 'open', ...about };
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
    };
  }
  return {
    status: state.status,
    purchase_id: state.purchaseId,
    ...(isWaiting(state) ? { poll_after_ms: 2000 } : {}),
  };
}

/** Whether looking again later can show something else. */
function isWaiting(state: SuccessState): state is Extract<SuccessState, { purchaseId: string }> {
  return state.status === 'open' || state.status === 'pending';
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

function showKey(
  billing: Billing,
  request: Request,
  response: Response,
  claim: Extract<Claim, { outcome: 'claimed' }>,
  sessionId: string,
): void {
  const { config, plans, mode } = billing;
  const plan = plans.plan(claim.purchase.planId ?? '');
  const curl = `curl -H "X-API-Key: ${claim.plaintext}" ${config.publicGatewayUrl}/whoami`;
  if (wantsPage(request)) {
    sendPage(response, 'key', {
      key: claim.plaintext,
      keyId: claim.keyId,
      plan: plan && planText(plan),
      curl,
      sessionId,
    });
    return;
  }
  response.json({
    key: claim.plaintext,
    key_id: claim.keyId,
    last_four: claim.lastFour,
    mode,
    plan: claim.purchase.planId,
    limits:
      plan?.limits.map(({ name, requests, seconds }) => ({ name, requests, window_seconds: seconds })) ?? [],
    quota: plan?.quota ?? null,
    gateway_url: config.publicGatewayUrl,
    curl,
  });
}

function showState(billing: Billing, response: Response, state: SuccessState, sessionId: string): void {
  const plan = 'planId' in state ? billing.plans.plan(state.planId) : undefined;
  if (state.status === 'not_found') response.status(404);
  if (isWaiting(state)) response.set('Refresh', String(secondsToReload(Date.now() - state.createdAt)));
  sendPage(response, 'success', {
    status: state.status,
    sessionId: state.status === 'ready' ? sessionId : null,
    plan: plan && planText(plan),
    lastFour: 'lastFour' in state ? state.lastFour : null,
    keyId: 'keyId' in state ? state.keyId : null,
    purchaseId: 'purchaseId' in state ? state.purchaseId : null,
    at: 'at' in state && state.at !== null ? timeText(state.at) : null,
    slow: 'createdAt' in state && Date.now() - state.createdAt > 60_000,
  });
}

/** A card is confirmed within seconds, a bank debit within days: look often at first, then ever more rarely. */
function secondsToReload(ageMs: number): number {
  return Math.min(300, Math.max(3, Math.round(ageMs / 10_000)));
}
