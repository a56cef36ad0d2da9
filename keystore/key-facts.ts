import { type CompiledQuery, sql } from 'kysely';
import type { RevocationReason, SubscriptionStatus } from '../shared/access.ts';
import type { Mode } from '../shared/keys.ts';
import type { LimitsOverride, Window } from '../shared/plan.ts';
import type { KeyTable } from './schema.ts';
import type { Store } from './store.ts';
import { hourOf, monthStartHour } from './usage-ledger.ts';

/** All that bears on a request with this key: what the gateway remembers of it. */
export type KeyFacts = KnownOfKey & {
  hash: string;
  tag: number;
  /** The first hour of the month that `usedThisMonth` is about. Hours since the epoch, UTC, as all hours. */
  monthStartHour: number;
  /** The hour in which this was read, and the requests of this key alone in it. */
  readInHour: number;
  usedThisHour: number;
};

/** What is known of a key, without what proves it and what only counts requests. */
export type KnownOfKey = {
  id: string;
  rootId: string;
  mode: Mode;
  prefix: string;
  lastFour: string;
  planId: string;
  customerId: string | null;
  /** Lookup keys of what Stripe says the customer is entitled to. */
  entitlements: readonly string[];
  /** How many were bought, for plans that multiply by it. */
  quantity: number;
  createdAt: number;
  expiresAt: number | null;
  revokedAt: number | null;
  revokedReason: RevocationReason | null;
  suspendedAt: number | null;
  disputedSince: number | null;
  /** Limits that count instead of the plan's; `null`: the plan's do. */
  override: LimitsOverride | null;
  /** Addresses and ranges it may be used from; `null`: any. */
  allowedAddresses: readonly string[] | null;
  /** When the gateway first saw it; `null`: not yet. */
  firstUsedAt: number | null;
  /** The key that rotation made of this one. */
  replacedBy: string | null;
  subscription: null | {
    id: string;
    status: SubscriptionStatus;
    pastDueSince: number | null;
    currentPeriodEnd: number | null;
    /** When it is going to end. */
    cancelAt: number | null;
    trialEnd: number | null;
  };
  /** Requests of the whole rotation chain in the calendar month (UTC). */
  usedThisMonth: number;
  /** All requests of the rotation chain; `null` for a key with a subscription, which nobody asks that of. */
  usedInAll: number | null;
};

/** When something is read: the hour, and the first hour of its month (UTC). */
type Moment = { hour: number; month: number };

type KnownRow = Awaited<ReturnType<ReturnType<typeof selectKnown>['executeTakeFirstOrThrow']>>;
type FactsRow = KnownRow & { used_this_hour: number | string };

type Asked = { id: string; resolve: (facts: KeyFacts | undefined) => void; reject: (error: unknown) => void };

/** Keys read by one statement. The process waits for it, some milliseconds. */
const BATCH = 200;

const gathering = new WeakMap<Store, Asked[]>();
const compiled = new WeakMap<Store['db'], CompiledQuery<FactsRow>>();

/**
 * A key with its subscription and usage; `undefined` when there is none of this id. Keys that are asked for at the same
 * moment are read together.
 */
export function findKeyFacts(store: Store, id: string): Promise<KeyFacts | undefined> {
  return new Promise((resolve, reject) => {
    const asked = gathering.get(store);
    if (asked !== undefined) asked.push({ id, resolve, reject });
    else {
      gathering.set(store, [{ id, resolve, reject }]);
      setImmediate(() => void readGathered(store));
    }
  });
}

async function readGathered(store: Store): Promise<void> {
  const asked = gathering.get(store) as Asked[];
  const now = asked.splice(0, BATCH);
  if (asked.length > 0) setImmediate(() => void readGathered(store));
  else gathering.delete(store);
  try {
    const time = store.now();
    const moment = { hour: hourOf(time), month: monthStartHour(time) };
    const { rows } = await store.db.executeQuery(byIds(store, moment, [...new Set(now.map(({ id }) => id))]));
    const found = new Map(rows.map((row) => [row.id, row]));
    for (const { id, resolve } of now) {
      const row = found.get(id);
      resolve(row && factsOf(row, moment));
    }
  } catch (error) {
    for (const { reject } of now) reject(error);
  }
}

const MONTH = -1;
const HOUR = -2;
const IDS = '';

/** Built once: building it costs several times what SQLite needs to answer it. */
function byIds(
  { db, valuesOf }: Store,
  { hour, month }: Moment,
  ids: readonly string[],
): CompiledQuery<FactsRow> {
  let query = compiled.get(db);
  if (query === undefined) {
    query = selectKnown(db, MONTH)
      .select(
        sql<number | string>`coalesce((
          select usage.requests from usage where usage.key_id = keys.id and usage.hour = ${sql.val(HOUR)}), 0)`.as(
          'used_this_hour',
        ),
      )
      .where('keys.id', 'in', valuesOf(IDS))
      .compile();
    compiled.set(db, query);
  }
  const values = new Map<unknown, unknown>([
    [MONTH, month],
    [HOUR, hour],
    [IDS, JSON.stringify(ids)],
  ]);
  const parameters = query.parameters.map((each) => (values.has(each) ? values.get(each) : each));
  return { ...query, parameters };
}

/**
 * The rows that {@link knownOf} reads.
 *
 * @param month the first hour of the month whose usage is asked for
 */
export function selectKnown(db: Store['db'], month: number) {
  const usedSince = (hour: number) => sql<number | string>`(
    select coalesce(sum(usage.requests), 0) from usage
    where usage.key_id in (select chain.id from keys as chain where chain.root_id = keys.root_id)
      and usage.hour >= ${sql.val(hour)})`;
  return db
    .selectFrom('keys')
    .leftJoin('subscriptions', 'subscriptions.id', 'keys.subscription_id')
    .leftJoin('customers', 'customers.id', 'keys.customer_id')
    .selectAll('keys')
    .select([
      'customers.entitlements',
      'subscriptions.plan_id as subscription_plan_id',
      'subscriptions.quantity as subscription_quantity',
      'subscriptions.status',
      'subscriptions.past_due_since',
      'subscriptions.current_period_end',
      'subscriptions.cancel_at',
      'subscriptions.trial_end',
      usedSince(month).as('used_this_month'),
      sql<number | string | null>`case when keys.subscription_id is null then ${usedSince(0)} end`.as(
        'used_in_all',
      ),
    ]);
}

function factsOf(row: FactsRow, { hour, month }: Moment): KeyFacts {
  return {
    ...knownOf(row),
    hash: row.hash,
    tag: row.tag,
    monthStartHour: month,
    readInHour: hour,
    usedThisHour: Number(row.used_this_hour),
  };
}

/** What a row of {@link selectKnown} says of the key. */
export function knownOf(row: KnownRow): KnownOfKey {
  return {
    id: row.id,
    rootId: row.root_id,
    mode: row.mode,
    prefix: row.prefix,
    lastFour: row.last_four,
    planId: row.subscription_plan_id ?? row.plan_id,
    customerId: row.customer_id,
    entitlements: row.entitlements ? (JSON.parse(row.entitlements) as string[]) : [],
    quantity: row.subscription_quantity ?? row.quantity,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    revokedReason: row.revoked_reason,
    suspendedAt: row.suspended_at,
    disputedSince: row.disputed_since,
    override: overrideOf(row),
    allowedAddresses: row.allowed_addresses ? (JSON.parse(row.allowed_addresses) as string[]) : null,
    firstUsedAt: row.first_used_at,
    replacedBy: row.replaced_by,
    subscription:
      row.status && row.subscription_id
        ? {
            id: row.subscription_id,
            status: row.status,
            pastDueSince: row.past_due_since,
            currentPeriodEnd: row.current_period_end,
            cancelAt: row.cancel_at,
            trialEnd: row.trial_end,
          }
        : null,
    usedThisMonth: Number(row.used_this_month),
    usedInAll: row.used_in_all === null ? null : Number(row.used_in_all),
  };
}

/** The limits of a key's own. */
export function overrideOf({
  override_limits: limits,
  override_quota: quota,
}: Pick<KeyTable, 'override_limits' | 'override_quota'>): LimitsOverride | null {
  if (limits === null && quota === null) return null;
  return { limits: limits === null ? null : (JSON.parse(limits) as Window[]), quota };
}
