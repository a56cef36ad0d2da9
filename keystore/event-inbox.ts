import { sql } from 'kysely';
import type { Mode } from '../shared/keys.ts';
import { redact } from '../shared/log.ts';
import { MAIL_TYPE } from './own-events.ts';
import type { EventStatus, EventTable } from './schema.ts';
import { sessionHash } from './session-hash.ts';
import { type By, inOneStep, type Step, type Store } from './store.ts';

/** What an event makes us look at. */
export type EventObject = { kind: string; id: string };

/** An event as received. */
export type ReceivedEvent = {
  id: string;
  type: string;
  mode: Mode;
  apiVersion: string | null;
  /** What to look at; `null`: nothing. Of a checkout session (`session`) only the hash is kept. */
  object: EventObject | null;
  /** Whose it is: events of one customer are worked on one after the other. `null`: not known, so those of one object are. */
  customer: string | null;
  /** What it came to, where there is nothing to look at: such an event is kept, and done. */
  outcome: string | null;
  /** The body as it came. Kept with session ids blanked out. */
  payload: string;
  /** When Stripe made it, milliseconds. */
  createdAt: number;
  /** Of the request that brought it, where one did. */
  requestId?: string;
};

/** An event that this process holds the lease of. */
export type LeasedEvent = {
  id: string;
  type: string;
  /** What to look at. `id` is `null` for a checkout session: ask Stripe for the event. */
  object: { kind: string; id: string | null } | null;
  /** Equal for events about the same object: one look serves them all. `null`: this one is like no other. */
  objectKey: string | null;
  attempts: number;
  receivedAt: number;
  /** Of the request that brought it; `null`: none did. */
  requestId: string | null;
};

/** An event as the operator sees it. Times in milliseconds. */
export type EventRecord = {
  id: string;
  type: string;
  status: EventStatus;
  outcome: string | null;
  attempts: number;
  error: string | null;
  createdAt: number;
  receivedAt: number;
  nextAttemptAt: number;
  /** Of the request that brought it; `null`: none did. */
  requestId: string | null;
  payload: string;
};

/** Outcomes that may be others once the seller has mapped a price. */
const WORTH_ANOTHER_LOOK = new Set(['not_ours', 'not_found']);

/** Events of one group taken at once: few enough to be done within a lease. */
const GROUP_LIMIT = 50;

/**
 * Commits an event before it is acknowledged. A redelivery of an event that failed for good, or was taken for another
 * product's (Stripe's "resend"), puts it back to work; any other redelivery changes nothing.
 */
export async function receiveEvent(
  store: Store,
  event: ReceivedEvent,
): Promise<'received' | 'duplicate' | 'requeued'> {
  return inOneStep(store, async ({ trx, now }) => {
    const existing = await trx
      .selectFrom('events')
      .select(['status', 'outcome'])
      .where('id', '=', event.id)
      .executeTakeFirst();
    const settled = existing?.status === 'processed' && !WORTH_ANOTHER_LOOK.has(existing.outcome ?? '');
    if (settled || existing?.status === 'pending') return 'duplicate';
    const objectKey = event.object && keyOf(event.object);
    const row: EventTable = {
      id: event.id,
      type: event.type,
      mode: event.mode,
      api_version: event.apiVersion,
      object_id: objectKey,
      group_key: event.customer ?? objectKey ?? event.id,
      payload: redact(event.payload),
      status: event.outcome === null ? 'pending' : 'processed',
      outcome: event.outcome,
      attempts: 0,
      next_attempt_at: now,
      leased_by: null,
      leased_until: null,
      error: null,
      created_at: event.createdAt,
      received_at: now,
      processed_at: event.outcome === null ? null : now,
      request_id: event.requestId ?? null,
    };
    await trx
      .insertInto('events')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
      .execute();
    return existing ? 'requeued' : 'received';
  });
}

/** Which of these events are not in the inbox. */
export async function unknownEvents(store: Store, ids: readonly string[]): Promise<string[]> {
  if (ids.length === 0) return [];
  const rows = await store.db
    .selectFrom('events')
    .select('id')
    .where('id', 'in', [...ids])
    .execute();
  const known = new Set(rows.map((row) => row.id));
  return ids.filter((id) => !known.has(id));
}

/**
 * Takes the due events of up to `limit` groups, for `leaseMs`. No other process gets any event of these groups
 * meanwhile, so that work on one customer is serial; when this process dies, the lease runs out and another takes over.
 *
 * @param input.mails whether this process can send mail; one that cannot leaves it to another
 * @returns the events, group by group
 */
export async function leaseEvents(
  store: Store,
  input: { owner: string; limit: number; leaseMs: number; mails?: boolean },
): Promise<LeasedEvent[][]> {
  const { mails = true } = input;
  // Looking first keeps an idle worker from taking the write lock.
  if ((await dueEvents(store.db, store.now(), 1, mails)).length === 0) return [];
  return inOneStep(store, async ({ trx, now }) => {
    const first = await dueEvents(trx, now, input.limit * 4, mails);
    const groups = [...new Map(first.map((event) => [event.group_key ?? event.id, event])).values()];
    const leased: LeasedEvent[][] = [];
    for (const { id, group_key: group } of groups.slice(0, input.limit)) {
      const events = await trx
        .updateTable('events')
        .set((eb) => ({
          leased_by: input.owner,
          leased_until: now + input.leaseMs,
          attempts: eb('attempts', '+', 1),
        }))
        .where('id', 'in', (eb) =>
          eb
            .selectFrom('events')
            .select('id')
            .$if(group === null, (query) => query.where('id', '=', id))
            .$if(group !== null, (query) => query.where('group_key', '=', group))
            .where('status', '=', 'pending')
            // The plus keeps the database from going through all that is due to find one group's.
            .where(sql<number>`+next_attempt_at`, '<=', now)
            .$if(!mails, (query) => query.where('type', 'not like', `${MAIL_TYPE}%`))
            .limit(GROUP_LIMIT),
        )
        .returning(['id', 'type', 'object_id', 'attempts', 'received_at', 'request_id'])
        .execute();
      leased.push(events.map(toLeased));
    }
    return leased;
  });
}

/** One without a group, which only somebody's own SQL makes, is a group by itself. */
function dueEvents(db: Store['db'], now: number, limit: number, mails: boolean) {
  return db
    .selectFrom('events')
    .select(['id', 'group_key'])
    .where('status', '=', 'pending')
    .where('next_attempt_at', '<=', now)
    .where(({ eb, or }) =>
      or([eb('group_key', 'is not', null), eb('leased_until', 'is', null), eb('leased_until', '<=', now)]),
    )
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('events as other')
            .select('other.id')
            .whereRef('other.group_key', '=', 'events.group_key')
            .where('other.status', '=', 'pending')
            .where('other.leased_until', '>', now),
        ),
      ),
    )
    .$if(!mails, (query) => query.where('type', 'not like', `${MAIL_TYPE}%`))
    .orderBy('next_attempt_at')
    .limit(limit)
    .execute();
}

function toLeased(
  row: Pick<EventTable, 'id' | 'type' | 'object_id' | 'attempts' | 'received_at' | 'request_id'>,
): LeasedEvent {
  const [, kind = '', id = ''] = /^([a-z_]+):(.*)$/s.exec(row.object_id ?? '') ?? [];
  return {
    id: row.id,
    type: row.type,
    object: row.object_id === null ? null : { kind, id: kind === SESSION ? null : id },
    // Two mails about the same thing are two mails.
    objectKey: row.type.startsWith(MAIL_TYPE) ? null : row.object_id,
    attempts: row.attempts,
    receivedAt: row.received_at,
    requestId: row.request_id,
  };
}

/** Marks events done, with what they came to. */
export async function completeEvents(
  store: Store,
  input: { ids: readonly string[]; outcome: string },
): Promise<void> {
  await inOneStep(store, async ({ trx, now }) => {
    await trx
      .updateTable('events')
      .set(done(input.outcome, now))
      .where('id', 'in', [...input.ids])
      .execute();
  });
}

/**
 * Notes that work on events failed: to be tried again at `retryAt`, or failed for good (`null`), in which case they are
 * kept for the operator and for a resend.
 */
export async function failEvents(
  store: Store,
  input: { ids: readonly string[]; outcome: string; error: string; retryAt: number | null },
): Promise<void> {
  await inOneStep(store, async ({ trx }) => {
    await trx
      .updateTable('events')
      .set({
        status: input.retryAt === null ? 'failed' : 'pending',
        outcome: input.outcome,
        error: redact(input.error),
        next_attempt_at: input.retryAt ?? 0,
        leased_by: null,
        leased_until: null,
      })
      .where('id', 'in', [...input.ids])
      .where('status', '=', 'pending')
      .execute();
  });
}

/** Puts an event back to work, whatever it came to before. */
export async function replayEvent(
  store: Store,
  { id, ...by }: By & { id: string },
): Promise<'replayed' | 'already_waiting' | 'not_found'> {
  return inOneStep(store, async (step) => {
    const { trx, now } = step;
    const event = await trx
      .selectFrom('events')
      .select(['status', 'type', 'next_attempt_at'])
      .where('id', '=', id)
      .executeTakeFirst();
    if (!event) return 'not_found';
    if (event.status === 'pending' && event.next_attempt_at <= now) return 'already_waiting';
    await trx
      .updateTable('events')
      .set({ status: 'pending', attempts: 0, next_attempt_at: now, received_at: now, processed_at: null })
      .where('id', '=', id)
      .execute();
    await step.audit({
      ...by,
      action: 'event.replayed',
      details: { event: id, type: event.type },
    });
    return 'replayed';
  });
}

/** Keeps events that this process is at for `leaseMs` more; what another has taken over meanwhile stays with it. */
export async function renewLeases(
  store: Store,
  input: { owner: string; ids: readonly string[]; leaseMs: number },
): Promise<void> {
  await inOneStep(store, async ({ trx, now }) => {
    await trx
      .updateTable('events')
      .set({ leased_until: now + input.leaseMs })
      .where('id', 'in', [...input.ids])
      .where('status', '=', 'pending')
      .where('leased_by', '=', input.owner)
      .execute();
  });
}

/** Gives back what a worker that stops had leased, so that the next one need not wait for the leases to run out. */
export async function releaseLeases(store: Store, owner: string): Promise<void> {
  await inOneStep(store, async ({ trx }) => {
    await trx
      .updateTable('events')
      .set({ leased_by: null, leased_until: null })
      .where('leased_by', '=', owner)
      .where('status', '=', 'pending')
      .execute();
  });
}

/** Forgets events that were processed before a moment. Failed ones stay until somebody has dealt with them. */
export async function forgetEvents({ trx }: Step, before: number): Promise<void> {
  await trx
    .deleteFrom('events')
    .where('status', '=', 'processed')
    .where('processed_at', '<', before)
    .execute();
}

/** How the inbox stands: events waiting, events failed for good. */
export async function inboxDepth(store: Store): Promise<{ pending: number; failed: number }> {
  const rows = await store.db
    .selectFrom('events')
    .select(({ fn }) => ['status', fn.countAll<number>().as('n')])
    .where('status', 'in', ['pending', 'failed'])
    .groupBy('status')
    .execute();
  const count = (status: string) => Number(rows.find((row) => row.status === status)?.n ?? 0);
  return { pending: count('pending'), failed: count('failed') };
}

/** Since when the event waits that has waited longest, milliseconds since the epoch; `null`: none waits. */
export async function oldestPendingSince(store: Store): Promise<number | null> {
  const row = await store.db
    .selectFrom('events')
    .select(({ fn }) => fn.min('received_at').as('since'))
    .where('status', '=', 'pending')
    .executeTakeFirst();
  return row?.since == null ? null : Number(row.since);
}

/** An event as the operator sees it. */
export async function findEvent(store: Store, id: string): Promise<EventRecord | undefined> {
  return (await recordsOf(store.db).where('id', '=', id).execute())[0];
}

/**
 * Events of a status, a type, or all, the newest first.
 *
 * @param filter.before only events received before this one, for paging
 */
export async function listEvents(
  store: Store,
  filter: { status?: EventStatus; type?: string; before?: { receivedAt: number; id: string }; limit: number },
): Promise<EventRecord[]> {
  const { status, type, before } = filter;
  let query = recordsOf(store.db).orderBy('received_at', 'desc').orderBy('id', 'desc').limit(filter.limit);
  if (status) query = query.where('status', '=', status);
  if (type) query = query.where('type', '=', type);
  if (before) query = query.where(sql<boolean>`(received_at, id) < (${before.receivedAt}, ${before.id})`);
  return query.execute();
}

function recordsOf(db: Store['db']) {
  return db
    .selectFrom('events')
    .select([
      'id',
      'type',
      'status',
      'outcome',
      'attempts',
      'error',
      'created_at as createdAt',
      'received_at as receivedAt',
      'next_attempt_at as nextAttemptAt',
      'request_id as requestId',
      'payload',
    ]);
}

/** Once a session's purchase is provisioned, its events have nothing left to say: whatever waits or failed is closed. */
export async function closeSessionEvents({ trx, now }: Step, hash: string): Promise<void> {
  await trx
    .updateTable('events')
    .set(done('provisioned', now))
    .where('object_id', '=', `${SESSION}:${hash}`)
    .where('status', '!=', 'processed')
    .execute();
}

/** What was said of a customer before anything was bought here was taken for another product's. It is looked into again. */
export async function reopenCustomerEvents({ trx, now }: Step, stripeCustomerId: string): Promise<void> {
  await trx
    .updateTable('events')
    .set({ status: 'pending', outcome: null, attempts: 0, next_attempt_at: now, processed_at: null })
    .where('object_id', 'in', [`customer:${stripeCustomerId}`, `entitlements:${stripeCustomerId}`])
    .where('status', '=', 'processed')
    .where('outcome', '=', 'not_ours')
    .execute();
}

function done(outcome: string, now: number) {
  return {
    status: 'processed' as const,
    outcome,
    error: null,
    leased_by: null,
    leased_until: null,
    processed_at: now,
  };
}

/** The kind of object that is named by its hash: the id of a checkout session opens a sealed key. */
const SESSION = 'session';

function keyOf({ kind, id }: EventObject): string {
  return `${kind}:${kind === SESSION ? sessionHash(id) : id}`;
}
