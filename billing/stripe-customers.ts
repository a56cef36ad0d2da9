import type Stripe from 'stripe';
import type { CustomerSnapshot } from '../keystore/keystore.ts';
import { callStripe, lookUp, pages } from './stripe-client.ts';

/** A customer as it is at Stripe now. */
export type CustomerLook = CustomerSnapshot & { deleted: boolean };

/**
 * Looks at a customer.
 *
 * @param what `entitlements`: also at the features the customer is entitled to
 * @returns `null` when Stripe has no such customer
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtCustomer(
  stripe: Stripe,
  customerId: string,
  what: 'customer' | 'entitlements' = 'customer',
): Promise<CustomerLook | null> {
  const fetchedAt = Date.now();
  const customer = await lookUp(() => stripe.customers.retrieve(customerId));
  if (!customer) return null;
  const deleted = customer.deleted === true;
  return {
    stripeCustomerId: customer.id,
    email: deleted ? null : (customer as Stripe.Customer).email,
    deleted,
    entitlements: what === 'customer' ? null : deleted ? [] : await entitlementsOf(stripe, customerId),
    fetchedAt,
  };
}

async function entitlementsOf(stripe: Stripe, customer: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const page of pages((after) =>
    stripe.entitlements.activeEntitlements.list({ customer, limit: 100, ...after }),
  ))
    keys.push(...page.map((entitlement) => entitlement.lookup_key));
  return keys;
}

/** How many customers of one address are looked through. Checkouts make a new one each time, the newest first. */
const MAX_CUSTOMERS = 20;

/**
 * Whether a person had a trial of one of our plans before: under the same Stripe customer, or another one with the same
 * e-mail address.
 *
 * @param person.before only subscriptions made before this moment count, milliseconds; and of those made at it, the ones
 *   whose id comes before `person.subscriptionId`
 * @param isOurs whether a price stands for one of our plans
 */
export async function hadTrialBefore(
  stripe: Stripe,
  person: {
    stripeCustomerId: string | null;
    email: string | null;
    before: number;
    subscriptionId: string | null;
  },
  isOurs: (priceId: string) => boolean,
): Promise<boolean> {
  const customers = new Set(person.stripeCustomerId ? [person.stripeCustomerId] : []);
  for (const email of new Set(person.email ? [person.email, person.email.toLowerCase()] : [])) {
    const { data } = await callStripe(() => stripe.customers.list({ email, limit: MAX_CUSTOMERS }));
    for (const customer of data) customers.add(customer.id);
  }
  for (const customer of customers) {
    const { data } = await callStripe(() =>
      stripe.subscriptions.list({ customer, status: 'all', limit: 100 }),
    );
    const earlier = data.some(
      ({ id, created, trial_start, items }) =>
        trial_start !== null &&
        id !== person.subscriptionId &&
        (created * 1000 < person.before ||
          (created * 1000 === person.before && id < (person.subscriptionId ?? ''))) &&
        items.data.some((item) => isOurs(item.price.id)),
    );
    if (earlier) return true;
  }
  return false;
}
