import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, event, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';

afterEach(closeKeystores);

const DAY_MS = 86_400_000;
/** `EVENTS=1000000 FIGURES=1` says how long it takes among so many. */
const EVENTS = Number(process.env.EVENTS ?? 60_000);
const NOW = 1_790_000_000_000;

describe('types of events', () => {
  it('of an empty inbox there are none', async () => {
    expect(await (await keystore()).eventTypes()).toEqual([]);
  });

  it('each is known with its newest event, how many came in 30 days, and how many have failed', async () => {
    let time = NOW - 40 * DAY_MS;
    const store = await keystore({ now: () => time });
    const receive = (id: string, type: string) => store.receiveEvent({ ...event(id), type });
    await receive('evt_1', 'invoice.paid');
    await receive('evt_2', 'customer.deleted');
    time = NOW;
    for (const id of ['evt_3', 'evt_4', 'evt_5']) await receive(id, 'invoice.paid');
    await store.failEvents({ ids: ['evt_1', 'evt_4'], outcome: 'x', error: 'x', retryAt: null });
    await receive('evt_6', '<b>made.up</b>');
    expect(await store.eventTypes()).toEqual([
      { type: '<b>made.up</b>', lastReceivedAt: NOW, recent: 1, failed: 0 },
      { type: 'customer.deleted', lastReceivedAt: NOW - 40 * DAY_MS, recent: 0, failed: 0 },
      { type: 'invoice.paid', lastReceivedAt: NOW, recent: 3, failed: 2 },
    ]);
  });

  it('of many events of a type it is enough to know that there are many', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url, now: () => NOW });
    await rawQuery(
      url,
      `with recursive n(i) as (select 1 union all select i + 1 from n where i < ${EVENTS})
       insert into events (id, group_key, type, mode, payload, status, attempts, next_attempt_at, created_at, received_at)
       select 'evt_' || i, 'evt_' || i, 'type.' || (i % 40 + 10), 'test', '{}',
         case when i % 5 = 0 then 'failed' else 'processed' end, 1, 0, ${NOW} - i, ${NOW} - i
       from n`,
    );
    const began = performance.now();
    const types = await store.eventTypes();
    if (process.env.FIGURES) console.log(`${url.split(':')[0]}: ${performance.now() - began} ms`);
    expect(types).toHaveLength(40);
    expect(types.every(({ recent }) => recent === 1000)).toBe(true);
    expect(types.reduce((sum, { failed }) => sum + failed, 0)).toBe(1000);
  });
});
