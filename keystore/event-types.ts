import { sql } from 'kysely';
import type { Store } from './store.ts';

/** What is known of the events of one type. */
export type EventTypeRecord = {
  type: string;
  /** When the newest was received, milliseconds. */
  lastReceivedAt: number;
  /** How many were received in the last 30 days, up to {@link COUNTED}. */
  recent: number;
  /** How many have failed and need somebody, among the newest {@link COUNTED} failures of all types. */
  failed: number;
};

const RECENT_MS = 30 * 86_400_000;
/** So far events are counted: that there are many is enough to know. */
export const COUNTED = 1000;
/** Stripe has fewer types. */
const MOST_TYPES = 1000;

/**
 * Every type of event in the inbox, by name. However many events there are, it takes a few look-ups in an index for each type:
 * from one type straight to the next, its newest event, and some of its others.
 */
export async function eventTypes(store: Store): Promise<EventTypeRecord[]> {
  const { rows } = await sql<{ type: string; last: number; recent: number; failed: number | null }>`
    with recursive types(type) as (
      select min(type) from events
      union all
      select (select min(events.type) from events where events.type > types.type)
      from types where types.type is not null
    ),
    failures(type, n) as (
      select type, count(*) from (
        select type from events where status = 'failed' order by received_at desc, id desc limit ${COUNTED}
      ) as newest
      group by type
    )
    select
      types.type,
      (select max(received_at) from events where events.type = types.type) as last,
      (select count(*) from (
        select 1 from events
        where events.type = types.type and received_at >= ${store.now() - RECENT_MS}
        order by received_at desc
        limit ${COUNTED}
      ) as counted) as recent,
      failures.n as failed
    from types left join failures on failures.type = types.type
    where types.type is not null
    order by types.type
    limit ${MOST_TYPES}`.execute(store.db);
  return rows.map(({ type, last, recent, failed }) => ({
    type,
    lastReceivedAt: Number(last),
    recent: Number(recent),
    failed: Number(failed ?? 0),
  }));
}
