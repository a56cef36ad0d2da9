import type { ActiveEntitlement } from './active-entitlements.ts';
import type { Item } from './checkout-items.ts';
import type { CheckoutTerms } from './checkout-sessions.ts';
import type { Clock } from './clock.ts';
import type { StripeEvent } from './events.ts';
import { Store } from './store.ts';
import type { WebhookDelivery } from './webhook-delivery.ts';

/** The API version whose shapes the sandbox speaks. */
export const apiVersion = '2026-10-28.endive';

export const day = 86_400;
export const hour = 3600;

/** What of an account's dashboard settings changes the course of things. Changed through the control API. */
export interface Settings {
  /** What becomes of a subscription when the last retry of a renewal has failed. */
  after_final_retry: 'canceled' | 'unpaid' | 'past_due';
  /** Days between one failed attempt at a renewal and the next; its length is the number of retries. */
  retry_days: number[];
  /** How long a renewal's invoice stays a draft before it is finalized and charged. At Stripe about an hour. */
  draft_seconds: number;
  /** After how many milliseconds a delayed payment settles by itself; null: only when told. */
  settle_delayed_after_ms: number | null;
}

/** The next charges to be declined whatever the card: for anyone, or for one customer. */
export interface FailNext {
  count: number;
  decline_code: string;
  customer: string | null;
}

/** A trouble of the API itself, for the next `count` requests whose path starts with one of `paths`. */
export interface Fault {
  count: number;
  status: number | null;
  hang_ms: number;
  drop_connection: boolean;
  /** Whether the request still takes effect before its answer is lost. */
  after: boolean;
  paths: string[];
}

/** All state of one sandbox. Handlers are synchronous, so that each request is atomic. */
export interface World {
  readonly clock: Clock;
  readonly store: Store;
  readonly delivery: WebhookDelivery;
  readonly defaults: Settings;
  /** Base of the addresses of hosted pages, without a slash at its end. */
  publicUrl: string;
  settings: Settings;
  failNext: FailNext[];
  faults: Fault[];
  /** The API request being handled: events name it as their cause. */
  request: { id: string; idempotency_key: string | null } | null;
  /** Events waiting to be put into an order: see `inObservedOrder`. */
  batch: StripeEvent[] | null;
  invoiceCount: number;
  /** Line items of sessions and payment links, by id of either. */
  readonly lineItems: Map<string, Item[]>;
  /** What a session will set up once paid: not part of the session Stripe shows. */
  readonly terms: Map<string, CheckoutTerms>;
  /** The product each attached feature belongs to: not part of what Stripe shows. */
  readonly productOfFeature: Map<string, string>;
  /** What each customer is entitled to at the moment, by customer id. */
  readonly entitlements: Map<string, ActiveEntitlement[]>;
  onEvent: ((event: StripeEvent) => void) | undefined;
  /** Called when an event is emitted, with what it is about as it is now: for what follows from it. */
  readonly watchers: ((type: string, object: object) => void)[];
}

export function newWorld(parts: {
  clock: Clock;
  delivery: WebhookDelivery;
  settings: Settings;
  publicUrl: string;
  onEvent?: ((event: StripeEvent) => void) | undefined;
}): World {
  return {
    clock: parts.clock,
    store: new Store(),
    delivery: parts.delivery,
    defaults: parts.settings,
    publicUrl: parts.publicUrl,
    settings: structuredClone(parts.settings),
    failNext: [],
    faults: [],
    request: null,
    batch: null,
    invoiceCount: 0,
    lineItems: new Map(),
    terms: new Map(),
    productOfFeature: new Map(),
    entitlements: new Map(),
    onEvent: parts.onEvent,
    watchers: [],
  };
}

/** Forgets everything but the clock's offset. */
export function resetWorld(world: World): void {
  world.clock.stop();
  world.delivery.reset();
  world.store.clear();
  world.settings = structuredClone(world.defaults);
  world.failNext = [];
  world.faults = [];
  world.batch = null;
  world.invoiceCount = 0;
  world.lineItems.clear();
  world.terms.clear();
  world.productOfFeature.clear();
  world.entitlements.clear();
}
