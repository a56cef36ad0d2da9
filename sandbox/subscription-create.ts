import { declined, invalid, StripeError } from './errors.ts';
import { createInvoicePayment, finalizeInvoice, payInvoice } from './invoices.ts';
import {
  boolean,
  integer,
  list,
  mergeMetadata,
  metadata,
  missing,
  object,
  oneOf,
  only,
  type Parsed,
  string,
  unsupported,
} from './params.ts';
import { behaviourOf, type PaymentMethod } from './payment-methods.ts';
import { createIntent } from './payments.ts';
import { type Route, route } from './routes.ts';
import { startSubscription } from './subscription-start.ts';
import { type Subscription, updateShape } from './subscriptions.ts';
import { readTrialEnd } from './trial-end.ts';
import { day, type World } from './world.ts';

const createShape = {
  customer: string(),
  items: list(
    object({
      price: string(),
      quantity: integer(1, 999_999),
      metadata: metadata(),
      ...unsupported('billing_thresholds', 'current_trial', 'discounts', 'plan', 'price_data', 'tax_rates'),
    }),
    20,
  ),
  metadata: metadata(),
  description: string(500),
  default_payment_method: string(),
  payment_behavior: oneOf('allow_incomplete', 'default_incomplete', 'error_if_incomplete'),
  off_session: boolean(),
  trial_end: string(),
  trial_period_days: integer(1, 730),
  trial_settings: updateShape.trial_settings,
  collection_method: only('charge_automatically'),
  proration_behavior: oneOf('always_invoice', 'create_prorations', 'none'),
  ...unsupported(
    'add_invoice_items',
    'application_fee_percent',
    'automatic_tax',
    'backdate_start_date',
    'billing_cycle_anchor',
    'billing_cycle_anchor_config',
    'billing_mode',
    'billing_schedules',
    'billing_thresholds',
    'cancel_at',
    'cancel_at_period_end',
    'currency',
    'customer_account',
    'days_until_due',
    'default_source',
    'default_tax_rates',
    'discounts',
    'invoice_settings',
    'on_behalf_of',
    'payment_settings',
    'pending_invoice_item_interval',
    'transfer_data',
    'trial_from_plan',
  ),
};

/**
 * Starts a subscription and collects its first invoice as `payment_behavior` says.
 *
 * @throws StripeError 400 for a customer who cannot be charged, 402 when the bank says no and that is to be an error.
 */
function create(world: World, params: Parsed<typeof createShape>): Subscription {
  if (params.customer === undefined) throw missing('customer');
  const customer = world.store.customers.named(params.customer, 'customer');
  const items = itemsOf(world, params);
  const trialEnd = trialEndOf(world, params);
  const own =
    params.default_payment_method === undefined
      ? null
      : world.store.paymentMethods.named(params.default_payment_method, 'default_payment_method');
  const method =
    own ?? world.store.paymentMethods.find(customer.invoice_settings.default_payment_method) ?? null;
  const behaviour = params.payment_behavior ?? 'allow_incomplete';
  const due = trialEnd === null && items.some(({ price }) => price.unit_amount > 0);
  if (due && behaviour !== 'default_incomplete') requireChargeable(world, customer.id, method, behaviour);

  const { subscription, invoice } = startSubscription(world, {
    customer,
    items,
    method: own,
    metadata: mergeMetadata({}, params.metadata),
    description: params.description ?? null,
    trialEnd,
    missingMethod: params.trial_settings?.end_behavior.missing_payment_method ?? 'create_invoice',
  });
  finalizeInvoice(world, invoice);
  if (invoice.status === 'open' && behaviour === 'default_incomplete') {
    const intent = createIntent(world, {
      amount: invoice.amount_due,
      currency: invoice.currency,
      customer: customer.id,
      description: 'Subscription creation',
      email: customer.email,
    });
    createInvoicePayment(world, invoice, intent.id);
  } else if (invoice.status === 'open') {
    payInvoice(world, invoice, method, false);
  }
  return subscription;
}

function itemsOf(world: World, params: Parsed<typeof createShape>) {
  if (!params.items?.length) throw missing('items');
  const items = params.items.map(({ price: id, quantity = 1, metadata }, index) => {
    const path = `items[${index}][price]`;
    if (id === undefined) throw missing(path);
    const price = world.store.prices.named(id, path);
    if (!price.recurring || !price.active) {
      throw invalid(
        `The price specified is ${price.active ? 'not recurring' : 'inactive'}. This field only accepts active, recurring prices.`,
        path,
      );
    }
    return { price, quantity, metadata: mergeMetadata({}, metadata) };
  });
  const kinds = new Set(items.map(({ price }) => JSON.stringify([price.currency, price.recurring])));
  if (kinds.size > 1)
    throw invalid('All prices on a subscription must have the same currency and billing interval.', 'items');
  return items;
}

function trialEndOf(world: World, params: Parsed<typeof createShape>): number | null {
  if (params.trial_end !== undefined && params.trial_period_days !== undefined) {
    throw invalid('You may only specify one of these parameters: trial_end, trial_period_days.', 'trial_end');
  }
  const end = readTrialEnd(world, params.trial_end);
  if (end === 'now') return null;
  const days = params.trial_period_days;
  return end ?? (days === undefined ? null : world.clock.now() + days * day);
}

/** Looked at before anything begins: an error leaves no subscription behind. */
function requireChargeable(
  world: World,
  customer: string,
  method: PaymentMethod | null,
  behaviour: 'allow_incomplete' | 'error_if_incomplete',
): void {
  if (!method) {
    throw new StripeError(400, {
      type: 'invalid_request_error',
      code: 'resource_missing',
      message:
        'This customer has no attached payment source or default payment method. Please consider adding a default payment method. For more information, visit https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.',
    });
  }
  if (behaviour === 'allow_incomplete') return;
  const ordered = world.failNext.find((rule) => rule.customer === null || rule.customer === customer);
  const reason = ordered?.decline_code ?? behaviourOf(method).declinesLater;
  if (reason) throw declined(reason);
}

export const subscriptionCreateRoutes: Route[] = [route('POST', '/v1/subscriptions', createShape, create)];
