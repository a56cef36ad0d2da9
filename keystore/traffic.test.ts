import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { TRAFFIC_KEPT_DAYS, type TrafficCount } from './keystore.ts';

afterEach(closeKeystores);

const at = (text: string) => Date.parse(`${text}Z`);
const hour = (text: string) => at(text) / 3_600_000;
const forwarded = (when: string, count: number): TrafficCount => ({
  hour: hour(when),
  what: 'requests',
  name: 'forwarded 2xx',
  count,
});

describe('traffic', () => {
  it('adds up over processes that write at the same time', async () => {
    const url = newKeystoreUrl();
    const both = [await keystore({ url }), await keystore({ url })];
    const names = Array.from({ length: 20 }, (_, i) => `code_${i}`);
    const counts = names.map((name) => ({ hour: 7, what: 'refusals' as const, name, count: 2 }));
    await Promise.all(
      both.flatMap((each, i) =>
        Array.from({ length: 10 }, () => each.recordTraffic(i === 0 ? counts : counts.toReversed())),
      ),
    );
    for (const by of ['hour', 'day'] as const) {
      const found = await both[0]!.traffic({ by, since: 0 });
      expect(found.map(({ name }) => name)).toEqual(names.toSorted());
      expect(found.every(({ count }) => count === 40)).toBe(true);
    }
  });

  it('is read by hour, by day and by calendar month, from the stretch that contains a moment', async () => {
    const store = await keystore();
    await store.recordTraffic([
      forwarded('2026-10-31T22:00', 1),
      forwarded('2026-10-31T23:00', 10),
      forwarded('2026-11-01T00:00', 100),
      forwarded('2026-11-30T23:00', 1000),
      { hour: hour('2026-11-30T23:00'), what: 'answers', name: '0.0025-0.005', count: 3 },
    ]);
    await store.recordTraffic([forwarded('2026-11-30T23:00', 2000), forwarded('2026-12-01T00:00', 10_000)]);
    const counted = async (by: 'hour' | 'day' | 'month', since: string) =>
      (await store.traffic({ by, since: at(since) })).map(({ from, what, count }) => [
        new Date(from).toISOString().slice(0, 13),
        what,
        count,
      ]);
    expect(await counted('hour', '2026-10-31T23:59')).toEqual([
      ['2026-10-31T23', 'requests', 10],
      ['2026-11-01T00', 'requests', 100],
      ['2026-11-30T23', 'answers', 3],
      ['2026-11-30T23', 'requests', 3000],
      ['2026-12-01T00', 'requests', 10_000],
    ]);
    expect(await counted('day', '2026-10-31T23:59')).toEqual([
      ['2026-10-31T00', 'requests', 11],
      ['2026-11-01T00', 'requests', 100],
      ['2026-11-30T00', 'answers', 3],
      ['2026-11-30T00', 'requests', 3000],
      ['2026-12-01T00', 'requests', 10_000],
    ]);
    expect(await counted('month', '2026-11-15T00:00')).toEqual([
      ['2026-11-01T00', 'requests', 3100],
      ['2026-11-01T00', 'answers', 3],
      ['2026-12-01T00', 'requests', 10_000],
    ]);
  });

  it('takes what was counted in an outage of weeks at once', async () => {
    const store = await keystore();
    const counts = Array.from({ length: 20_000 }, () => forwarded('2026-11-29T12:00', 1)).map(
      (counted, i) => ({ ...counted, hour: counted.hour - Math.floor(i / 40), name: `name ${i % 40}` }),
    );
    await store.recordTraffic(counts);
    const found = await store.traffic({ by: 'day', since: 0 });
    expect(found.reduce((sum, { count }) => sum + count, 0)).toBe(20_000);
  });

  it('is kept by the hour for a while, and by the day for longer', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url, now: () => at('2026-11-29T12:00') });
    await store.recordTraffic([forwarded('2026-11-29T12:00', 1)]);
    const later = async (days: number) => {
      const after = await keystore({ url, now: () => at('2026-11-29T12:00') + days * 86_400_000 });
      await after.sweep();
      return [
        (await after.traffic({ by: 'hour', since: 0 })).length,
        (await after.traffic({ by: 'day', since: 0 })).length,
      ];
    };
    expect(await later(TRAFFIC_KEPT_DAYS.byHour)).toEqual([1, 1]);
    expect(await later(TRAFFIC_KEPT_DAYS.byHour + 1)).toEqual([0, 1]);
    expect(await later(TRAFFIC_KEPT_DAYS.byDay)).toEqual([0, 1]);
    expect(await later(TRAFFIC_KEPT_DAYS.byDay + 1)).toEqual([0, 0]);
  });
});
