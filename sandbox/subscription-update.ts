import { invalid } from './errors.ts';
import { emit, emitChanged } from './events.ts';
import { prorationLine } from './invoice-lines.ts';
import { draftInvoice } from './invoices.ts';
import { mergeMetadata, missing, type Parsed } from './params.ts';
import { type Price, planOf } from './prices.ts';
import {
  addPendingLines,
  collect,
  scheduleCancelAt,
  schedulePeriod,
  startPeriod,
  takePendingLines,
} from './renewals.ts';
import { hasEnded } from './subscription-end.ts';
import { newSubscriptionItem } from './subscription-start.ts';
import type { Subscription, SubscriptionItem, updateShape } from './subscriptions.ts';
import { endTrialWithoutMethod, readTrialEnd } from './trial-end.ts';
import type { World } from './world.ts';

export type SubscriptionUpdate = Parsed<typeof updateShape>;

/**
 * Changes a subscription. Event: customer.subscription.updated with what it was before.
 *
 * @throws StripeError 400 for an ended subscription (only its metadata can change) and for ids that name nothing.
 */
export function update(world: World, sub: Subscription, params: SubscriptionUpdate): Subscription {
  const touches = Object.keys(params).filter(
    (name) => !['metadata', 'expand', 'cancellation_details'].includes(name),
  );
  if (hasEnded(sub) && touches.length > 0) {
    throw invalid('A canceled subscription can only update its cancellation_details and metadata.');
  }
  const before = structuredClone(sub);
  // Everything that can be refused is looked at before anything changes.
  const method =
    params.default_payment_method &&
    world.store.paymentMethods.named(params.default_payment_method, 'default_payment_method');
  const changes = params.items && planItems(world, sub, params.items);
  const trialEnd = readTrialEnd(world, params.trial_end);

  if (method) sub.default_payment_method = method.id;
  if (params.description !== undefined) sub.description = params.description;
  if (params.pause_collection !== undefined) {
    sub.pause_collection = params.pause_collection && {
      behavior: params.pause_collection.behavior,
      resumes_at: params.pause_collection.resumes_at ?? null,
    };
    scheduleCollectionResume(world, sub);
  }
  if (params.trial_settings) {
    sub.trial_settings.end_behavior.missing_payment_method =
      params.trial_settings.end_behavior.missing_payment_method;
  }
  sub.metadata = mergeMetadata(sub.metadata, params.metadata);
  applyCancellation(world, sub, params);
  const needsInvoice = changes ? applyItems(world, sub, changes, params) : false;
  if (trialEnd !== undefined) applyTrialEnd(world, sub, trialEnd);

  if (trialEnd === 'now' && before.status === 'trialing' && endTrialWithoutMethod(world, sub, before))
    return sub;
  const renewed = needsInvoice === 'period' || params.billing_cycle_anchor === 'now' || trialEnd === 'now';
  if (renewed && !hasEnded(sub)) {
    sub.billing_cycle_anchor = world.clock.now();
    const invoice = startPeriod(world, sub, 'subscription_update');
    collect(world, sub, invoice);
    return sub;
  }
  if (needsInvoice === 'prorations') invoiceProrations(world, sub);
  emitChanged(world, 'customer.subscription.updated', sub, before);
  return sub;
}

function applyCancellation(world: World, sub: Subscription, params: SubscriptionUpdate): void {
  if (params.cancel_at_period_end !== undefined && params.cancel_at !== undefined) {
    throw invalid(
      'You may only specify one of these parameters: cancel_at, cancel_at_period_end.',
      'cancel_at',
    );
  }
  const now = world.clock.now();
  const details = sub.cancellation_details;
  if (params.cancellation_details) {
    details.comment = params.cancellation_details.comment ?? details.comment;
    details.feedback = params.cancellation_details.feedback ?? details.feedback;
  }
  if (params.cancel_at_period_end === undefined && params.cancel_at === undefined) return;
  const end = sub.items.data[0]?.current_period_end ?? null;
  sub.cancel_at_period_end = params.cancel_at_period_end ?? false;
  sub.cancel_at = sub.cancel_at_period_end ? end : (params.cancel_at ?? null);
  const wanted = sub.cancel_at !== null;
  sub.canceled_at = wanted ? now : null;
  sub.cancellation_details = { ...details, reason: wanted ? 'cancellation_requested' : null };
  if (!sub.cancel_at_period_end) scheduleCancelAt(world, sub);
}

function scheduleCollectionResume(world: World, sub: Subscription): void {
  const due = sub.pause_collection?.resumes_at;
  if (!due) return;
  world.clock.at(due, () => {
    if (sub.pause_collection?.resumes_at !== due || hasEnded(sub)) return;
    const previous = { pause_collection: sub.pause_collection };
    sub.pause_collection = null;
    emit(world, 'customer.subscription.updated', sub, previous);
  });
}

interface ItemChange {
  item: SubscriptionItem | null;
  price: Price;
  quantity: number;
  deleted: boolean;
  metadata: Record<string, string> | null | undefined;
}

function planItems(
  world: World,
  sub: Subscription,
  wanted: NonNullable<SubscriptionUpdate['items']>,
): ItemChange[] {
  return wanted.map((change, index) => {
    const path = `items[${index}]`;
    const item = change.id === undefined ? null : sub.items.data.find(({ id }) => id === change.id);
    if (item === undefined)
      throw invalid(`No such subscription_item: '${change.id}'`, `${path}[id]`, 'resource_missing');
    if (!item && change.price === undefined) throw missing(`${path}[price]`);
    const price =
      change.price === undefined
        ? (item as SubscriptionItem).price
        : world.store.prices.named(change.price, `${path}[price]`);
    if (!price.recurring)
      throw invalid(
        `The price specified is set to \`type=one_time\` but this field only accepts prices with \`type=recurring\`.`,
        `${path}[price]`,
      );
    if (change.price !== undefined && !price.active) {
      throw invalid(
        'The price specified is inactive. This field only accepts active prices.',
        `${path}[price]`,
      );
    }
    if (price.currency !== sub.currency) {
      throw invalid(
        `The price specified only supports \`${price.currency}\`. This doesn't match the expected currency: \`${sub.currency}\`.`,
        `${path}[price]`,
      );
    }
    if (!item && sub.items.data.some((other) => other.price.id === price.id)) {
      throw invalid(`Cannot add multiple subscription items with the same plan: ${price.id}`, path);
    }
    return {
      item,
      price,
      quantity: change.quantity ?? item?.quantity ?? 1,
      deleted: change.deleted ?? false,
      metadata: change.metadata,
    };
  });
}

/** @returns whether prorations are to be invoiced now, or a new period begins because the interval changed. */
function applyItems(
  world: World,
  sub: Subscription,
  changes: ItemChange[],
  params: SubscriptionUpdate,
): false | 'prorations' | 'period' {
  const first = sub.items.data[0] as SubscriptionItem;
  const oldInterval = JSON.stringify(first.price.recurring);
  const billed = sub.status === 'active' || sub.status === 'past_due';
  const prorate = params.proration_behavior !== 'none' && billed;
  const wasFree = sub.items.data.every(({ price }) => price.unit_amount === 0);
  const lines = [];
  for (const { item, price, quantity, deleted, metadata } of changes) {
    const moved = item && (item.price !== price || item.quantity !== quantity || deleted);
    if (item && moved && prorate)
      lines.push(prorationLine(world, sub, item, item.price, item.quantity, true));
    if (deleted && item) {
      sub.items.data = sub.items.data.filter((other) => other !== item);
      continue;
    }
    const target =
      item ??
      newSubscriptionItem(
        world,
        sub.id,
        price,
        quantity,
        first.current_period_start,
        first.current_period_end,
      );
    Object.assign(target, {
      price,
      plan: planOf(price),
      quantity,
      metadata: mergeMetadata(target.metadata, metadata),
    });
    if (!item) sub.items.data.push(target);
    const sameInterval = JSON.stringify(price.recurring) === oldInterval;
    if ((!item || moved) && prorate && sameInterval)
      lines.push(prorationLine(world, sub, target, price, quantity, false));
  }
  if (sub.items.data.length === 0)
    throw invalid('A subscription must have at least one active plan.', 'items');
  const intervals = new Set(sub.items.data.map(({ price }) => JSON.stringify(price.recurring)));
  if (intervals.size > 1)
    throw invalid('Currently, all prices on a subscription must have the same billing interval.', 'items');
  const becamePaid = wasFree && sub.items.data.some(({ price }) => price.unit_amount > 0);
  addPendingLines(
    sub,
    lines.filter((line) => line.amount !== 0),
  );
  if (billed && (!intervals.has(oldInterval) || becamePaid)) {
    if (becamePaid) takePendingLines(sub, '');
    return 'period';
  }
  return params.proration_behavior === 'always_invoice' && lines.length > 0 ? 'prorations' : false;
}

function invoiceProrations(world: World, sub: Subscription): void {
  const customer = world.store.customers.get(sub.customer);
  const invoice = draftInvoice(
    world,
    { customer, sub, currency: sub.currency, reason: 'subscription_update' },
    (id) => takePendingLines(sub, id),
  );
  sub.latest_invoice = invoice.id;
  collect(world, sub, invoice);
}

function applyTrialEnd(world: World, sub: Subscription, end: number | 'now'): void {
  if (end === 'now') {
    sub.trial_end = sub.trial_end === null ? null : world.clock.now();
    return;
  }
  const now = world.clock.now();
  Object.assign(sub, {
    status: 'trialing',
    trial_end: end,
    trial_start: sub.trial_start ?? now,
    billing_cycle_anchor: end,
  });
  for (const item of sub.items.data) item.current_period_end = end;
  schedulePeriod(world, sub);
}
