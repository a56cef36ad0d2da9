import { setImmediate as others } from 'node:timers/promises';
import { sql } from 'kysely';
import type { KeyStanding, SubscriptionStanding, SubscriptionStatus } from '../shared/access.ts';
import type { Store } from './store.ts';

/** Keys of which the same is to be said: how many they are, and what bears on their access. */
export type KeysOfAStanding = {
  count: number;
  planId: string;
  key: KeyStanding;
  subscription: SubscriptionStanding | null;
};

/** Keys read by one statement: what else the connection has to do waits for it, some 50 ms. */
const WINDOW = 25_000;

type Cursor = { created_at: number; id: string };
type Row = {
  plan: string;
  status: SubscriptionStatus | null;
  past_due_since: number | null;
  expired: number;
  suspended: number;
  disputed: number;
  n: number;
};

/**
 * All keys that are not revoked, as few groups, so that the rule on access can be asked of each group. It goes through every key:
 * a second for a million of them, on the connection that writes aside, and a part at a time.
 */
export async function keyStandings(store: Store): Promise<KeysOfAStanding[]> {
  const groups = new Map<string, KeysOfAStanding>();
  let after: Cursor = { created_at: -1, id: '' };
  for (;;) {
    const last = await edgeOf(store, after);
    for (const row of await groupsOf(store, after, last)) {
      const { n, ...standing } = row;
      const key = JSON.stringify(Object.values(standing));
      const group = groups.get(key);
      if (group) group.count += Number(n);
      else groups.set(key, groupOf(row));
    }
    if (last === undefined) return [...groups.values()];
    after = last;
    await others();
  }
}

/** The last key of the window that begins after a key; `undefined`: it reaches to the newest. */
async function edgeOf(store: Store, after: Cursor): Promise<Cursor | undefined> {
  const { rows } = await sql<Cursor>`
    select created_at, id from keys where (created_at, id) > (${after.created_at}, ${after.id})
    order by created_at, id limit 1 offset ${sql.lit(WINDOW - 1)}`.execute(store.writer);
  return rows[0];
}

async function groupsOf(store: Store, after: Cursor, last: Cursor | undefined): Promise<Row[]> {
  const toLast = last ? sql`and (keys.created_at, keys.id) <= (${last.created_at}, ${last.id})` : sql``;
  const { rows } = await sql<Row>`
    select
      coalesce(subscriptions.plan_id, keys.plan_id) as plan,
      subscriptions.status as status,
      case when subscriptions.status = 'past_due' then subscriptions.past_due_since end as past_due_since,
      case when keys.expires_at <= ${store.now()} then 1 else 0 end as expired,
      case when keys.suspended_at is null then 0 else 1 end as suspended,
      case when keys.disputed_since is null then 0 else 1 end as disputed,
      count(*) as n
    from keys left join subscriptions on subscriptions.id = keys.subscription_id
    where (keys.created_at, keys.id) > (${after.created_at}, ${after.id}) ${toLast}
      and keys.revoked_at is null
    group by 1, 2, 3, 4, 5, 6`.execute(store.writer);
  return rows;
}

/** What was and is no longer to come counts, not when: any moment that is past says it. */
function groupOf({
  plan,
  status,
  past_due_since: since,
  expired,
  suspended,
  disputed,
  n,
}: Row): KeysOfAStanding {
  const past = (is: number) => (is ? 0 : null);
  return {
    count: Number(n),
    planId: plan,
    key: {
      revokedAt: null,
      expiresAt: past(expired),
      suspendedAt: past(suspended),
      disputedSince: past(disputed),
    },
    subscription: status === null ? null : { status, pastDueSince: since === null ? null : Number(since) },
  };
}
