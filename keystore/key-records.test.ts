import { afterEach, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
import type { KeyCursor, Keystore } from './keystore.ts';

afterEach(closeKeystores);

/** More than are looked through for one page. */
const MANY = 70_000;

/** Keys of the plan `pro`, a few of a moment each; every 10,000th is `rare`, and every 20,000th revoked. */
async function withManyKeys(count: number): Promise<Keystore> {
  const url = newKeystoreUrl();
  const store = await keystore({ url });
  await rawQuery(
    url,
    `with recursive n(i) as (select 1 union all select i + 1 from n where i < ${count})
     insert into keys (id, root_id, mode, prefix, hash, tag, last_four, plan_id, created_at, revoked_at)
     select 'k' || (10000000000 + i), 'k' || (10000000000 + i), 'test', 'tg', 'x', 1, 'aaaa',
       case when i % 10000 = 1 then 'rare' else 'pro' end, i / 7, case when i % 20000 = 1 then 1 end
     from n`,
  );
  return store;
}

/** All pages of a list, as ids, and how many pages there were. */
async function walk(store: Keystore, filter: Omit<Parameters<Keystore['browseKeys']>[0], 'before'>) {
  const ids: string[] = [];
  let before: KeyCursor | undefined;
  let pages = 0;
  do {
    const { keys, next } = await store.browseKeys({ ...filter, ...(before && { before }) });
    expect(keys.length).toBeLessThanOrEqual(filter.limit);
    ids.push(...keys.map(({ id }) => id));
    before = next ?? undefined;
    pages++;
  } while (before !== undefined);
  return { ids, pages };
}
const idOf = (i: number) => `k${10_000_000_000 + i}`;

it('pages show every key once, newest first, also those of one moment', async () => {
  const store = await withManyKeys(300);
  const { ids, pages } = await walk(store, { limit: 50 });
  expect(ids).toEqual(Array.from({ length: 300 }, (_, i) => idOf(300 - i)));
  expect(pages).toBe(6);
});

it('few among very many are found page by page, none of which looks through all', async () => {
  const store = await withManyKeys(MANY);
  const rare = [60_001, 50_001, 40_001, 30_001, 20_001, 10_001, 1];
  const ofPlan = await walk(store, { limit: 50, planId: 'rare' });
  expect(ofPlan.ids).toEqual(rare.map(idOf));
  expect(ofPlan.pages).toBe(2);
  const admits = ({ planId }: { planId: string }) => planId === 'rare';
  const alive = await walk(store, { limit: 2, planId: 'rare', mayBe: { revoked: false }, admits });
  expect(alive.ids).toEqual([50_001, 30_001, 10_001].map(idOf));
  const revoked = await store.browseKeys({ limit: 50, mayBe: { revoked: true } });
  expect(revoked).toMatchObject({
    keys: [60_001, 40_001, 20_001, 1].map((i) => ({ id: idOf(i) })),
    next: null,
  });
  for (const i of [10_002, 50_002, 30_001]) await store.suspendKey({ id: idOf(i), note: null, actor: 't' });
  const bySeller = { limit: 50, mayBe: { revoked: false, bySeller: true as const } };
  // One look, however many keys lie between them.
  expect(await store.browseKeys(bySeller)).toMatchObject({
    keys: [50_002, 30_001, 10_002].map((i) => ({ id: idOf(i) })),
    next: null,
  });
  expect((await store.browseKeys({ ...bySeller, planId: 'rare' })).keys).toMatchObject([
    { id: idOf(30_001) },
  ]);
  expect((await walk(store, { limit: 50, mayBe: { revoked: false, orStatuses: [] } })).ids).toEqual(
    [50_002, 30_001, 10_002].map(idOf),
  );
  for (const i of [10_002, 50_002, 30_001]) await store.resumeKey({ id: idOf(i), actor: 't' });
  expect((await walk(store, { limit: 50, mayBe: { revoked: false, orStatuses: ['canceled'] } })).ids).toEqual(
    [],
  );
});

it('what is searched for is paged and filtered too', async () => {
  const store = await withManyKeys(120);
  const { ids, pages } = await walk(store, { limit: 50, matching: 'aaaa' });
  expect([ids.length, new Set(ids).size, pages]).toEqual([120, 120, 3]);
  expect((await store.browseKeys({ limit: 50, matching: 'aaaa', planId: 'rare' })).keys).toMatchObject([
    { id: idOf(1) },
  ]);
  expect(await store.browseKeys({ limit: 50, matching: 'bbbb' })).toEqual({ keys: [], next: null });
});
