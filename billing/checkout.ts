import express, { type Router } from 'express';
import { z } from 'zod';
import { fieldErrors } from '../shared/field-errors.ts';
import { onlyBy, parsedBody } from '../shared/methods.ts';
import { type CheckoutDesk, idempotencyKeyOf, SESSION_ID_PLACEHOLDER } from './checkout-desk.ts';

/**
 * `POST /billing/create-checkout-session {plan, success_url?, cancel_url?, customer_email?}`: JSON answers
 * `{url, purchase_id}`, a form is sent on to the checkout page. With an `Idempotency-Key`, a repeated request opens no
 * second checkout.
 */
export function checkoutRoutes(desk: CheckoutDesk): Router {
  const { config, keystore } = desk.billing;
  const router = express.Router();
  const body = bodySchema([new URL(config.publicBillingUrl).origin, ...config.redirectOrigins]);

  router.post(
    '/billing/create-checkout-session',
    express.json({ limit: '16kb' }),
    express.urlencoded({ extended: false, limit: '16kb' }),
    parsedBody,
    async (request, response) => {
      const input = body.safeParse(emptyFieldsDropped(request.body));
      if (!input.success) throw fieldErrors(input.error);
      const { purchaseId } = keystore.namePurchase(idempotencyKeyOf(request, 'checkout'));
      const { url, purchase } = await desk.open(request, {
        purchaseId,
        planId: input.data.plan,
        email: input.data.customer_email,
        successUrl: input.data.success_url,
        cancelUrl: input.data.cancel_url,
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
