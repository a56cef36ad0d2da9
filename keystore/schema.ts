import type { Generated } from 'kysely';
import type { RevocationReason, SubscriptionStatus } from '../shared/access.ts';
import type { Mode } from '../shared/keys.ts';

/** The tables. Times are milliseconds since the epoch; truth values are 0 and 1. */
export type Schema = {
  meta: MetaTable;
  customers: CustomerTable;
  subscriptions: SubscriptionTable;
  purchases: PurchaseTable;
  keys: KeyTable;
  reveals: RevealTable;
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
  past_due_since: number | null;
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
  /** What the event is about. A checkout session is named by the hash of its id. */
  object_id: string | null;
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
