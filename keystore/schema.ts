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
  income: IncomeTable;
  income_days: IncomeDayTable;
  keys: KeyTable;
  reveals: RevealTable;
  recoveries: RecoveryTable;
  devices: DeviceTable;
  trials: TrialTable;
  licence_attempts: LicenceAttemptTable;
  usage: UsageTable;
  usage_batches: UsageBatchTable;
  traffic_by_hour: TrafficTable & { hour: number };
  traffic_by_day: TrafficTable & { day: number };
  refusals: RefusalTable;
  events: EventTable;
  audit: AuditTable;
  console_users: ConsoleUserTable;
  console_sessions: ConsoleSessionTable;
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
  /** SHA-256 of the checkout session's id, which itself is never kept in the clear: it opens the sealed key. */
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
  /** SHA-256 of the claim token, where a program began the purchase. */
  claim_hash: string | null;
  /** The session's id, AES-256-GCM; the claim token opens it. `null` without one, and once there is nothing to claim. */
  session_sealed: Uint8Array | null;
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
  /** Since when the seller keeps it suspended, while they do; and why, for themselves. */
  suspended_at: number | null;
  suspended_note: string | null;
  /** Windows of its own, as a JSON list, and quota of its own; `null`: its plan's. */
  override_limits: string | null;
  override_quota: number | null;
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
  /** The actor who claimed it; `null` before that, and where it was claimed before this was kept. */
  claimed_by: string | null;
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

/** Devices that licences were activated on. They belong to a rotation chain, so a new key needs no new activation. */
export type DeviceTable = {
  root_id: string;
  /** As the program on the device names it: unique within the chain, and means nothing elsewhere. */
  device_id: string;
  name: string | null;
  activated_at: number;
  last_seen_at: number;
  /** `null`: it holds a place. */
  released_at: number | null;
};

/** What a price brought in by one payment. Amounts are in the currency's smallest unit. */
export type IncomeTable = {
  /** Stripe's id of the invoice; of a one-time purchase without one, of its payment intent. */
  id: string;
  price_id: string;
  plan_id: string;
  mode: Mode;
  subscription_id: string | null;
  stripe_customer_id: string | null;
  currency: string;
  amount: number;
  /** Of the amount: refunded, or lost in a dispute. */
  given_back: number;
  paid_at: number;
  /** When the look at Stripe that this row shows began. */
  fetched_at: number;
};

/** The sums of `income`, kept with it: a page asks for a year of them. */
export type IncomeDayTable = {
  /** Days since the epoch, in UTC, by when it was paid. */
  day: number;
  currency: string;
  plan_id: string;
  amount: number;
  given_back: number;
  payments: number;
};

/** Trials without a card. What they were given to is kept as a keyed hash: it is for telling whether there was one. */
export type TrialTable = {
  id: string;
  mode: Mode;
  plan_id: string;
  /** Until its code is typed in; `null` where no e-mail was asked for, and once it began. */
  email: string | null;
  email_hash: string | null;
  device_hash: string;
  code_hash: string | null;
  code_tries: number;
  key_id: string | null;
  created_at: number;
  /** Until when it can begin. */
  expires_at: number;
  began_at: number | null;
};

/** Every question that a program asked about a licence, and the answer. */
export type LicenceAttemptTable = {
  seq: Generated<number>;
  at: number;
  key_id: string;
  action: LicenceAction;
  device_id: string | null;
  /** `ok`, or the code of the problem it was answered with. */
  outcome: string;
  address: string | null;
};

export type LicenceAction = 'activate' | 'refresh' | 'validate' | 'deactivate' | 'heartbeat' | 'trial';

export type UsageTable = {
  key_id: string;
  /** Hours since the epoch. */
  hour: number;
  requests: number;
  refused: number;
};

/** What was added to `usage` lately, so that nothing is added twice by who did not get the answer. */
export type UsageBatchTable = { id: string; at: number };

/** What all gateways together did: in an hour (since the epoch), or in a day. */
type TrafficTable = { what: TrafficKind; name: string; count: number };

/**
 * What is counted: `requests` by what became of them and the class of the status, as `forwarded 2xx`; `refusals` and failures by
 * the code of their problem; `answers` of upstreams by how long they took to begin, seconds, as `0.005-0.01`.
 */
export type TrafficKind = 'requests' | 'refusals' | 'answers';

/** Requests that a gateway refused lately, or that failed in it: of each key the last few. */
export type RefusalTable = {
  seq: Generated<number>;
  at: number;
  request_id: string;
  /** Empty: whose key it was, if there was one, is not known. */
  key_id: string;
  /** The code of the problem that was the answer. */
  code: string;
  detail: string | null;
  method: string;
  host: string;
  path: string;
  route: string | null;
  address: string;
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
  /** Of the request that brought it; `null`: none did. */
  request_id: string | null;
};

export type AuditTable = {
  seq: Generated<number>;
  at: number;
  /** Who: `stripe:evt_...`, `success_page`, `purchase_claim`, `operator:<name>`, `console:<name>`, `gateway`. */
  actor: string;
  /** From which address, where a person did it over the network. */
  address: string | null;
  action: string;
  key_id: string | null;
  customer_id: string | null;
  purchase_id: string | null;
  details: string | null;
};

/** People who may sign in to the console. They are never deleted: the audit log names them. */
export type ConsoleUserTable = {
  name: string;
  /** Argon2id PHC string. */
  password_hash: string;
  created_at: number;
  disabled_at: number | null;
  /** The secret of the second factor, sealed under the server's secret; `null`: none is set up. */
  totp_sealed: Uint8Array | null;
  /** The step of 30 seconds whose code was used last: neither it nor an earlier one is good again. */
  totp_step: number | null;
};

export type ConsoleSessionTable = {
  /** SHA-256 of the token, which only the browser has. */
  token_hash: string;
  user_name: string;
  created_at: number;
  last_seen_at: number;
};

export type ChangeTable = {
  seq: Generated<number>;
  key_id: string;
  at: number;
};
