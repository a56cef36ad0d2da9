import { invalid, noSuch } from './errors.ts';
import { eventTypes } from './event-types.ts';
import { newId } from './ids.ts';
import { boolean, inRange, list, range, string } from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import { allEndpoints } from './webhook-endpoints.ts';
import { apiVersion, day, type World } from './world.ts';

export interface StripeEvent {
  id: string;
  object: 'event';
  api_version: string;
  created: number;
  data: { object: Record<string, unknown>; previous_attributes?: Record<string, unknown> };
  livemode: false;
  pending_webhooks: number;
  request: { id: string | null; idempotency_key: string | null };
  type: string;
}

/** Records that something happened to `object`, as it is now, and hands the event to delivery. */
export function emit(world: World, type: string, object: object, previous?: Record<string, unknown>): void {
  const event: StripeEvent = {
    id: newId('evt'),
    object: 'event',
    api_version: apiVersion,
    created: world.clock.now(),
    data: {
      object: structuredClone(object) as Record<string, unknown>,
      ...(previous ? { previous_attributes: structuredClone(previous) } : {}),
    },
    livemode: false,
    pending_webhooks: 0,
    request: world.request ? { ...world.request } : { id: null, idempotency_key: null },
    type,
  };
  if (world.batch) world.batch.push(event);
  else publish(world, event);
  for (const watch of world.watchers) watch(type, object);
}

function publish(world: World, event: StripeEvent): void {
  world.store.events.add(event);
  world.onEvent?.(event);
  world.delivery.send(event, allEndpoints(world));
}

/**
 * Changes `object` and emits `type` with `previous_attributes` if anything did change.
 *
 * @returns whether it did.
 */
export function change<T extends object>(
  world: World,
  type: string,
  object: T,
  changes: Partial<T>,
): boolean {
  const previous: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(changes)) {
    const old = object[key as keyof T];
    if (JSON.stringify(old) !== JSON.stringify(value)) previous[key] = structuredClone(old);
  }
  Object.assign(object, changes);
  if (Object.keys(previous).length === 0) return false;
  emit(world, type, object, previous);
  return true;
}

/** Emits `type` with what of `object` is not as it was in `before`, if anything is. */
export function emitChanged<T extends object>(
  world: World,
  type: string,
  object: T,
  before: Partial<T>,
): void {
  const previous = Object.fromEntries(
    Object.entries(before).filter(
      ([key, value]) => JSON.stringify(value) !== JSON.stringify(object[key as keyof T]),
    ),
  );
  if (Object.keys(previous).length > 0) emit(world, type, object, previous);
}

/** The order in which a purchase's events were seen to arrive; none of it is promised, and some of it surprises. */
const observed = [
  'charge.succeeded',
  'charge.pending',
  'payment_method.attached',
  'customer.created',
  'customer.updated',
  'checkout.session.completed',
  'customer.subscription.created',
  'customer.subscription.updated',
  'payment_intent.succeeded',
  'payment_intent.processing',
  'payment_intent.created',
  'invoice.created',
  'invoice.finalized',
  'invoice.paid',
  'invoice.payment_succeeded',
  'invoice_payment.paid',
];

/** Runs `act` and publishes the events it emitted in the order observed at Stripe instead of the order of cause. */
export function inObservedOrder<T>(world: World, act: () => T): T {
  const batch: StripeEvent[] = [];
  world.batch = batch;
  try {
    return act();
  } finally {
    world.batch = null;
    const rank = ({ type }: StripeEvent) => (observed.indexOf(type) + 1 || observed.length + 1) - 1;
    for (const event of batch.sort((a, b) => rank(a) - rank(b))) publish(world, event);
  }
}

/** Events can be read for 30 days. */
const retention = 30 * day;

/** The events that can still be read, newest first. */
export function readableEvents(world: World): StripeEvent[] {
  const oldest = world.clock.now() - retention;
  return world.store.events.all().filter((event) => event.created >= oldest);
}

function matches(pattern: string, type: string): boolean {
  return pattern.endsWith('*') ? type.startsWith(pattern.slice(0, -1)) : pattern === type;
}

function requireKnown(patterns: string[], param: string): void {
  for (const pattern of patterns) {
    if (!eventTypes.some((type) => matches(pattern, type))) {
      throw invalid(`Invalid ${param}: ${pattern} is not a type of event`, param);
    }
  }
}

export const eventRoutes: Route[] = [
  listRoute(
    '/v1/events',
    { type: string(), types: list(string(), 20), created: range(), delivery_success: boolean() },
    (world, params) => {
      if (params.type !== undefined && params.types !== undefined) {
        throw invalid('You may only specify one of these parameters: type, types.', 'type');
      }
      const wanted = params.types ?? (params.type === undefined ? undefined : [params.type]);
      if (wanted) requireKnown(wanted, params.types ? 'types' : 'type');
      return readableEvents(world).filter(
        (event) =>
          (!wanted || wanted.some((pattern) => matches(pattern, event.type))) &&
          (!params.created || inRange(event.created, params.created)) &&
          (params.delivery_success === undefined ||
            (event.pending_webhooks === 0) === params.delivery_success),
      );
    },
  ),
  route('GET', '/v1/events/:id', {}, (world, _params, id) => {
    return readableEvents(world).find((event) => event.id === id) ?? gone(id);
  }),
];

function gone(id: string): never {
  throw noSuch('event', id, 'id', 404);
}
