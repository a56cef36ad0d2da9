import { periodEnd } from './billing-periods.ts';
import type { Customer } from './customers.ts';
import { change, emit } from './events.ts';
import { newId } from './ids.ts';
import { oneTimeLine, periodLines } from './invoice-lines.ts';
import { draftInvoice, type Invoice } from './invoices.ts';
import { listOf } from './pagination.ts';
import type { PaymentMethod } from './payment-methods.ts';
import { type Price, planOf, type Recurring } from './prices.ts';
import { scheduleFirstPayment, schedulePeriod } from './renewals.ts';
import type { Subscription, SubscriptionItem } from './subscriptions.ts';
import type { MissingMethod } from './trial-settings.ts';
import type { World } from './world.ts';

export interface SubscriptionWanted {
  customer: Customer;
  items: { price: Price; quantity: number; metadata?: Record<string, string> }[];
  method: PaymentMethod | null;
  metadata: Record<string, string>;
  description: string | null;
  trialEnd: number | null;
  missingMethod: MissingMethod;
}

/**
 * Starts a subscription with its first invoice, still a draft. Without a trial it is incomplete until that is paid.
 * Events: customer.updated (currency), customer.subscription.created, invoice.created.
 */
export function startSubscription(
  world: World,
  wanted: SubscriptionWanted,
): { subscription: Subscription; invoice: Invoice } {
  const now = world.clock.now();
  const recurring = wanted.items.filter(({ price }) => price.recurring !== null);
  const first = recurring[0]?.price as Price;
  const end = wanted.trialEnd ?? periodEnd(now, first.recurring as Recurring, now);
  const subscription = newSubscription(world, wanted, first.currency);
  subscription.items.data = recurring.map(({ price, quantity, metadata = {} }) => ({
    ...newSubscriptionItem(world, subscription.id, price, quantity, now, end),
    metadata,
  }));
  if (wanted.customer.currency === null)
    change(world, 'customer.updated', wanted.customer, { currency: first.currency });
  world.store.subscriptions.add(subscription);
  const oneTime = wanted.items.filter(({ price }) => price.recurring === null);
  const invoice = draftInvoice(
    world,
    {
      customer: wanted.customer,
      sub: subscription,
      currency: subscription.currency,
      reason: 'subscription_create',
    },
    (id) => [
      ...periodLines(world, subscription, id),
      ...oneTime.map(({ price, quantity }) => oneTimeLine(world, subscription, id, price, quantity)),
    ],
  );
  subscription.latest_invoice = invoice.id;
  emit(world, 'customer.subscription.created', subscription);
  schedulePeriod(world, subscription);
  if (subscription.status === 'incomplete') scheduleFirstPayment(world, subscription);
  return { subscription, invoice };
}

export function newSubscription(world: World, wanted: SubscriptionWanted, currency: string) {
  const now = world.clock.now();
  const id = newId('sub');
  return {
    id,
    object: 'subscription' as const,
    application: null,
    application_fee_percent: null,
    automatic_tax: { disabled_reason: null, enabled: false, liability: null },
    billing_cycle_anchor: wanted.trialEnd ?? now,
    billing_cycle_anchor_config: null,
    billing_mode: { flexible: null, type: 'classic' as const },
    billing_schedules: [],
    billing_thresholds: null,
    cancel_at: null as number | null,
    cancel_at_period_end: false,
    canceled_at: null as number | null,
    cancellation_details: {
      comment: null as string | null,
      feedback: null as string | null,
      feedback_option: null,
      reason: null as 'cancellation_requested' | 'payment_failed' | 'payment_disputed' | null,
    },
    collection_method: 'charge_automatically' as const,
    created: now,
    currency,
    customer: wanted.customer.id,
    customer_account: null,
    days_until_due: null,
    default_payment_method: wanted.method?.id ?? (null as string | null),
    default_source: null,
    default_tax_rates: [],
    description: wanted.description,
    discounts: [],
    ended_at: null as number | null,
    invoice_settings: {
      account_tax_ids: null,
      custom_fields: null,
      description: null,
      footer: null,
      issuer: { type: 'self' as const },
    },
    items: listOf<SubscriptionItem>([], `/v1/subscription_items?subscription=${id}`),
    latest_invoice: null as string | null,
    livemode: false,
    managed_payments: null,
    metadata: wanted.metadata,
    next_pending_invoice_item_invoice: null,
    on_behalf_of: null,
    pause_collection: null as {
      behavior: 'keep_as_draft' | 'mark_uncollectible' | 'void';
      resumes_at: number | null;
    } | null,
    payment_settings: {
      payment_method_options: null,
      payment_method_types: null,
      save_default_payment_method: 'off' as const,
    },
    pending_invoice_item_interval: null,
    pending_setup_intent: null,
    pending_update: null,
    schedule: null,
    start_date: now,
    status: (wanted.trialEnd === null ? 'incomplete' : 'trialing') as
      | 'incomplete'
      | 'incomplete_expired'
      | 'trialing'
      | 'active'
      | 'past_due'
      | 'canceled'
      | 'unpaid'
      | 'paused',
    status_details: undefined as
      | {
          paused: {
            subscription: { type: 'pause_requested' | 'trial_end_without_payment_method' };
            transitioned_at: number;
            type: 'subscription';
          };
        }
      | undefined,
    test_clock: null,
    transfer_data: null,
    trial_end: wanted.trialEnd,
    trial_settings: {
      end_behavior: { billing_cycle_anchor: null, missing_payment_method: wanted.missingMethod },
    },
    trial_start: wanted.trialEnd === null ? null : now,
  };
}

export function newSubscriptionItem(
  world: World,
  sub: string,
  price: Price,
  quantity: number,
  start: number,
  end: number,
) {
  return {
    id: newId('si'),
    object: 'subscription_item' as const,
    billing_thresholds: null,
    created: world.clock.now(),
    current_period_end: end,
    current_period_start: start,
    current_trial: null,
    discounts: [],
    metadata: {} as Record<string, string>,
    plan: planOf(price),
    price,
    quantity,
    subscription: sub,
    tax_rates: [],
  };
}
