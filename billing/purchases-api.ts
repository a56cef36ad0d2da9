import express, { type Request, type Router } from 'express';
import { z } from 'zod';
import type { PurchaseStatus } from '../keystore/keystore.ts';
import { AddressLimit } from '../shared/address-limit.ts';
import { fieldErrors } from '../shared/field-errors.ts';
import { onlyBy, parsedBody } from '../shared/methods.ts';
import { ProblemError } from '../shared/problems.ts';
import { type CheckoutDesk, idempotencyKeyOf } from './checkout-desk.ts';
import { keyJson } from './key-page.ts';
import {
  growing,
  keylessState,
  lookAgainMs,
  PROGRAM_ACTOR,
  type PurchaseState,
  type PurchaseStates,
  refusal,
  revealedState,
} from './purchase-state.ts';

/** How often an address may ask in a minute for purchases that do not exist, or with a wrong token. */
const MISSES_A_MINUTE = 60;

const PURCHASES_PATH = '/billing/purchases';

const bodySchema = z.strictObject({
  plan: z.string({ error: 'is required: the id of a plan' }).min(1).max(64),
  email: z.email({ error: 'is not an e-mail address' }).max(254).optional(),
  mode: z.enum(['test', 'live'], { error: 'must be test or live' }).optional(),
});

const credentialsSchema = z.object({
  purchaseId: z.string().regex(/^pur_[0-9A-Za-z]{20}$/),
  claimToken: z.string().regex(/^tgc_[0-9A-Za-z_-]{43}$/),
});

/**
 * For programs that let their user buy. `POST /billing/purchases {plan, email?, mode?}` opens a checkout for the user's browser
 * and answers with a claim token; by that alone, in `Authorization: Bearer`, `GET /billing/purchases/:id` says where the purchase
 * stands, and `POST /billing/purchases/:id/claim` hands the key over, once. With an `Idempotency-Key`, a repeated
 * request begins no second purchase.
 */
export function purchaseRoutes(desk: CheckoutDesk, states: PurchaseStates): Router {
  const { billing } = desk;
  const { keystore, log, mode } = billing;
  const router = express.Router();
  const misses = new AddressLimit(MISSES_A_MINUTE, 60);

  router.post(PURCHASES_PATH, express.json({ limit: '16kb' }), parsedBody, async (request, response) => {
    const input = bodySchema.safeParse(request.body ?? {});
    if (!input.success) throw fieldErrors(input.error);
    const { plan, email, mode: wanted = mode } = input.data;
    if (wanted !== mode) {
      throw new ProblemError(
        'wrong_mode_purchase',
        `A ${wanted} purchase was asked for, and this server is in ${mode} mode.`,
      );
    }
    const names = keystore.namePurchase(idempotencyKeyOf(request, 'purchase'));
    const { url, purchase } = await desk.open(request, { ...names, planId: plan, email });
    response.status(201).json({
      purchase_id: purchase.id,
      status: purchase.status,
      checkout_url: url,
      claim_token: names.claimToken,
      poll_after_ms: growing(purchase.createdAt, 60),
    });
  });

  router.get(`${PURCHASES_PATH}/:id`, async (request, response) => {
    const { purchase, state } = await look(request);
    if (state.status === 'not_found') throw refusal(state);
    response.json({
      purchase_id: purchase.id,
      status: STATUSES[state.status],
      plan: 'planId' in state ? state.planId : purchase.planId,
      failure: IS_WELL[state.status] ? null : refusal(state).code,
      claimed: state.status === 'claimed',
      poll_after_ms: lookAgainMs(state),
    });
  });

  router.post(`${PURCHASES_PATH}/:id/claim`, async (request, response) => {
    const { sessionId, state } = await look(request);
    if (state.status !== 'ready' || sessionId === null) throw refusal(state);
    const claim = await keystore.claimReveal({ sessionId, actor: PROGRAM_ACTOR });
    if (claim.outcome !== 'claimed') throw refusal((await look(request)).state);
    billing.metrics?.keyClaimed('program');
    log.info({ key: claim.keyId, purchase: claim.purchase.id }, 'Key claimed by a program');
    response.json(await keyJson(billing, claim));
  });

  /** Where the purchase stands that a request names and has the token of. @throws ProblemError `purchase_not_found` */
  async function look(request: Request) {
    const found = await purchaseOf(request);
    const { purchase, reveal, sessionId } = found;
    let state: PurchaseState;
    if (reveal) state = revealedState(found);
    else if (sessionId === null) state = keylessState('canceled', purchase);
    else state = await states.of(request, sessionId, 'purchases_api');
    return { purchase, sessionId, state };
  }

  async function purchaseOf(request: Request) {
    const [, claimToken] = /^bearer[ \t]+(\S+)[ \t]*$/i.exec(request.get('authorization') ?? '') ?? [];
    const credentials = credentialsSchema.safeParse({ purchaseId: request.params.id, claimToken });
    const found = credentials.success ? await keystore.findRevealForProgram(credentials.data) : undefined;
    if (found) return found;
    await misses.spend(request);
    throw new ProblemError('purchase_not_found', 'There is no purchase with this id and this claim token.', {
      remedy: 'Send the claim token that came with the purchase id as "Authorization: Bearer tgc_...".',
    });
  }

  router.all(PURCHASES_PATH, onlyBy('POST'));
  router.all(`${PURCHASES_PATH}/:id`, onlyBy('GET'));
  router.all(`${PURCHASES_PATH}/:id/claim`, onlyBy('POST'));
  return router;
}

type Known = Exclude<PurchaseState['status'], 'not_found'>;

const STATUSES: Record<Known, PurchaseStatus> = {
  open: 'pending',
  pending: 'pending',
  trial_used: 'pending',
  unknown_price: 'paid',
  ready: 'provisioned',
  claimed: 'provisioned',
  reveal_expired: 'provisioned',
  revoked: 'provisioned',
  payment_failed: 'failed',
  canceled: 'canceled',
};

/** Whether the purchase goes, or has gone, the way it should; otherwise `failure` is what a claim is refused with. */
const IS_WELL: Partial<Record<Known, true>> = { open: true, pending: true, ready: true, claimed: true };
