import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
import { needsPostgres, newPostgresUrl } from '../test/services.ts';

afterEach(closeKeystores);

describe('usage ledger', () => {
  it('adds up over processes and tells each the total', async () => {
    const url = newKeystoreUrl();
    const [a, b] = [await keystore({ url }), await keystore({ url })];
    const totals: number[] = [];
    const rows = Array.from({ length: 250 }, (_, i) => ({
      keyId: `key${i}`,
      hour: 7,
      requests: 2,
      refused: 1,
    }));
    await a.recordUsage(rows, (_row, total) => totals.push(total));
    await b.recordUsage(rows, (_row, total) => totals.push(total));
    expect(totals).toHaveLength(500);
    expect(totals.slice(0, 250).every((total) => total === 2)).toBe(true);
    expect(totals.slice(250).every((total) => total === 4)).toBe(true);
  });

  it('adds a batch that comes again once, and tells the totals as they are by now', async () => {
    const url = newKeystoreUrl();
    const [a, b] = [await keystore({ url }), await keystore({ url })];
    const rows = ['key1', 'key2', 'key3'].map((keyId, i) => ({
      keyId,
      hour: 7 + (i % 2),
      requests: 2,
      refused: 1,
    }));
    const totals = async (store: typeof a, batchId?: string) => {
      const told: Record<string, number> = {};
      const batch = batchId === undefined ? rows : Object.assign(rows.slice(), { batchId });
      await store.recordUsage(batch, ({ keyId }, total) => {
        told[keyId] = total;
      });
      return told;
    };
    const all = (total: number) => ({ key1: total, key2: total, key3: total });
    expect(await totals(a, 'a-1')).toEqual(all(2));
    expect(await totals(a, 'a-1')).toEqual(all(2));
    expect(await totals(b, 'b-1')).toEqual(all(4));
    expect(await totals(b)).toEqual(all(6));
    expect(await Promise.all([totals(a, 'a-1'), totals(b, 'a-1')])).toEqual([all(6), all(6)]);
    await Promise.all([totals(a, 'a-2'), totals(b, 'a-2')]);
    const sums = await rawQuery(url, 'select distinct requests, refused from usage');
    expect(sums.map(({ requests, refused }) => [Number(requests), Number(refused)])).toEqual([[8, 4]]);
  });

  it('adds once what PostgreSQL committed without being able to say so', async (context) => {
    needsPostgres(context);
    const url = newPostgresUrl();
    const { hostname, port } = new URL(url);
    let breaks = false;
    const link = createServer((client) => {
      const server = connect(Number(port || 5432), hostname);
      let committing = false;
      client.on('data', (data) => {
        committing ||= breaks && data.includes('commit');
        server.write(data);
      });
      server.on('data', (data) => {
        if (!committing) client.write(data);
        else {
          breaks = false;
          client.destroy();
        }
      });
      for (const [one, other] of [
        [client, server],
        [server, client],
      ] as const) {
        one.on('error', () => {});
        one.on('close', () => other.destroy());
      }
    });
    link.listen(0, '127.0.0.1');
    await once(link, 'listening');
    onTestFinished(() => void link.close());
    const through = new URL(url);
    through.hostname = '127.0.0.1';
    through.port = String((link.address() as AddressInfo).port);
    const store = await keystore({ url: through.href });
    const batch = Object.assign([{ keyId: 'key1', hour: 7, requests: 100, refused: 0 }], { batchId: 'a-1' });
    const totals: number[] = [];
    const write = () => store.recordUsage(batch, (_row, total) => totals.push(total));
    breaks = true;
    await expect(write()).rejects.toThrow();
    const used = async () =>
      (await rawQuery(url, 'select requests from usage')).map((row) => Number(row.requests));
    expect(await used()).toEqual([100]);
    await write();
    expect(totals).toEqual([100]);
    expect(await used()).toEqual([100]);
  });

  it('forgets after a day which batches there were', async () => {
    let time = Date.UTC(2026, 10, 30, 23, 59);
    const url = newKeystoreUrl();
    const store = await keystore({ url, now: () => time });
    const write = (batchId: string) =>
      store.recordUsage(
        Object.assign([{ keyId: 'key1', hour: 7, requests: 1, refused: 0 }], { batchId }),
        () => {},
      );
    const known = async () =>
      (await rawQuery(url, 'select id from usage_batches order by id')).map(({ id }) => id);
    await write('a-1');
    time += 23 * 3_600_000;
    await write('a-2');
    expect(await known()).toEqual(['a-1', 'a-2']);
    time += 2 * 3_600_000;
    await write('a-3');
    expect(await known()).toEqual(['a-2', 'a-3']);
  });

  it('counts a calendar month and no more', async () => {
    const time = Date.UTC(2026, 10, 30, 23, 59);
    const url = newKeystoreUrl();
    const november = await keystore({ url, now: () => time });
    const key = await november.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'p',
      name: null,
      expiresAt: null,
      actor: 't',
    });
    const hour = Math.floor(time / 3_600_000);
    await november.recordUsage(
      [
        { keyId: key.id, hour, requests: 5, refused: 0 },
        { keyId: key.id, hour: hour - 24 * 30, requests: 100, refused: 0 },
      ],
      () => {},
    );
    expect(await november.findKeyFacts(key.id)).toMatchObject({
      usedThisMonth: 5,
      usedThisHour: 5,
      readInHour: hour,
    });
    const december = await keystore({ url, now: () => time + 60_000 });
    expect(await december.findKeyFacts(key.id)).toMatchObject({
      usedThisMonth: 0,
      usedThisHour: 0,
      readInHour: hour + 1,
    });
  });
});
