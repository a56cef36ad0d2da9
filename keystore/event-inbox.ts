import type { Mode } from '../shared/keys.ts';
import { redact } from '../shared/log.ts';
import type { EventTable } from './schema.ts';
import { sessionHash } from './session-hash.ts';
import { inOneStep, type Step, type Store } from './store.ts';

/** A Stripe event as received. */
export type ReceivedEvent = {
  id: string;
  type: string;
  mode: Mode;
  apiVersion: string | null;
  /** The id of the object the event is about: what to look at. Of a checkout session only the hash is kept. */
  objectId: string | null;
  /** The body as it came. Kept with session ids blanked out. */
  payload: string;
  /** When Stripe made it, milliseconds. */
  createdAt: number;
};

/** An event that this process holds the lease of. `objectId` is `null` for a checkout session: ask Stripe for the event. */
export type LeasedEvent = {
  id: string;
  type: string;
  objectId: string | null;
  attempts: number;
  receivedAt: number;
};

/** Outcomes that may be others once the seller has mapped a price. */
const WORTH_ANOTHER_LOOK = new Set(['not_ours', 'not_found']);

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
    const row: EventTable = {
      id: event.id,
      type: event.type,
      mode: event.mode,
      api_version: event.apiVersion,
      object_id: event.objectId && nameOf(event.objectId),
      payload: redact(event.payload),
      status: 'pending',
      outcome: null,
      attempts: 0,
      next_attempt_at: now,
      leased_by: null,
      leased_until: null,
      error: null,
      created_at: event.createdAt,
      received_at: now,
      processed_at: null,
    };
    await trx
      .insertInto('events')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
      .execute();
    return existing ? 'requeued' : 'received';
  });
}

/**
 * Takes up to `limit` events that are due, for `leaseMs`. No other process gets them meanwhile; when this one dies, the
 * lease runs out and another takes over.
 */
export async function leaseEvents(
  store: Store,
  input: { owner: string; limit: number; leaseMs: number },
): Promise<LeasedEvent[]> {
  // Looking first keeps an idle worker from taking the write lock.
  if ((await dueEvents(store.db, store.now(), 1)).length === 0) return [];
  return inOneStep(store, async ({ trx, now }) => {
    const due = await dueEvents(trx, now, input.limit);
    if (due.length === 0) return [];
    await trx
      .updateTable('events')
      .set((eb) => ({
        leased_by: input.owner,
        leased_until: now + input.leaseMs,
        attempts: eb('attempts', '+', 1),
      }))
      .where(
        'id',
        'in',
        due.map((event) => event.id),
      )
      .execute();
    return due.map(({ id, type, object_id, attempts, received_at }) => ({
      id,
      type,
      objectId: object_id?.startsWith(SESSION_PREFIX) ? null : object_id,
      attempts: attempts + 1,
      receivedAt: received_at,
    }));
  });
}

function dueEvents(db: Store['db'], now: number, limit: number) {
  return db
    .selectFrom('events')
    .select(['id', 'type', 'object_id', 'attempts', 'received_at'])
    .where('status', '=', 'pending')
    .where('next_attempt_at', '<=', now)
    .where((where) => where.or([where('leased_until', 'is', null), where('leased_until', '<=', now)]))
    .orderBy('next_attempt_at')
    .limit(limit)
    .execute();
}

/** Marks an event done, with what it came to. */
export async function completeEvent(store: Store, input: { id: string; outcome: string }): Promise<void> {
  await inOneStep(store, async ({ trx, now }) => {
    await trx.updateTable('events').set(done(input.outcome, now)).where('id', '=', input.id).execute();
  });
}

/**
 * Notes that work on an event failed: to be tried again at `retryAt`, or failed for good (`null`), in which case it is
 * kept for the operator and for a resend.
 */
export async function failEvent(
  store: Store,
  input: { id: string; outcome: string; error: string; retryAt: number | null },
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
      .where('id', '=', input.id)
      .where('status', '=', 'pending')
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

/** An event as the operator sees it. */
export async function findEvent(
  store: Store,
  id: string,
): Promise<
  Pick<EventTable, 'id' | 'type' | 'status' | 'outcome' | 'attempts' | 'error' | 'payload'> | undefined
> {
  return store.db
    .selectFrom('events')
    .select(['id', 'type', 'status', 'outcome', 'attempts', 'error', 'payload'])
    .where('id', '=', id)
    .executeTakeFirst();
}

/** Once a session's purchase is provisioned, its events have nothing left to say: whatever waits or failed is closed. */
export async function closeSessionEvents({ trx, now }: Step, hash: string): Promise<void> {
  await trx
    .updateTable('events')
    .set(done('provisioned', now))
    .where('object_id', '=', SESSION_PREFIX + hash)
    .where('status', '!=', 'processed')
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

/** How `object_id` names a checkout session. */
const SESSION_PREFIX = 'session:';

function nameOf(objectId: string): string {
  return /^cs_(live|test)_/.test(objectId) ? SESSION_PREFIX + sessionHash(objectId) : objectId;
}
