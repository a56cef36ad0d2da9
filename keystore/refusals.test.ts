import fc from 'fast-check';
import { afterEach, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
import type { Refusal } from './keystore.ts';
import { KEPT_OF_A_KEY, REFUSALS_KEPT_DAYS } from './refusals.ts';

afterEach(closeKeystores);

let count = 0;
function refusal(more: Partial<Refusal> = {}): Refusal {
  return {
    at: Date.now(),
    requestId: `request-${++count}`,
    keyId: 'abcdefghijkl',
    code: 'rate_limited',
    detail: 'The plan Small allows 5 requests a hour.',
    method: 'GET',
    host: 'api.example.com',
    path: '/v1/items',
    route: 'default',
    address: '192.0.2.1',
    ...more,
  };
}

it('keeps what it was told, and finds it by key and by request', async () => {
  const store = await keystore();
  const [first, second] = [refusal(), refusal({ code: 'quota_exceeded', detail: null, route: null })];
  await store.recordRefusals([first, second]);
  const stranger = refusal({ keyId: null, code: 'missing_key' });
  await store.recordRefusals([stranger]);
  expect(await store.listRefusals({ keyId: 'abcdefghijkl', limit: 9 })).toEqual([second, first]);
  expect(await store.listRefusals({ keyId: 'abcdefghijkl', limit: 1 })).toEqual([second]);
  expect(await store.findRefusal(stranger.requestId)).toEqual(stranger);
  expect(await store.findRefusal('another')).toBeUndefined();
});

it('of each key the last ones stay, in whatever batches they come, from whatever process', async () => {
  const url = newKeystoreUrl();
  const stores = [await keystore({ url }), await keystore({ url })];
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 40 }), {
        minLength: 1,
        maxLength: 6,
      }),
      async (batches) => {
        await rawQuery(url, 'delete from refusals');
        const all: Refusal[] = [];
        for (const [i, batch] of batches.entries()) {
          const refusals = batch.map((key) => refusal({ keyId: `key${key}` }));
          all.push(...refusals);
          await stores[i % 2]?.recordRefusals(refusals);
        }
        for (const keyId of ['key0', 'key1', 'key2']) {
          const last = all.filter((each) => each.keyId === keyId).slice(-KEPT_OF_A_KEY);
          expect(await stores[0]?.listRefusals({ keyId, limit: 100 })).toEqual(last.reverse());
        }
      },
    ),
    { numRuns: 25 },
  );
});

it('requests without a known key share one ring', async () => {
  const url = newKeystoreUrl();
  const store = await keystore({ url });
  for (let i = 0; i < 6; i++)
    await store.recordRefusals(Array.from({ length: 200 }, () => refusal({ keyId: null })));
  const [row] = await rawQuery(url, "select count(*) as n from refusals where key_id = ''");
  expect(Number((row as { n: number }).n)).toBe(1000);
});

it('holds no secret that a client put where none belongs, and no more than a little of what it sent', async () => {
  const url = newKeystoreUrl();
  const store = await keystore({ url });
  const key = `tg_test_${'a1'.repeat(25)}`;
  const path = `/v1/${key}/${'x'.repeat(5000)}\0`;
  await store.recordRefusals([refusal({ path, host: key, requestId: key, detail: `No ${key}` })]);
  const rows = JSON.stringify(await rawQuery(url, 'select * from refusals'));
  expect(rows).not.toContain('a1a1');
  expect(rows.length).toBeLessThan(1000);
});

it('is forgotten after some days', async () => {
  let now = Date.now();
  const store = await keystore({ now: () => now });
  const old = refusal({ at: now });
  await store.recordRefusals([old]);
  now += REFUSALS_KEPT_DAYS * 86_400_000 + 1;
  const young = refusal({ at: now });
  await store.recordRefusals([young]);
  await store.sweep();
  expect(await store.findRefusal(old.requestId)).toBeUndefined();
  expect(await store.findRefusal(young.requestId)).toEqual(young);
});
