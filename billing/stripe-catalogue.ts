import { createHash, randomUUID } from 'node:crypto';
import type Stripe from 'stripe';
import type { Plan } from '../shared/plans.ts';
import { callStripe, lookUp } from './stripe-client.ts';

/** What was done, or with `dryRun` would be done, about one object at Stripe. */
export type Ensured<T> = { object: T; action: 'found' | 'created' | 'updated' };

const PLAN_METADATA = 'tollgate_plan';

/** How a plan's price is found again: a lookup key is unique within an account and mode. */
export function lookupKey(plan: Plan): string {
  if (!plan.price) throw new Error(`The plan "${plan.id}" has no price in the plan catalogue.`);
  const { unitAmount, currency, interval } = plan.price;
  return `tollgate_${plan.id}_${unitAmount}_${currency}_${interval ?? 'once'}`;
}

/**
 * Finds the price of a plan at Stripe by its lookup key; `null` when there is none yet.
 *
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function findPrice(stripe: Stripe, plan: Plan): Promise<Stripe.Price | null> {
  const { data } = await callStripe(() =>
    stripe.prices.list({ lookup_keys: [lookupKey(plan)], active: true, limit: 1 }),
  );
  return data[0] ?? null;
}

/**
 * Finds or creates the product and price of a plan. Called twice, even at the same moment, it makes them once.
 *
 * @param plan must have a price in the catalogue
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function ensurePrice(stripe: Stripe, plan: Plan): Promise<Ensured<Stripe.Price>> {
  const existing = await findPrice(stripe, plan);
  if (existing) return { object: existing, action: 'found' };
  const { price } = plan;
  if (!price) throw new Error(`The plan "${plan.id}" has no price in the plan catalogue.`);
  const product = await ensureProduct(stripe, plan);
  const params: Stripe.PriceCreateParams = {
    product: product.id,
    currency: price.currency,
    unit_amount: price.unitAmount,
    lookup_key: lookupKey(plan),
    // An archived price keeps its lookup key until another one takes it over.
    transfer_lookup_key: true,
    nickname: plan.name,
    metadata: { [PLAN_METADATA]: plan.id },
    ...(price.interval ? { recurring: { interval: price.interval } } : {}),
  };
  const created = await createOnce(
    'price',
    params,
    (options) => stripe.prices.create(params, options),
    (id) => stripe.prices.retrieve(id),
  );
  return { object: created, action: 'created' };
}

async function ensureProduct(stripe: Stripe, plan: Plan): Promise<Stripe.Product> {
  // Products have no lookup key, and search lags behind; an account of this size is listed in a page or two.
  const found = await callStripe(async () => {
    for await (const product of stripe.products.list({ active: true, limit: 100 })) {
      if (product.metadata[PLAN_METADATA] === plan.id) return product;
    }
    return null;
  });
  if (found) return found;
  const params: Stripe.ProductCreateParams = {
    name: plan.name,
    metadata: { [PLAN_METADATA]: plan.id },
    ...(plan.description ? { description: plan.description } : {}),
  };
  return createOnce(
    'product',
    params,
    (options) => stripe.products.create(params, options),
    (id) => stripe.products.retrieve(id),
  );
}

/**
 * Creates an object once, however many of us ask for it at the same moment. Stripe repeats the first answer for a day,
 * also when the object has been archived or deleted since: then it is made anew, at worst twice.
 */
export async function createOnce<T extends { id: string; active: boolean }>(
  kind: string,
  params: object,
  create: (options: { idempotencyKey: string }) => Promise<T>,
  retrieve: (id: string) => Promise<T>,
): Promise<T> {
  const first = await callStripe(() => create(once(kind, params)));
  const now = await lookUp(() => retrieve(first.id));
  return now?.active ? now : callStripe(() => create({ idempotencyKey: randomUUID() }));
}

function once(kind: string, params: object): { idempotencyKey: string } {
  return {
    idempotencyKey: `tollgate_${kind}_${createHash('sha256').update(JSON.stringify(params)).digest('hex')}`,
  };
}

/**
 * The payment link of a plan that leads to a success page, if there is one already.
 *
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function findPaymentLink(
  stripe: Stripe,
  plan: Plan,
  priceId: string,
): Promise<Stripe.PaymentLink | null> {
  return callStripe(async () => {
    for await (const link of stripe.paymentLinks.list({ active: true, limit: 100 })) {
      if (link.metadata[PLAN_METADATA] === plan.id && link.metadata.tollgate_price === priceId) return link;
    }
    return null;
  });
}

/**
 * Finds or creates the payment link of a plan, and points it at the success page.
 *
 * @param successUrl with `{CHECKOUT_SESSION_ID}` where Stripe puts the session's id
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function ensurePaymentLink(
  stripe: Stripe,
  plan: Plan,
  priceId: string,
  successUrl: string,
): Promise<Ensured<Stripe.PaymentLink>> {
  const redirect = { after_completion: { type: 'redirect' as const, redirect: { url: successUrl } } };
  const existing = await findPaymentLink(stripe, plan, priceId);
  if (existing?.after_completion.redirect?.url === successUrl) return { object: existing, action: 'found' };
  if (existing) {
    return {
      object: await callStripe(() => stripe.paymentLinks.update(existing.id, redirect)),
      action: 'updated',
    };
  }
  const metadata = { [PLAN_METADATA]: plan.id, tollgate_price: priceId };
  const params: Stripe.PaymentLinkCreateParams = {
    line_items: [{ price: priceId, quantity: 1 }],
    ...redirect,
    metadata,
    ...(plan.price?.interval
      ? { subscription_data: { metadata } }
      : { customer_creation: 'always' as const }),
  };
  const created = await createOnce(
    'payment_link',
    params,
    (options) => stripe.paymentLinks.create(params, options),
    (id) => stripe.paymentLinks.retrieve(id),
  );
  return { object: created, action: 'created' };
}
