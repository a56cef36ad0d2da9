import { createHash } from 'node:crypto';
import type Stripe from 'stripe';
import type { Mode } from '../shared/keys.ts';
import type { PlanCatalogue } from '../shared/plans.ts';
import { ProblemError } from '../shared/problems.ts';
import { createOnce } from './stripe-catalogue.ts';
import { callStripe, lookUp, pages } from './stripe-client.ts';
import { idOf } from './stripe-look.ts';

/** Says that a portal configuration is ours, and by its value what it was made of. */
const METADATA = 'tollgate_portal';
/** As many products as Stripe takes. */
const MAX_PRODUCTS = 10;

type Features = Stripe.BillingPortal.ConfigurationCreateParams.Features;
type PlanProduct = { product: string; prices: string[] };

/** What the portal is set up from. */
export type PortalSettings = {
  plans: PlanCatalogue;
  mode: Mode;
  productName: string;
  /** Where its link back leads when nothing else was said. */
  manageUrl: string;
};

/**
 * Stripe's customer portal, set up from the plan catalogue. Its configuration is looked for once a process and then
 * remembered; one that has fallen behind the catalogue is brought up to date.
 */
export class StripePortal {
  readonly #stripe: Stripe;
  readonly #settings: PortalSettings;
  #configuration: Promise<string> | undefined;

  constructor(stripe: Stripe, settings: PortalSettings) {
    this.#stripe = stripe;
    this.#settings = settings;
  }

  /**
   * Opens the portal for a customer.
   *
   * @returns its address, good for minutes and for this customer only; `null` when Stripe has no such customer
   * @throws ProblemError `stripe_unavailable`, `stripe_refused`
   */
  async open(customer: string, returnUrl: string): Promise<string | null> {
    // Deactivated or deleted since it was found: found or made anew, once.
    const opened = (await this.#open(customer, returnUrl)) ?? (await this.#open(customer, returnUrl));
    return opened?.url ?? null;
  }

  async #open(customer: string, returnUrl: string): Promise<Stripe.BillingPortal.Session | null> {
    const configuration = await this.#remembered();
    try {
      const session = await lookUp(() =>
        this.#stripe.billingPortal.sessions.create({ customer, configuration, return_url: returnUrl }),
      );
      if (!session) this.#configuration = undefined;
      return session;
    } catch (error) {
      if (isRefusal(error)) this.#configuration = undefined;
      throw error;
    }
  }

  async #remembered(): Promise<string> {
    this.#configuration ??= ensureConfiguration(this.#stripe, this.#settings);
    try {
      return await this.#configuration;
    } catch (error) {
      this.#configuration = undefined;
      throw error;
    }
  }
}

/** What buyers can do for themselves in the portal. */
export type PortalLook = { cancel: boolean; invoices: boolean; paymentMethods: boolean };

/**
 * What our configuration of the portal allows; `null`: it is made when the first buyer goes there.
 *
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtPortal(stripe: Stripe): Promise<PortalLook | null> {
  const found = await findConfiguration(stripe);
  return (
    found && {
      cancel: found.features.subscription_cancel.enabled,
      invoices: found.features.invoice_history.enabled,
      paymentMethods: found.features.payment_method_update.enabled,
    }
  );
}

/** Writes our configuration of the portal as it should be, whatever was changed in it; makes it when there is none. */
export async function repairPortal(stripe: Stripe, settings: PortalSettings): Promise<void> {
  const found = await findConfiguration(stripe);
  // What it was made of is forgotten, so that it is written again.
  if (found) {
    await callStripe(() =>
      stripe.billingPortal.configurations.update(found.id, { metadata: { [METADATA]: 'repair' } }),
    );
  }
  await ensureConfiguration(stripe, settings);
}

/**
 * The one configuration that is ours, found or made. Where Stripe takes no change of plan as the catalogue has it, the
 * portal does without.
 *
 * @returns its id
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
async function ensureConfiguration(stripe: Stripe, settings: PortalSettings): Promise<string> {
  try {
    const products = await planProducts(stripe, settings);
    return await ensureWith(stripe, settings, products);
  } catch (error) {
    if (isRefusal(error)) return ensureWith(stripe, settings, []);
    throw error;
  }
}

async function ensureWith(
  stripe: Stripe,
  settings: PortalSettings,
  products: PlanProduct[],
): Promise<string> {
  const wanted = {
    business_profile: { headline: settings.productName },
    default_return_url: settings.manageUrl,
    features: featuresOf(products),
  };
  const madeOf = createHash('sha256').update(JSON.stringify(wanted)).digest('hex').slice(0, 32);
  const params = { ...wanted, metadata: { [METADATA]: madeOf } };
  const existing = await findConfiguration(stripe);
  if (existing?.metadata?.[METADATA] === madeOf) return existing.id;
  if (existing) {
    await callStripe(() => stripe.billingPortal.configurations.update(existing.id, params));
    return existing.id;
  }
  const created = await createOnce(
    'portal_configuration',
    params,
    (options) => stripe.billingPortal.configurations.create(params, options),
    (id) => stripe.billingPortal.configurations.retrieve(id),
  );
  return created.id;
}

async function findConfiguration(stripe: Stripe): Promise<Stripe.BillingPortal.Configuration | null> {
  let oldest: Stripe.BillingPortal.Configuration | null = null;
  const list = pages((after) =>
    stripe.billingPortal.configurations.list({ active: true, limit: 100, ...after }),
  );
  for await (const page of list) oldest = page.findLast(({ metadata }) => metadata?.[METADATA]) ?? oldest;
  return oldest;
}

function featuresOf(products: PlanProduct[]): Features {
  const prices = products.flatMap((each) => each.prices);
  return {
    payment_method_update: { enabled: true },
    invoice_history: { enabled: true },
    // Not the e-mail address: recovery trusts it, and whoever found a key could take the account over for good.
    customer_update: { enabled: true, allowed_updates: ['name', 'address', 'tax_id'] },
    subscription_cancel: { enabled: true, mode: 'at_period_end', proration_behavior: 'none' },
    // With one price there is nothing to change to. Left out, what an earlier catalogue allowed would stay.
    ...(prices.length > 1
      ? {
          subscription_update: {
            enabled: true,
            default_allowed_updates: ['price' as const],
            // A better plan is paid for when it begins, not with the next renewal.
            proration_behavior: 'always_invoice' as const,
            products,
          },
        }
      : { subscription_update: { enabled: false } }),
  };
}

/**
 * The products and prices that a subscription can be moved to: of each plan on sale its price, where it is one that Stripe
 * takes here: recurring by a fixed amount, active, and the only one of its product with that interval and currency.
 */
async function planProducts(stripe: Stripe, { plans, mode }: PortalSettings): Promise<PlanProduct[]> {
  const ids = plans.plans
    .filter((plan) => !plan.hidden)
    .flatMap((plan) => plans.priceForPlan(plan.id, mode) ?? []);
  const prices = await Promise.all(ids.map((id) => lookUp(() => stripe.prices.retrieve(id))));
  const products = new Map<string, { prices: string[]; taken: Set<string> }>();
  for (const price of prices) {
    if (!price?.active || price.recurring?.usage_type !== 'licensed' || price.unit_amount === null) continue;
    const product = idOf(price.product) as string;
    const entry = products.get(product) ?? { prices: [], taken: new Set() };
    const interval = `${price.recurring.interval_count} ${price.recurring.interval} ${price.currency}`;
    if (entry.taken.has(interval)) continue;
    entry.taken.add(interval);
    entry.prices.push(price.id);
    products.set(product, entry);
  }
  return [...products].slice(0, MAX_PRODUCTS).map(([product, { prices }]) => ({ product, prices }));
}

function isRefusal(error: unknown): boolean {
  return error instanceof ProblemError && error.code === 'stripe_refused';
}
