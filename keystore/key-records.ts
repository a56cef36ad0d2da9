import { setImmediate as others } from 'node:timers/promises';
import { sql } from 'kysely';
import type { SubscriptionStatus } from '../shared/access.ts';
import { customersNamed } from './customer-records.ts';
import { type KnownOfKey, knownOf, selectKnown } from './key-facts.ts';
import type { Store } from './store.ts';
import { monthStartHour } from './usage-ledger.ts';

/** A key as the operator sees it: everything but its hash. */
export type KeyRecord = KnownOfKey & {
  name: string | null;
  /** Why the seller suspended it, for themselves. */
  suspendedNote: string | null;
  email: string | null;
  stripeCustomerId: string | null;
  subscriptionId: string | null;
  purchaseId: string | null;
};

/** Where a list of keys goes on: after this one. */
export type KeyCursor = { createdAt: number; id: string };

/** What a list of keys is limited to. */
export type KeyFilter = {
  planId?: string;
  /** Only keys whose id, last four characters, e-mail, customer, subscription or purchase is this. */
  matching?: string;
  /** Only keys older than this one, for paging. */
  before?: KeyCursor;
};

/** What a key is like. `bySeller`: suspended by the seller. */
export type MayBe = {
  revoked: boolean;
  bySeller?: true;
  orStatuses?: readonly SubscriptionStatus[];
};

/** Keys, newest first. */
export async function listKeys(
  store: Store,
  { matching, ...filter }: KeyFilter & { limit: number },
): Promise<KeyRecord[]> {
  return readKeys(store, matching === undefined ? filter : { ...filter, ids: await idsOf(store, matching) });
}

/** Keys looked through in one read, and in one page. The process waits for a read, some 20 ms. */
const WINDOW = 20_000;
const WINDOWS = 3;

/**
 * A page of keys, newest first, of which few may fit the filter among very many.
 *
 * @param filter.mayBe what a key is like that `admits` may let pass
 * @param filter.admits whether a key belongs in the list
 * @returns at most `limit` keys, and after which one the next page begins, when there may be more. A page may be short, or
 *   empty, where the keys that were looked through were of another kind: the next one goes on from there.
 */
export async function browseKeys(
  store: Store,
  filter: KeyFilter & {
    limit: number;
    mayBe?: MayBe;
    admits?: (key: KeyRecord) => boolean;
  },
): Promise<{ keys: KeyRecord[]; next: KeyCursor | null }> {
  const { limit, matching, admits = () => true, ...only } = filter;
  const keys: KeyRecord[] = [];
  if (matching !== undefined) {
    const ids = await idsOf(store, matching);
    const found = (await readKeys(store, { ...only, ids, limit: ids.length })).filter(admits);
    return pageOf(found, limit);
  }
  let before = filter.before;
  // Revoked keys have an index of their own, and so have those that the seller suspended, which are few.
  const whole = only.mayBe?.bySeller ?? (only.planId === undefined && only.mayBe?.revoked !== false);
  for (let i = 0; i < WINDOWS; i++) {
    // Whoever reads page after page lets everybody else have their turn.
    await others();
    const edge = whole ? undefined : await edgeOf(store, before);
    const rows = await readKeys(store, {
      ...only,
      limit: limit + 1,
      ...(before && { before }),
      ...(edge && { from: edge }),
    });
    keys.push(...rows.filter(admits));
    if (keys.length > limit) return pageOf(keys, limit);
    if (rows.length > limit) before = cursorOf(rows.at(-1) as KeyRecord);
    else if (edge === undefined) return { keys, next: null };
    else before = edge;
  }
  return { keys, next: before ?? null };
}

function pageOf(keys: KeyRecord[], limit: number): { keys: KeyRecord[]; next: KeyCursor | null } {
  const page = keys.slice(0, limit);
  return { keys: page, next: keys.length > limit ? cursorOf(page.at(-1) as KeyRecord) : null };
}

function cursorOf({ createdAt, id }: KeyRecord): KeyCursor {
  return { createdAt, id };
}

/** The last key of the next window; `undefined`: the window reaches to the oldest. */
async function edgeOf({ db }: Store, before: KeyCursor | undefined): Promise<KeyCursor | undefined> {
  return db
    .selectFrom('keys')
    .select(['created_at as createdAt', 'id'])
    .$if(before !== undefined, (query) => query.where(olderThan(before as KeyCursor)))
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .offset(WINDOW - 1)
    .limit(1)
    .executeTakeFirst();
}

/** A comparison of pairs, which an index on both columns answers, as it does not "less, or equal and". */
function olderThan({ createdAt, id }: KeyCursor) {
  return sql<boolean>`(keys.created_at, keys.id) < (${createdAt}, ${id})`;
}

/** How many keys one thing that is searched for may lead to. */
const MATCHES = 1000;

/** Keys that something names: looked up in one index after the other. */
async function idsOf({ db }: Store, text: string): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    with owner as (${customersNamed(text)})
    select id from keys where id = ${text}
    union select id from keys where last_four = ${text}
    union select id from keys where subscription_id = ${text}
    union select id from keys where customer_id in (select id from owner)
    union select keys.id from purchases join keys on keys.root_id = purchases.key_id where purchases.id = ${text}
    limit ${sql.lit(MATCHES)}`.execute(db);
  return rows.map(({ id }) => id);
}

async function readKeys(
  store: Store,
  filter: {
    limit: number;
    ids?: readonly string[];
    planId?: string;
    mayBe?: MayBe;
    before?: KeyCursor;
    from?: KeyCursor;
  },
): Promise<KeyRecord[]> {
  const { ids, planId, mayBe, before, from } = filter;
  let query = selectKnown(store.db, monthStartHour(store.now()))
    .leftJoin('purchases', 'purchases.key_id', 'keys.root_id')
    .select(['customers.email', 'customers.stripe_customer_id', 'purchases.id as purchase_id'])
    // The plus keeps the database from going through all keys in this order to find those of a few ids.
    .orderBy(ids ? sql`+keys.created_at` : 'keys.created_at', 'desc')
    .orderBy('keys.id', 'desc')
    .limit(filter.limit);
  if (ids) query = query.where('keys.id', 'in', store.valuesOf(JSON.stringify(ids)));
  if (planId)
    query = query.where((where) =>
      where(where.fn.coalesce('subscriptions.plan_id', 'keys.plan_id'), '=', planId),
    );
  if (mayBe) query = query.where('keys.revoked_at', mayBe.revoked ? 'is not' : 'is', null);
  if (mayBe?.bySeller) query = query.where('keys.suspended_at', 'is not', null);
  const statuses = mayBe?.orStatuses;
  if (statuses) {
    query = query.where((where) =>
      where.or([
        where('keys.expires_at', 'is not', null),
        where('keys.suspended_at', 'is not', null),
        where('keys.disputed_since', 'is not', null),
        ...(statuses.length > 0 ? [where('subscriptions.status', 'in', statuses)] : []),
      ]),
    );
  }
  if (before) query = query.where(olderThan(before));
  if (from) query = query.where(sql<boolean>`(keys.created_at, keys.id) >= (${from.createdAt}, ${from.id})`);
  const rows = await query.execute();
  return rows.map((row) => ({
    ...knownOf(row),
    name: row.name,
    suspendedNote: row.suspended_note,
    email: row.email,
    stripeCustomerId: row.stripe_customer_id,
    subscriptionId: row.subscription_id,
    purchaseId: row.purchase_id,
  }));
}

/** One key as the operator sees it. */
export async function findKey(store: Store, id: string): Promise<KeyRecord | undefined> {
  return (await readKeys(store, { limit: 1, ids: [id] }))[0];
}

/** The key that another one, by its id, was made to replace; `undefined`: it replaces none. */
export async function findPredecessor(store: Store, id: string): Promise<KnownOfKey | undefined> {
  const row = await selectKnown(store.db, monthStartHour(store.now()))
    .where('keys.replaced_by', '=', id)
    .executeTakeFirst();
  return row && knownOf(row);
}

/** What was done to a key, by whom and from where, oldest first. */
export async function keyHistory(
  store: Store,
  id: string,
): Promise<{ at: number; actor: string; address: string | null; action: string; details: string | null }[]> {
  return store.db
    .selectFrom('audit')
    .select(['at', 'actor', 'address', 'action', 'details'])
    .where('key_id', '=', id)
    .orderBy('seq')
    .execute();
}
