import { invalid } from './errors.ts';
import {
  boolean,
  clearable,
  inRange,
  integer,
  list,
  metadata,
  object,
  oneOf,
  only,
  range,
  required,
  string,
  timestamp,
  unsupported,
} from './params.ts';
import { expandShape, listRoute, type Route, route } from './routes.ts';
import { cancelNow, hasEnded } from './subscription-end.ts';
import { pause, pauseShape, resume } from './subscription-pause.ts';
import type { newSubscription, newSubscriptionItem } from './subscription-start.ts';
import { update } from './subscription-update.ts';
import type { World } from './world.ts';

export type Subscription = ReturnType<typeof newSubscription>;
export type SubscriptionItem = ReturnType<typeof newSubscriptionItem>;
const cancellationDetails = object({
  comment: clearable(string()),
  feedback: clearable(
    oneOf(
      'customer_service',
      'low_quality',
      'missing_features',
      'other',
      'switched_service',
      'too_complex',
      'too_expensive',
      'unused',
    ),
  ),
  ...unsupported('feedback_option'),
});

export const updateShape = {
  items: list(
    object({
      id: string(),
      price: string(),
      quantity: integer(0, 999_999),
      deleted: boolean(),
      metadata: metadata(),
      ...unsupported(
        'billing_thresholds',
        'clear_usage',
        'current_trial',
        'discounts',
        'plan',
        'price_data',
        'tax_rates',
      ),
    }),
    20,
  ),
  cancel_at_period_end: boolean(),
  cancel_at: clearable(timestamp()),
  cancellation_details: cancellationDetails,
  metadata: metadata(),
  description: clearable(string(500)),
  default_payment_method: string(),
  proration_behavior: oneOf('create_prorations', 'none', 'always_invoice'),
  billing_cycle_anchor: oneOf('now', 'unchanged'),
  trial_end: string(),
  pause_collection: clearable(
    object({
      behavior: required(oneOf('keep_as_draft', 'mark_uncollectible', 'void')),
      resumes_at: timestamp(),
    }),
  ),
  payment_behavior: oneOf('allow_incomplete', 'error_if_incomplete'),
  off_session: boolean(),
  trial_settings: object({
    end_behavior: required(
      object({
        missing_payment_method: required(oneOf('cancel', 'create_invoice', 'pause')),
        ...unsupported('billing_cycle_anchor'),
      }),
    ),
  }),
  ...unsupported(
    'add_invoice_items',
    'application_fee_percent',
    'automatic_tax',
    'billing_schedules',
    'billing_thresholds',
    'collection_method',
    'days_until_due',
    'default_source',
    'default_tax_rates',
    'discounts',
    'invoice_settings',
    'on_behalf_of',
    'payment_settings',
    'pending_invoice_item_interval',
    'proration_date',
    'transfer_data',
    'trial_from_plan',
  ),
};

export const subscriptionRoutes: Route[] = [
  listRoute(
    '/v1/subscriptions',
    {
      created: range(),
      current_period_end: range(),
      current_period_start: range(),
      customer: string(),
      price: string(),
      status: oneOf(
        'active',
        'all',
        'canceled',
        'ended',
        'incomplete',
        'incomplete_expired',
        'past_due',
        'paused',
        'trialing',
        'unpaid',
      ),
      ...unsupported('automatic_tax', 'collection_method', 'customer_account', 'plan', 'test_clock'),
    },
    (world, params) => {
      if (params.customer !== undefined) world.store.customers.named(params.customer, 'customer');
      if (params.price !== undefined) world.store.prices.named(params.price, 'price');
      return world.store.subscriptions.all().filter((sub) => {
        const item = sub.items.data[0];
        return (
          hasStatus(sub, params.status) &&
          (!params.created || inRange(sub.created, params.created)) &&
          (!params.current_period_end ||
            (item && inRange(item.current_period_end, params.current_period_end))) &&
          (!params.current_period_start ||
            (item && inRange(item.current_period_start, params.current_period_start))) &&
          (params.customer === undefined || sub.customer === params.customer) &&
          (params.price === undefined || sub.items.data.some(({ price }) => price.id === params.price))
        );
      });
    },
  ),
  listRoute(
    '/v1/subscription_items',
    { subscription: required(string()) },
    (world, params) => world.store.subscriptions.named(params.subscription, 'subscription').items.data,
  ),
  route('GET', '/v1/subscriptions/:id', {}, (world, _params, id) => world.store.subscriptions.get(id)),
  route('POST', '/v1/subscriptions/:id', updateShape, (world, params, id) =>
    update(world, world.store.subscriptions.get(id), params),
  ),
  route(
    'DELETE',
    '/v1/subscriptions/:id',
    {
      ...expandShape,
      cancellation_details: cancellationDetails,
      invoice_now: oneOf('false'),
      prorate: oneOf('false'),
    },
    (world, params, id) => {
      const sub = alive(world, id);
      cancelNow(world, sub, { reason: 'cancellation_requested', ...params.cancellation_details });
      return sub;
    },
  ),
  route(
    'POST',
    '/v1/subscriptions/:id/resume',
    {
      billing_cycle_anchor: object({ type: required(only('now')) }),
      payment_behavior: oneOf('resume_on_payment_attempt', 'resume_on_payment_success'),
      proration_behavior: oneOf('always_invoice', 'create_prorations', 'none'),
      ...unsupported('proration_date'),
    },
    (world, params, id) =>
      resume(
        world,
        world.store.subscriptions.get(id),
        params.payment_behavior === 'resume_on_payment_success',
      ),
  ),
  route('POST', '/v1/subscriptions/:id/pause', pauseShape, (world, params, id) =>
    pause(world, world.store.subscriptions.get(id), params),
  ),
];

/** Canceled subscriptions are listed only when asked for. */
function hasStatus(sub: Subscription, wanted: string | undefined): boolean {
  if (wanted === 'all') return true;
  if (wanted === 'ended') return hasEnded(sub);
  return wanted === undefined ? sub.status !== 'canceled' : sub.status === wanted;
}

/** A subscription that can still be cancelled: for Stripe, an ended one is not there. */
function alive(world: World, id: string): Subscription {
  const sub = world.store.subscriptions.get(id);
  if (!hasEnded(sub)) return sub;
  throw invalid(`No such subscription: '${id}'`, 'id', 'resource_missing');
}
