import { sql } from 'kysely';
import { inOneStep, type Store } from './store.ts';

/** What one key consumed in one hour (hours since the epoch, UTC). */
export type UsageRow = { keyId: string; hour: number; requests: number; refused: number };

export const HOUR_MS = 3_600_000;

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
 * Adds usage to the ledger: all of it, or nothing. SQLite does that while the process waits, so hand it some hundred rows
 * at a time.
 *
 * @param rows no two of the same key and hour
 * @param onWritten gets each row once all are committed, with the hour's total over all processes
 */
export async function recordUsage<Row extends UsageRow>(
  store: Store,
  rows: readonly Row[],
  onWritten: (row: Row, totalRequests: number) => void,
): Promise<void> {
  const { rows: totals } = await inOneStep(store, ({ trx }) => upsert(rows).execute(trx));
  // They come in the order of the rows, which no database promises.
  const inOrder = rows.every(({ keyId, hour }, i) => {
    const total = totals[i];
    return total?.key_id === keyId && total.hour === hour;
  });
  const totalOf = new Map(
    inOrder ? [] : totals.map(({ key_id, hour, requests }) => [`${key_id} ${hour}`, Number(requests)]),
  );
  for (const [i, row] of rows.entries()) {
    const total = inOrder ? Number(totals[i]?.requests) : totalOf.get(`${row.keyId} ${row.hour}`);
    onWritten(row, total ?? row.requests);
  }
}

/** One statement and one parameter for any number of rows: built of so many values each, it cost more than SQLite's work. */
function upsert(rows: readonly UsageRow[]) {
  const values = rows.map(({ keyId, hour, requests, refused }) => [keyId, hour, requests, refused]);
  return sql<{ key_id: string; hour: number; requests: number | string }>`
    insert into usage (key_id, hour, requests, refused)
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(${JSON.stringify(values)}) where true
    on conflict (key_id, hour) do update
      set requests = usage.requests + excluded.requests, refused = usage.refused + excluded.refused
    returning key_id, hour, requests`;
}
