import { sql } from 'kysely';
import type { OpenDatabase } from './database.ts';
import { inOneStepAside, type Step, type Store } from './store.ts';

/** What one key consumed in one hour (hours since the epoch, UTC). */
export type UsageRow = { keyId: string; hour: number; requests: number; refused: number };

/**
 * Rows to add to the ledger, some hundred at a time. With an id they are added once, however often they are handed in: so
 * whoever got no answer, and cannot know whether they are there, hands in the same ones again.
 */
export type UsageBatch<Row extends UsageRow> = readonly Row[] & { readonly batchId?: string };

export const HOUR_MS = 3_600_000;
/** How long the ids of batches are kept. Whoever has had no answer for longer has its batch added once more. */
const BATCH_KEPT_MS = 24 * HOUR_MS;

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
 * Adds usage to the ledger: all of it, or nothing. Other writers wait for it, so hand it some hundred rows at a time.
 *
 * @param rows no two of the same key and hour
 * @param onWritten gets each row once all are committed, with the hour's total over all processes; also when they were
 *   committed before
 */
export async function recordUsage<Row extends UsageRow>(
  store: Store,
  rows: UsageBatch<Row>,
  onWritten: (row: Row, totalRequests: number) => void,
): Promise<void> {
  const usage: Usage = {
    batchId: rows.batchId ?? null,
    at: store.now(),
    keyIds: rows.map(({ keyId }) => keyId),
    hours: rows.map(({ hour }) => hour),
    requests: rows.map(({ requests }) => requests),
    refused: rows.map(({ refused }) => refused),
  };
  const totals = await store.addUsage(usage);
  // Of two hours of a key, the earlier one first: whoever counts learns from the later one what others counted since.
  const inOrder = [...rows.keys()].sort((a, b) => (usage.hours[a] as number) - (usage.hours[b] as number));
  for (const i of inOrder) onWritten(rows[i] as Row, totals[i] as number);
}

/** The rows of a batch, column by column: it is sent to another thread where there is one, and rows take several times as long. */
export type Usage = {
  batchId: string | null;
  /** Milliseconds since the epoch. */
  at: number;
  keyIds: readonly string[];
  hours: readonly number[];
  requests: readonly number[];
  refused: readonly number[];
};

/** Adds usage, all of it or nothing. Resolves to the total of each row's key in its hour, once it is committed. */
export type AddUsage = (usage: Usage) => Promise<number[]>;

/** The database as the ledger is written with it. */
type Ledger = Pick<OpenDatabase, 'writer' | 'enter' | 'entriesOf' | 'valuesOf'>;

/** Adds usage in a transaction of this process, or of this thread. */
export async function addUsage(ledger: Ledger, usage: Usage): Promise<number[]> {
  const { batchId, at, keyIds, hours, requests, refused } = usage;
  const rows = keyIds.map((keyId, i) => ({
    i,
    keyId,
    hour: hours[i] as number,
    requests: requests[i] as number,
    refused: refused[i] as number,
  }));
  // In the same order everywhere: two processes that wrote the same rows in different orders would wait for each other.
  rows.sort((a, b) => a.hour - b.hour || (a.keyId < b.keyId ? -1 : 1));
  const byHour = [...Map.groupBy(rows, ({ hour }) => hour)];
  return inOneStepAside({ ...ledger, now: () => at }, async (step) => {
    const isNew = batchId === null || (await noteBatch(ledger, step, batchId));
    // Without holes: a list that began as empty places takes several times as long to send to another thread.
    const totals = requests.slice();
    for (const [hour, ofHour] of byHour) {
      const ofKeys = await (isNew ? add : totalsOf)(ledger, step.trx, hour, ofHour);
      for (const [n, row] of ofHour.entries()) totals[row.i] = ofKeys[n] as number;
    }
    return totals;
  });
}

/** What a rotation chain consumed by day (days since the epoch, UTC), from `sinceDay` on; days without any are left out. */
export async function usageByDay(
  store: Store,
  input: { rootId: string; sinceDay: number },
): Promise<{ day: number; requests: number; refused: number }[]> {
  const { rows } = await sql<{ day: number; requests: number | string; refused: number | string }>`
    select usage.hour / 24 as day, sum(usage.requests) as requests, sum(usage.refused) as refused
    from usage
    where usage.key_id in (select chain.id from keys as chain where chain.root_id = ${input.rootId})
      and usage.hour >= ${input.sinceDay * 24}
    group by usage.hour / 24
    order by 1`.execute(store.db);
  return rows.map(({ day, requests, refused }) => ({
    day,
    requests: Number(requests),
    refused: Number(refused),
  }));
}

/** The hour in which a process last forgot old batches, by what it writes with. */
const forgotIn = new WeakMap<Ledger['writer'], number>();

/** Whether a batch is new: it is noted then. One that another connection is just writing is waited for. */
async function noteBatch(
  { writer }: Ledger,
  { trx, now }: Pick<Step, 'trx' | 'now'>,
  id: string,
): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await trx
    .insertInto('usage_batches')
    .values({ id, at: now })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirstOrThrow();
  const hour = hourOf(now);
  if (forgotIn.get(writer) !== hour) {
    await trx
      .deleteFrom('usage_batches')
      .where('at', '<', now - BATCH_KEPT_MS)
      .execute();
    forgotIn.set(writer, hour);
  }
  return numInsertedOrUpdatedRows === 1n;
}

/** What keys consumed in one hour, in the order of the rows. */
async function totalsOf(
  { valuesOf }: Ledger,
  trx: Step['trx'],
  hour: number,
  rows: readonly UsageRow[],
): Promise<number[]> {
  const keyIds = JSON.stringify(rows.map(({ keyId }) => keyId));
  const there = await trx
    .selectFrom('usage')
    .select(['key_id', 'requests'])
    .where('hour', '=', hour)
    .where('key_id', 'in', valuesOf(keyIds))
    .execute();
  const totals = new Map(there.map(({ key_id, requests }) => [key_id, Number(requests)]));
  return rows.map(({ keyId, requests }) => totals.get(keyId) ?? requests);
}

/** Adds what keys consumed in one hour. Returns the total of each in that hour, in the order of the rows. */
async function add(
  { entriesOf }: Ledger,
  trx: Step['trx'],
  hour: number,
  rows: readonly UsageRow[],
): Promise<number[]> {
  const { rows: added } = await sql<{ key_id: string; requests: number | string }>`
    insert into usage (key_id, hour, requests, refused)
    select key, cast(${hour} as integer), cast(value as bigint), 0
    from ${entriesOf(object(rows, 'requests'))} as counted where true
    on conflict (key_id, hour) do update set requests = usage.requests + excluded.requests
    returning key_id, requests`.execute(trx);
  const refused = rows.filter((row) => row.refused !== 0);
  if (refused.length > 0) {
    await sql`
      insert into usage (key_id, hour, requests, refused)
      select key, cast(${hour} as integer), 0, cast(value as bigint)
      from ${entriesOf(object(refused, 'refused'))} as counted where true
      on conflict (key_id, hour) do update set refused = usage.refused + excluded.refused`.execute(trx);
  }
  // They come in the order of the rows, which no database promises.
  if (rows.every(({ keyId }, i) => added[i]?.key_id === keyId))
    return added.map(({ requests }) => Number(requests));
  const totals = new Map(added.map(({ key_id, requests }) => [key_id, Number(requests)]));
  return rows.map(({ keyId, requests }) => totals.get(keyId) ?? requests);
}

/**
 * Counts by key, as JSON. One parameter makes one statement for any number of rows, and SQLite reads plain numbers in it twice
 * as fast as lists.
 */
function object(rows: readonly UsageRow[], what: 'requests' | 'refused'): string {
  return `{${rows.map((row) => `${JSON.stringify(row.keyId)}:${row[what]}`).join()}}`;
}
