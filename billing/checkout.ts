import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import express, { type Request, type Router } from 'express';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { newPurchaseId } from '../keystore/keystore.ts';
import { base62FromBytes } from '../shared/base62.ts';
import type { Plan } from '../shared/plans.ts';
import { ProblemError } from '../shared/problems.ts';
import { AddressLimit } from './address-limit.ts';
import type { Billing } from './context.ts';
import { fieldErrors } from './field-errors.ts';
import { onlyBy, parsedBody } from './methods.ts';
import { lookAtPrice, openCheckout, type PriceLook } from './stripe-checkout.ts';
import { hadTrialBefore } from './stripe-customers.ts';

/** What Stripe replaces by the session's id when it sends the buyer back. */
const SESSION_ID_PLACEHOLDER = '{CHECKOUT_SESSION_ID}';

/** Checkouts with a trial that a person has once: each asks Stripe for what an e-mail address had, and tells by the trial. */
const TRIAL_LOOKS_A_MINUTE = 10;

/** Checkouts one address may open a minute: each is a call to Stripe. */
const CHECKOUTS_A_MINUTE = 300;

/**
 * `POST /billing/create-checkout-session {plan, success_url?, cancel_url?, customer_email?}`: JSON answers
 * `{url, purchase_id}`, a form is sent on to the checkout page. With an `Idempotency-Key`, a repeated request opens no
 * second checkout.
 */
export function checkoutRoutes(billing: Billing): Router {
  const { config, keystore, mode, plans, stripe } = billing;
  const router = express.Router();
  const looked = new LRUCache<string, PriceLook>({ max: 1000 });
  const limit = new AddressLimit(CHECKOUTS_A_MINUTE, 60);
  const trialLooks = new AddressLimit(TRIAL_LOOKS_A_MINUTE, 60);
  const body = bodySchema([new URL(config.publicBillingUrl).origin, ...config.redirectOrigins]);

  router.post(
    '/billing/create-checkout-session',
    express.json({ limit: '16kb' }),
    express.urlencoded({ extended: false, limit: '16kb' }),
    parsedBody,
    async (request, response) => {
      const input = body.safeParse(emptyFieldsDropped(request.body));
      if (!input.success) throw fieldErrors(input.error);
      await limit.spend(request);
      const { plan: planId, success_url, cancel_url, customer_email } = input.data;
      const plan = plans.plan(planId);
      if (!plan || plan.hidden) {
        const sold = plans.plans.filter((each) => !each.hidden).map((each) => each.id);
        throw new ProblemError('unknown_plan', `There is no plan "${planId}".`, {
          errors: [{ field: 'plan', message: `must be one of: ${sold.join(', ')}` }],
        });
      }
      if (plan.trial?.once && customer_email !== undefined) await trialLooks.spend(request);
      const priceId = plans.priceForPlan(plan.id, mode);
      if (!priceId) {
        throw new ProblemError(
          'plan_not_for_sale',
          `The plan "${plan.id}" has no price in ${mode} mode yet.`,
          {
            remedy: `The seller can set one up with: npm run payment-link -- --plan ${plan.id}`,
          },
        );
      }
      const price = looked.get(priceId) ?? (await lookAtPrice(stripe, priceId));
      if (!looked.has(priceId)) warnOfOtherPrice(billing, plan, priceId, price);
      looked.set(priceId, price);
      const idempotencyKey = readIdempotencyKey(request);
      const purchaseId = idempotencyKey ? purchaseIdFor(idempotencyKey) : newPurchaseId();
      const { sessionId, url } = await openCheckout(stripe, {
        priceId,
        recurring: price.interval !== null,
        planId: plan.id,
        purchaseId,
        successUrl:
          success_url ?? `${config.publicBillingUrl}/billing/success?session_id=${SESSION_ID_PLACEHOLDER}`,
        cancelUrl: cancel_url ?? `${config.publicBillingUrl}/`,
        email: customer_email ?? null,
        trialDays: price.interval === null ? null : await trialDaysFor(billing, plan, customer_email),
        idempotencyKey: idempotencyKey && `tollgate_checkout_${idempotencyKey}`,
      });
      const purchase = await keystore.recordPurchase({
        sessionId,
        purchaseId,
        mode,
        planId: plan.id,
        priceId,
      });
      if (request.is('urlencoded')) response.redirect(303, url);
      else response.json({ url, purchase_id: purchase.id });
    },
  );
  router.all('/billing/create-checkout-session', onlyBy('POST'));
  return router;
}

/**
 * Whoever has the session id can claim the key. So the buyer may be sent only to origins the seller has named: anyone
 * could otherwise lead a buyer through a real checkout to a page of their own.
 */
function bodySchema(origins: readonly string[]) {
  const url = z
    .string()
    .max(2000)
    .refine((text) => URL.canParse(text) && origins.includes(new URL(text).origin), {
      error: `must be an address on ${origins.join(' or ')}; others have to be named in CHECKOUT_REDIRECT_ORIGINS`,
    });
  return z.strictObject({
    plan: z.string({ error: 'is required: the id of a plan' }).min(1).max(64),
    success_url: url
      .refine((text) => text.includes(SESSION_ID_PLACEHOLDER), {
        error: `must contain ${SESSION_ID_PLACEHOLDER}, or the buyer never sees the key`,
      })
      .optional(),
    cancel_url: url.optional(),
    customer_email: z.email({ error: 'is not an e-mail address' }).max(254).optional(),
  });
}

/** An empty field of a form is one that was left out. */
function emptyFieldsDropped(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body ?? {};
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== ''));
}

function readIdempotencyKey(request: Request): string | null {
  const key = request.get('idempotency-key');
  if (key === undefined) return null;
  // Whoever repeats the key is answered with the same checkout, so it must not be guessable.
  if (!/^[\x21-\x7e]{16,200}$/.test(key)) {
    throw new ProblemError('invalid_request', 'The Idempotency-Key is not usable.', {
      errors: [
        {
          field: 'Idempotency-Key',
          message: 'must be 16 to 200 characters without spaces; a random UUID is best',
        },
      ],
    });
  }
  return key;
}

/** The same key gives the same purchase, so that the request to Stripe is the same too. */
function purchaseIdFor(idempotencyKey: string): string {
  return `pur_${base62FromBytes(createHash('sha256').update(`purchase ${idempotencyKey}`).digest(), 20)}`;
}

/** Who is known to have had a trial is not offered another where the plan gives one only. */
async function trialDaysFor(
  { mode, plans, stripe }: Billing,
  { trial }: Plan,
  email: string | undefined,
): Promise<number | null> {
  if (!trial) return null;
  if (!trial.once || email === undefined) return trial.days;
  const had = await hadTrialBefore(
    stripe,
    { stripeCustomerId: null, email, before: Date.now(), subscriptionId: null },
    (priceId) => typeof plans.planForPrice(priceId, mode) !== 'string',
  );
  return had ? null : trial.days;
}

/** A page that names one price while Stripe takes another is worth a line, once. */
function warnOfOtherPrice({ log }: Billing, plan: Plan, priceId: string, price: PriceLook): void {
  if (!plan.price || isDeepStrictEqual(plan.price, price)) return;
  log.error(
    { plan: plan.id, price: priceId, shown: plan.price, charged: price },
    'The pricing page shows another price than Stripe charges: correct the price in the plan file',
  );
}
