import { isDeepStrictEqual } from 'node:util';
import type { Request } from 'express';
import { LRUCache } from 'lru-cache';
import type { Purchase } from '../keystore/keystore.ts';
import { AddressLimit } from '../shared/address-limit.ts';
import type { Plan } from '../shared/plans.ts';
import { ProblemError } from '../shared/problems.ts';
import type { Billing } from './context.ts';
import { lookAtPrice, openCheckout, type PriceLook } from './stripe-checkout.ts';
import { hadTrialBefore } from './stripe-customers.ts';

/** Checkouts with a trial that a person has once: each asks Stripe for what an e-mail address had, and tells by the trial. */
const TRIAL_LOOKS_A_MINUTE = 10;

/** Checkouts one address may open a minute: each is a call to Stripe. */
const CHECKOUTS_A_MINUTE = 300;

/** What Stripe replaces by the session's id when it sends the buyer back. */
export const SESSION_ID_PLACEHOLDER = '{CHECKOUT_SESSION_ID}';

/** A checkout to open. */
export type WantedCheckout = {
  purchaseId: string;
  /** Of the program that begins the purchase, where one does. */
  claimToken?: string;
  planId: string;
  email: string | undefined;
  /** Where the buyer is sent after paying; the success page when omitted. */
  successUrl?: string | undefined;
  /** Where the buyer is sent who does not pay; the pricing page when omitted. */
  cancelUrl?: string | undefined;
};

/** Where every checkout of ours is opened, whoever asks for it. */
export class CheckoutDesk {
  readonly billing: Billing;
  readonly #looked = new LRUCache<string, PriceLook>({ max: 1000 });
  readonly #limit = new AddressLimit(CHECKOUTS_A_MINUTE, 60);
  readonly #trialLooks = new AddressLimit(TRIAL_LOOKS_A_MINUTE, 60);

  constructor(billing: Billing) {
    this.billing = billing;
  }

  /**
   * Opens a checkout at Stripe and notes its purchase. A purchase id opens one checkout, however often this is repeated.
   *
   * @returns the address of the checkout page, and the purchase
   * @throws ProblemError `unknown_plan`, `plan_not_for_sale`, `sales_stopped`, `too_many_requests`, `idempotency_conflict`, and when Stripe
   *   cannot be asked
   */
  async open(request: Request, wanted: WantedCheckout): Promise<{ url: string; purchase: Purchase }> {
    const { config, keystore, mode, stripe } = this.billing;
    const { purchaseId, claimToken, email } = wanted;
    await this.#limit.spend(request);
    await this.billing.stopConditions?.refuseCheckout();
    const plan = this.#planOnSale(wanted.planId);
    if (plan.trial?.once && email !== undefined) await this.#trialLooks.spend(request);
    const priceId = this.#priceOf(plan);
    const price = await this.#look(plan, priceId);
    const { sessionId, url } = await openCheckout(stripe, {
      priceId,
      recurring: price.interval !== null,
      planId: plan.id,
      purchaseId,
      successUrl:
        wanted.successUrl ??
        `${config.publicBillingUrl}/billing/success?session_id=${SESSION_ID_PLACEHOLDER}`,
      cancelUrl: wanted.cancelUrl ?? `${config.publicBillingUrl}/`,
      email: email ?? null,
      trialDays: price.interval === null ? null : await this.#trialDaysFor(plan, email),
    });
    const purchase = await keystore.recordPurchase({
      sessionId,
      purchaseId,
      mode,
      planId: plan.id,
      priceId,
      ...(claimToken === undefined ? {} : { claimToken }),
    });
    this.billing.metrics?.checkoutOpened(plan.id);
    return { url, purchase };
  }

  #planOnSale(planId: string): Plan {
    const { plans } = this.billing;
    const plan = plans.plan(planId);
    if (plan && !plan.hidden) return plan;
    const sold = plans.plans.filter((each) => !each.hidden).map((each) => each.id);
    throw new ProblemError('unknown_plan', `There is no plan "${planId}".`, {
      errors: [{ field: 'plan', message: `must be one of: ${sold.join(', ')}` }],
    });
  }

  #priceOf(plan: Plan): string {
    const { mode, plans } = this.billing;
    const priceId = plans.priceForPlan(plan.id, mode);
    if (priceId) return priceId;
    throw new ProblemError('plan_not_for_sale', `The plan "${plan.id}" has no price in ${mode} mode yet.`, {
      remedy: `The seller can set one up with: npm run payment-link -- --plan ${plan.id}`,
    });
  }

  async #look(plan: Plan, priceId: string): Promise<PriceLook> {
    const known = this.#looked.get(priceId);
    if (known) return known;
    const price = await lookAtPrice(this.billing.stripe, priceId);
    warnOfOtherPrice(this.billing, plan, priceId, price);
    this.#looked.set(priceId, price);
    return price;
  }

  /** Who is known to have had a trial is not offered another where the plan gives one only. */
  async #trialDaysFor({ trial }: Plan, email: string | undefined): Promise<number | null> {
    const { mode, plans, stripe } = this.billing;
    if (!trial) return null;
    if (!trial.once || email === undefined) return trial.days;
    const had = await hadTrialBefore(
      stripe,
      { stripeCustomerId: null, email, before: Date.now(), subscriptionId: null },
      (priceId) => typeof plans.planForPrice(priceId, mode) !== 'string',
    );
    return had ? null : trial.days;
  }
}

/** A page that names one price while Stripe takes another is worth a line, once. */
function warnOfOtherPrice({ log }: Billing, plan: Plan, priceId: string, price: PriceLook): void {
  if (!plan.price || isDeepStrictEqual(plan.price, price)) return;
  log.error(
    { plan: plan.id, price: priceId, shown: plan.price, charged: price },
    'The pricing page shows another price than Stripe charges: correct the price in the plan file',
  );
}

/**
 * What a request's `Idempotency-Key` names; `null` without one.
 *
 * @param what it is sent for: the same key names another thing elsewhere
 * @throws ProblemError `invalid_request` when others could guess it
 */
export function idempotencyKeyOf(request: Request, what: 'checkout' | 'purchase'): string | null {
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
  return `${what} ${key}`;
}
