import { sql } from 'kysely';
import { redact } from '../shared/log.ts';
import type { WhyRefusal } from '../shared/why.ts';
import type { RefusalTable } from './schema.ts';
import { inOneStepAside, type Step, type Store } from './store.ts';

/** A request that a gateway refused, or that failed in it. */
export type Refusal = WhyRefusal;

/** Refusals kept of each key, and of all requests without a known key together. */
export const KEPT_OF_A_KEY = 20;
const KEPT_WITHOUT_KEY = 1000;
/** Refusals kept in all, whatever the number of keys. */
const KEPT_IN_ALL = 200_000;
export const REFUSALS_KEPT_DAYS = 7;

/** Longer than any path that says something; what clients send may have many kilobytes. */
const MAX_TEXT = 300;

/**
 * Writes down refusals, and forgets the oldest of their keys beyond those that are kept. So the table is bounded, whatever is
 * refused and how often.
 */
export async function recordRefusals(store: Store, refusals: readonly Refusal[]): Promise<void> {
  if (refusals.length === 0) return;
  await inOneStepAside(store, async ({ trx }) => {
    await trx.insertInto('refusals').values(refusals.map(rowOf)).execute();
    const keyIds = JSON.stringify([...new Set(refusals.map(({ keyId }) => keyId ?? ''))]);
    await sql`
      delete from refusals where seq in (
        select seq from (
          select seq, key_id, row_number() over (partition by key_id order by seq desc) as place
          from refusals where key_id in ${store.valuesOf(keyIds)}
        ) as placed
        where place > case key_id when '' then ${sql.lit(KEPT_WITHOUT_KEY)} else ${sql.lit(KEPT_OF_A_KEY)} end
      )`.execute(trx);
    await sql`
      delete from refusals
      where seq <= (select max(seq) from refusals) - ${sql.lit(KEPT_IN_ALL)}`.execute(trx);
  });
}

/** The last refusals of a key, the newest first. */
export async function listRefusals(
  store: Store,
  input: { keyId: string; limit: number },
): Promise<Refusal[]> {
  const rows = await store.db
    .selectFrom('refusals')
    .selectAll()
    .where('key_id', '=', input.keyId)
    .orderBy('seq', 'desc')
    .limit(input.limit)
    .execute();
  return rows.map(refusalOf);
}

/** The refusal of a request, by its id; the newest, where a client sent several by the same. */
export async function findRefusal(store: Store, requestId: string): Promise<Refusal | undefined> {
  const row = await store.db
    .selectFrom('refusals')
    .selectAll()
    .where('request_id', '=', requestId)
    .orderBy('seq', 'desc')
    .limit(1)
    .executeTakeFirst();
  return row && refusalOf(row);
}

/** Among so many of the newest refusals the last of each code is looked for. */
const LOOKED_THROUGH = 2000;

/** The last refused request of each code, as far as it is among the newest. */
export async function lastRefusals({ db }: Store): Promise<{ code: string; requestId: string }[]> {
  const { rows } = await sql<{ code: string; requestId: string }>`
    select code, request_id as "requestId" from refusals where seq in (
      select max(seq) from (
        select seq, code from refusals order by seq desc limit ${sql.lit(LOOKED_THROUGH)}
      ) as newest
      group by code)`.execute(db);
  return rows;
}

/** Forgets refusals of which nobody asks any more. */
export async function forgetRefusals({ trx, now }: Step): Promise<void> {
  await trx
    .deleteFrom('refusals')
    .where('at', '<', now - REFUSALS_KEPT_DAYS * 86_400_000)
    .execute();
}

/** What a client sent may hold a secret where none belongs, and characters that neither a database nor a terminal is to get. */
function textOf(text: string): string {
  return redact(text.replace(/\p{Cc}/gu, '')).slice(0, MAX_TEXT);
}

function rowOf(refusal: Refusal): Omit<RefusalTable, 'seq'> {
  const { at, requestId, keyId, code, detail, method, host, path, route, address } = refusal;
  return {
    at,
    request_id: textOf(requestId),
    key_id: keyId ?? '',
    code,
    detail: detail === null ? null : textOf(detail),
    method,
    host: textOf(host),
    path: textOf(path),
    route,
    address,
  };
}

function refusalOf(row: Omit<RefusalTable, 'seq'>): Refusal {
  const { request_id: requestId, key_id: keyId, ...rest } = row;
  const { at, code, detail, method, host, path, route, address } = rest;
  return {
    at,
    requestId,
    keyId: keyId === '' ? null : keyId,
    code,
    detail,
    method,
    host,
    path,
    route,
    address,
  };
}
