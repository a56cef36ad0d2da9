import type {
  Keystore,
  KeystoreOptions,
  ProvisionPurchase,
  ReceivedEvent,
  SubscriptionSnapshot,
} from '../keystore/keystore.ts';
import { openTestKeystore } from './keystores.ts';

const open: Keystore[] = [];

/** Opens a keystore that {@link closeKeystores} closes. */
export async function keystore(options: Partial<KeystoreOptions> = {}): Promise<Keystore> {
  const opened = await openTestKeystore(options);
  open.push(opened);
  return opened;
}

/** For `afterEach`. */
export async function closeKeystores(): Promise<void> {
  await Promise.all(open.splice(0).map((opened) => opened.close()));
}

/** An id that a purchase was opened under. */
export const PURCHASE_ID = `pur_${'mine'.repeat(5)}`;
/** A checkout session's id. */
export const SESSION = `cs_test_${'a1B2'.repeat(14)}`;
/** A subscription as Stripe showed it. */
export const subscription = (more: Partial<SubscriptionSnapshot> = {}): SubscriptionSnapshot => ({
  id: 'sub_1',
  planId: 'pro',
  priceId: 'price_pro',
  status: 'active',
  currentPeriodEnd: 2_000_000_000_000,
  cancelAtPeriodEnd: false,
  cancelAt: null,
  trialEnd: null,
  pastDueSince: null,
  quantity: 1,
  fetchedAt: 1000,
  ...more,
});
/** A paid purchase of the plan `pro`. */
export const purchase = (more: Partial<ProvisionPurchase> = {}): ProvisionPurchase => ({
  sessionId: SESSION,
  mode: 'test',
  planId: 'pro',
  priceId: 'price_pro',
  keyPrefix: 'tg',
  buyer: { stripeCustomerId: 'cus_1', email: 'buyer@example.com' },
  subscription: subscription(),
  paymentIntentId: null,
  quantity: 1,
  accessMs: null,
  rulesOf: () => ({}),
  amountTotal: 1900,
  currency: 'usd',
  actor: 'test',
  ...more,
});
/** An event about {@link SESSION}. */
export const event = (id: string, more: Partial<ReceivedEvent> = {}): ReceivedEvent => ({
  id,
  type: 'checkout.session.completed',
  mode: 'test',
  apiVersion: '2026-10-28.endive',
  object: { kind: 'session', id: SESSION },
  customer: null,
  outcome: null,
  payload: JSON.stringify({ id, data: { object: { id: SESSION, url: `https://pay/${SESSION}#x` } } }),
  createdAt: 1,
  ...more,
});
