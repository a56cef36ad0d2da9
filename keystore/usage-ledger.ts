import { inOneStep, type Store } from './store.ts';

/** What one key consumed in one hour (hours since the epoch, UTC). */
export type UsageRow = { keyId: string; hour: number; requests: number; refused: number };

export const HOUR_MS = 3_600_000;

/** Rows an insert: the database is released between batches, so that a busy minute does not hold everyone up. */
const BATCH = 100;

/** The hour that contains a moment. */
export function hourOf(timeMs: number): number {
  return Math.floor(timeMs / HOUR_MS);
}

/** The first hour of the calendar month (UTC) that contains a moment: where the month's quota begins. */
export function monthStartHour(timeMs: number): number {
  const date = new Date(timeMs);
  return hourOf(Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1));
}

/** The moment at which the quota of the month that contains `timeMs` renews. */
export function monthEndMs(timeMs: number): number {
  const date = new Date(timeMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

/**
 * Adds usage to the ledger. Batch by batch: when one fails, `onWritten` has been called for those that are in.
 *
 * @param onWritten gets each row committed, with the hour's total over all processes
 */
export async function recordUsage(
  store: Store,
  rows: readonly UsageRow[],
  onWritten: (row: UsageRow, totalRequests: number) => void,
): Promise<void> {
  for (let start = 0; start < rows.length; start += BATCH) {
    const batch = rows.slice(start, start + BATCH);
    const totals = await inOneStep(store, ({ trx }) =>
      trx
        .insertInto('usage')
        .values(
          batch.map(({ keyId, hour, requests, refused }) => ({ key_id: keyId, hour, requests, refused })),
        )
        .onConflict((conflict) =>
          conflict.columns(['key_id', 'hour']).doUpdateSet((eb) => ({
            requests: eb('usage.requests', '+', eb.ref('excluded.requests')),
            refused: eb('usage.refused', '+', eb.ref('excluded.refused')),
          })),
        )
        .returning(['key_id', 'hour', 'requests'])
        .execute(),
    );
    const totalOf = new Map(totals.map((total) => [`${total.key_id} ${total.hour}`, Number(total.requests)]));
    for (const row of batch) onWritten(row, totalOf.get(`${row.keyId} ${row.hour}`) ?? row.requests);
    if (start + BATCH < rows.length) await new Promise(setImmediate);
  }
}

/** Requests of a rotation chain since an hour. */
export async function usageSince(store: Store, rootId: string, hour: number): Promise<number> {
  const row = await store.db
    .selectFrom('usage')
    .innerJoin('keys', 'keys.id', 'usage.key_id')
    .select(({ fn }) => fn.sum<number | null>('usage.requests').as('requests'))
    .where('keys.root_id', '=', rootId)
    .where('hour', '>=', hour)
    .executeTakeFirst();
  return Number(row?.requests ?? 0);
}
