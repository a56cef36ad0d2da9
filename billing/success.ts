import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import type { Replacement } from '../keystore/keystore.ts';
import { onlyBy, parsedBody } from '../shared/methods.ts';
import { ProblemError } from '../shared/problems.ts';
import type { Billing } from './context.ts';
import { showKey } from './key-page.ts';
import { planText, sendPage, timeText, wantsPage } from './pages.ts';
import { growing, lookAgainMs, type PurchaseState, type PurchaseStates, refusal } from './purchase-state.ts';

const ACTOR = 'success_page';

const sessionIdSchema = z.string().regex(/^cs_(test|live)_[0-9A-Za-z]{1,240}$/);
const keyIdSchema = z.string().regex(/^[0-9A-Za-z]{12}$/);

/**
 * `GET /billing/success` says where the purchase stands and never shows a key; `POST /billing/success/claim` shows it
 * once; `POST /billing/success/replace` makes a new one where that showing was lost on the way.
 */
export function successRoutes(billing: Billing, states: PurchaseStates): Router {
  const router = express.Router();
  const look = (request: Request, sessionId: string) => states.of(request, sessionId, ACTOR);
  const form = [
    express.json({ limit: '4kb' }),
    express.urlencoded({ extended: false, limit: '4kb' }),
    parsedBody,
  ];
  const refuse = (request: Request, response: Response, sessionId: string, state: PurchaseState) => {
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
      before.status === 'ready' ? await billing.keystore.claimReveal({ sessionId, actor: ACTOR }) : null;
    if (claim?.outcome === 'claimed') {
      billing.metrics?.keyClaimed('success_page');
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
      actor: ACTOR,
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

function stateJson(state: Exclude<PurchaseState, { status: 'not_found' }>): object {
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
  const again = lookAgainMs(state);
  return {
    status: state.status,
    purchase_id: state.purchaseId,
    ...(again === null ? {} : { poll_after_ms: again }),
  };
}

function showState(
  billing: Billing,
  response: Response,
  state: PurchaseState,
  sessionId: string,
  problem?: ProblemError,
): void {
  const plan = 'planId' in state ? billing.plans.plan(state.planId) : undefined;
  if (state.status === 'not_found') response.status(404);
  const byProgram = 'byProgram' in state && state.byProgram;
  // A program takes its key within seconds, or it is gone.
  const again = byProgram && state.status === 'ready' ? growing(state.readySince, 10) : lookAgainMs(state);
  if (again !== null) response.set('Refresh', String(again / 1000));
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
    byProgram,
    slow: 'createdAt' in state && Date.now() - state.createdAt > 60_000,
  });
}
