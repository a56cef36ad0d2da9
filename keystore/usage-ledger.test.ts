import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';

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
    expect((await november.findKeyFacts(key.id))?.usedThisMonth).toBe(5);
    const december = await keystore({ url, now: () => time + 60_000 });
    expect((await december.findKeyFacts(key.id))?.usedThisMonth).toBe(0);
  });
});
