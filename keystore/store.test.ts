import { afterEach, describe, expect, it, vi } from 'vitest';
import { besideKeystore, whenUnlocked } from '../test/beside-keystore.ts';
import { closeKeystores, keystore, purchase, SESSION } from '../test/keystore-fixtures.ts';
import { newSqliteUrl } from '../test/keystores.ts';

afterEach(closeKeystores);

describe('a lock held by another process', () => {
  it('is waited for without holding up this one, and given up on after a while', async () => {
    const url = newSqliteUrl();
    const store = await keystore({ url });
    const other = besideKeystore(url);
    await whenUnlocked(() => other.exec('begin immediate'));
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 5);
    const waiting = store.checkWritable();
    await vi.waitFor(() => expect(ticks).toBeGreaterThan(20));
    other.exec('commit');
    await waiting;
    clearInterval(ticking);
    other.close();
  });

  it('held for longer than anybody holds it, it is an error of the keystore, and nothing is half done', async () => {
    const url = newSqliteUrl();
    const store = await keystore({ url });
    const other = besideKeystore(url);
    await whenUnlocked(() => other.exec('begin immediate'));
    await expect(store.provisionPurchase(purchase())).rejects.toMatchObject({
      name: 'KeystoreError',
      code: 'SQLITE_BUSY',
    });
    other.exec('rollback');
    other.close();
    expect(await store.findPurchase(SESSION)).toBeUndefined();
    expect((await store.provisionPurchase(purchase())).outcome).toBe('provisioned');
  });
});
