import { sql } from 'kysely';
import type { TrafficKind } from './schema.ts';
import { inOneStepAside, type Step, type Store } from './store.ts';
import { HOUR_MS } from './usage-ledger.ts';

/** How often something happened in one hour (hours since the epoch, UTC), in all gateways together. */
export type TrafficCount = { hour: number; what: TrafficKind; name: string; count: number };

/** The same over a stretch of time that begins at `from`, milliseconds since the epoch. */
export type Traffic = { from: number; what: TrafficKind; name: string; count: number };

const HOURS_IN_DAY = 24;
const DAY_MS = HOUR_MS * HOURS_IN_DAY;

/** How long single hours are kept; days are kept for longer, as there are fewer. */
export const TRAFFIC_KEPT_DAYS = { byHour: 90, byDay: 1100 } as const;

/**
 * Adds to what gateways did: all of it, or nothing. Hours and days are added up here, each in a table of its own, so that a page
 * over a year reads some hundred days and a gateway writes some dozen rows, however many keys there are.
 *
 * @param counts no two of the same hour, kind and name
 */
export async function recordTraffic(store: Store, counts: readonly TrafficCount[]): Promise<void> {
  if (counts.length === 0) return;
  const byHour = counts.map(({ hour, ...counted }) => ({ time: hour, ...counted }));
  const byDay = addedUp(counts, ({ hour }) => Math.floor(hour / HOURS_IN_DAY));
  await inOneStepAside(store, async ({ trx }) => {
    await add(trx, 'hour', byHour);
    await add(trx, 'day', byDay);
  });
}

/**
 * What gateways did, in stretches of an hour, a day or a calendar month (UTC), the oldest first; what never happened is left
 * out.
 *
 * @param input.since milliseconds since the epoch; the stretch that contains it is whole
 */
export async function traffic(
  store: Store,
  input: { by: 'hour' | 'day' | 'month'; since: number },
): Promise<Traffic[]> {
  if (input.by === 'month') {
    const days = await read(store, 'day', monthOf(input.since));
    return addedUp(days, ({ time }) => monthOf(time)).map(trafficOf);
  }
  return (await read(store, input.by, input.since)).map(trafficOf);
}

/** Forgets hours and days of which nobody asks any more. */
export async function forgetTraffic({ trx, now }: Step): Promise<void> {
  const firstHour = Math.floor(now / HOUR_MS) - TRAFFIC_KEPT_DAYS.byHour * HOURS_IN_DAY;
  await trx.deleteFrom('traffic_by_hour').where('hour', '<', firstHour).execute();
  const firstDay = Math.floor(now / DAY_MS) - TRAFFIC_KEPT_DAYS.byDay;
  await trx.deleteFrom('traffic_by_day').where('day', '<', firstDay).execute();
}

type Row = { time: number; what: TrafficKind; name: string; count: number };

const TABLES = {
  hour: { name: 'traffic_by_hour', unitMs: HOUR_MS },
  day: { name: 'traffic_by_day', unitMs: DAY_MS },
} as const;

/** Rows written by one statement. */
const BATCH = 500;

async function add(trx: Step['trx'], by: 'hour' | 'day', rows: readonly Row[]): Promise<void> {
  const table = sql.ref(TABLES[by].name);
  // In the same order everywhere: two processes that wrote the same rows in different orders would wait for each other.
  const ordered = rows.toSorted((a, b) => a.time - b.time || order(a.what, b.what) || order(a.name, b.name));
  // After an outage of days there are many, and a database takes only so many parameters at once.
  for (let start = 0; start < ordered.length; start += BATCH) {
    const values = ordered
      .slice(start, start + BATCH)
      .map(
        ({ time, what, name, count }) =>
          sql`(cast(${time} as integer), ${what}, ${name}, cast(${count} as bigint))`,
      );
    await sql`
      insert into ${table} (${sql.ref(by)}, what, name, count) values ${sql.join(values)}
      on conflict (${sql.ref(by)}, what, name) do update set count = ${table}.count + excluded.count`.execute(
      trx,
    );
  }
}

/** `time` of what is read is in milliseconds. */
async function read({ db }: Store, by: 'hour' | 'day', since: number): Promise<Row[]> {
  const { name, unitMs } = TABLES[by];
  const time = sql.ref(by);
  const { rows } = await sql<Row>`
    select ${time} as time, what, name, count from ${sql.ref(name)}
    where ${time} >= ${Math.floor(since / unitMs)}
    order by ${time}, what, name`.execute(db);
  return rows.map((row) => ({ ...row, time: row.time * unitMs, count: Number(row.count) }));
}

/** Counts of the same kind and name that fall into the same stretch, as one. */
function addedUp<Counted extends { what: TrafficKind; name: string; count: number }>(
  counts: readonly Counted[],
  timeOf: (counted: Counted) => number,
): Row[] {
  const sums = new Map<string, Row>();
  for (const counted of counts) {
    const { what, name, count } = counted;
    const time = timeOf(counted);
    const key = `${time} ${what} ${name}`;
    const sum = sums.get(key);
    if (sum) sum.count += count;
    else sums.set(key, { time, what, name, count });
  }
  return [...sums.values()];
}

function trafficOf({ time, ...counted }: Row): Traffic {
  return { from: time, ...counted };
}

/** Where the calendar month (UTC) begins that contains a moment, milliseconds. */
function monthOf(timeMs: number): number {
  const date = new Date(timeMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
}

function order(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
