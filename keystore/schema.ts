import type { Generated } from 'kysely';
import type { RevocationReason, SubscriptionStatus } from '../shared/access.ts';
import type { Mode } from '../shared/keys.ts';

/** The tables. Times are milliseconds since the epoch; truth values are 0 and 1. */
export type Schema = {
  meta: MetaTable;
  customers: CustomerTable;
  subscriptions: SubscriptionTable;
  purchases: PurchaseTable;
  payments: PaymentTable;
  keys: KeyTable;
  reveals: RevealTable;
  recoveries: RecoveryTable;
  usage: UsageTable;
  events: EventTable;
  audit: AuditTable;
  changes: ChangeTable;
};

type MetaTable = { name: string; value: string };

export type CustomerTable = {
  id: string;
  mode: Mode;
  stripe_customer_id: string | null;
  email: string | null;
  /** Lookup keys of what the customer is entitled to by Stripe, as a JSON list; `null`: never asked. */
  entitlements: string | null;
  /** When the look at Stripe that this row shows began; `null`: known from purchases only. */
  fetched_at: number | null;
  /** The same for the entitlements. */
  entitlements_fetched_at: number | null;
  created_at: number;
  updated_at: number;
};

export type SubscriptionTable = {
  /** Stripe's id. */
  id: string;
  mode: Mode;
  customer_id: string;
  plan_id: string;
  price_id: string;
  status: SubscriptionStatus;
  current_period_end: number | null;
  cancel_at_period_end: number;
  /** When it is going to end, whatever the reason. */
  cancel_at: number | null;
  trial_end: number | null;
  /** When the oldest payment that is still owed first failed. */
  past_due_since: number | null;
  quantity: number;
  /** When the fetch that this row shows began: an older fetch never overwrites a newer one. */
  fetched_at: number;
  created_at: number;
  updated_at: number;
};

export type PurchaseStatus = 'pending' | 'paid' | 'provisioned' | 'failed' | 'canceled';

export type PurchaseTable = {
  id: string;
  /** SHA-256 of the checkout session's id, which itself is never kept: it opens the sealed key. */
  session_hash: string;
  mode: Mode;
  plan_id: string | null;
  price_id: string | null;
  status: PurchaseStatus;
  failure: string | null;
  customer_id: string | null;
  subscription_id: string | null;
  /** Of a one-time purchase: ties refunds and disputes to it. */
  payment_intent_id: string | null;
  key_id: string | null;
  amount_total: number | null;
  currency: string | null;
  created_at: number;
  provisioned_at: number | null;
  updated_at: number;
};

export type KeyTable = {
  id: string;
  /** The first key of a rotation chain. Limits and quota belong to the chain, so rotation gives nothing for free. */
  root_id: string;
  mode: Mode;
  prefix: string;
  hash: string;
  tag: number;
  last_four: string;
  /** The plan of a key without a subscription; with one, the subscription's plan counts. */
  plan_id: string;
  customer_id: string | null;
  subscription_id: string | null;
  /** How many were bought once; of a subscription, its own quantity counts. */
  quantity: number;
  /** Since when a payment for it has been in dispute, while one is. */
  disputed_since: number | null;
  /** Addresses and ranges it may be used from, as a JSON list; `null`: any. */
  allowed_addresses: string | null;
  /** When the gateway first saw it. */
  first_used_at: number | null;
  name: string | null;
  created_at: number;
  expires_at: number | null;
  revoked_at: number | null;
  revoked_reason: RevocationReason | null;
  /** The key that rotation made of this one. */
  replaced_by: string | null;
};

export type RevealTable = {
  purchase_id: string;
  key_id: string;
  /** AES-256-GCM; `null` once claimed, expired or pointless. */
  sealed: Uint8Array | null;
  created_at: number;
  expires_at: number;
  claimed_at: number | null;
};

/** Payments that something happened to after they were made. Most never come here. */
export type PaymentTable = {
  charge_id: string;
  mode: Mode;
  payment_intent_id: string | null;
  subscription_id: string | null;
  refunded_at: number | null;
  paid_until: number | null;
  dispute: 'inquiry' | 'open' | 'won' | 'lost' | null;
  disputed_since: number | null;
  fetched_at: number;
  created_at: number;
  updated_at: number;
};

/** Links sent to replace a lost key: each works once, and not for long. */
export type RecoveryTable = {
  id: string;
  key_id: string;
  created_at: number;
  expires_at: number;
  used_at: number | null;
};

export type UsageTable = {
  key_id: string;
  /** Hours since the epoch. */
  hour: number;
  requests: number;
  refused: number;
};

export type EventStatus = 'pending' | 'processed' | 'failed';

export type EventTable = {
  id: string;
  type: string;
  mode: Mode;
  api_version: string | null;
  /** What to look at, as `<kind>:<id>`. A checkout session is named by the hash of its id. */
  object_id: string | null;
  /** Events of one group are worked on one after the other: the customer's, else the object's. */
  group_key: string | null;
  /** The body as received, with checkout session ids blanked out. */
  payload: string;
  status: EventStatus;
  /** What processing came to, in a word: `provisioned`, `unknown_price`, `unhandled`, ... */
  outcome: string | null;
  attempts: number;
  next_attempt_at: number;
  leased_by: string | null;
  leased_until: number | null;
  error: string | null;
  created_at: number;
  received_at: number;
  processed_at: number | null;
};

export type AuditTable = {
  seq: Generated<number>;
  at: number;
  /** Who: `stripe:evt_...`, `success_page`, `operator:<name>`, `gateway`. */
  actor: string;
  action: string;
  key_id: string | null;
  customer_id: string | null;
  purchase_id: string | null;
  details: string | null;
};

export type ChangeTable = {
  seq: Generated<number>;
  key_id: string;
  at: number;
};
