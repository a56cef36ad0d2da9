import { afterEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../shared/log.ts';
import { besideKeystore, whenUnlocked } from '../../test/beside-keystore.ts';
import {
  boughtKey,
  closeAll,
  closeLater,
  startTestGateway,
  startUpstream,
  type TestGateway,
} from '../../test/gateways.ts';
import { SESSION } from '../../test/keystore-fixtures.ts';
import { newKeystoreUrl, openTestKeystore } from '../../test/keystores.ts';
import { FirstUses } from './first-uses.ts';

afterEach(closeAll);

const firstUsedAt = async ({ keystore }: Pick<TestGateway, 'keystore'>, id: string) =>
  (await keystore.findKeyFacts(id))?.firstUsedAt;
const replaceUnused = ({ keystore }: Pick<TestGateway, 'keystore'>, keyId: string) =>
  keystore.replaceUnused({ sessionId: SESSION, keyId, actor: 'test' });

// A disk that takes more than half a second for a write, on a machine that does much else, lets a first use go on unnoted.
describe('a key that was shown', { retry: 2 }, () => {
  it('and never used can be replaced; from then on the lost one opens nothing', async () => {
    const gateway = await startTestGateway();
    const { plaintext, id } = await boughtKey(gateway);
    const replaced = await replaceUnused(gateway, id);
    if (replaced.outcome !== 'replaced') throw new Error(replaced.outcome);
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(401), 1000);
    expect((await gateway.get('/', replaced.plaintext)).status).toBe(200);
    expect(await replaceUnused(gateway, replaced.keyId)).toMatchObject({ outcome: 'used' });
  });

  it('and used cannot, from before its first request goes upstream', async () => {
    const outcomes: string[] = [];
    const upstream = await startUpstream(async (_req, res) => {
      outcomes.push((await replaceUnused(gateway, id)).outcome);
      res.end('{}');
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext, id } = await boughtKey(gateway);
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect(outcomes).toEqual(['used']);
  });

  it('and only asked about itself with /whoami is used too, and so is one that was refused', async () => {
    const gateway = await startTestGateway();
    const { plaintext, id, sync } = await boughtKey(gateway);
    await sync({ status: 'paused', fetchedAt: 2000 });
    expect((await gateway.get('/whoami', plaintext)).status).toBe(402);
    expect(await replaceUnused(gateway, id)).toMatchObject({ outcome: 'used' });
    const other = await gateway.key();
    expect(await firstUsedAt(gateway, other.id)).toBeNull();
    expect((await gateway.get('/whoami', other.plaintext)).status).toBe(200);
    expect(await firstUsedAt(gateway, other.id)).toEqual(expect.any(Number));
  });

  it('is not used by who does not have it whole', async () => {
    const gateway = await startTestGateway();
    const { plaintext, id } = await gateway.key();
    expect((await gateway.get('/', plaintext.slice(0, -1))).status).toBe(401);
    expect(await firstUsedAt(gateway, id)).toBeNull();
  });

  it('and replaced in the very moment of its first use opens nothing', async () => {
    const gateway = await startTestGateway();
    const billing = closeLater(await openTestKeystore({ url: gateway.keystoreUrl }));
    const { plaintext, id } = await boughtKey(gateway);
    const mark = gateway.keystore.markKeysUsed;
    vi.spyOn(gateway.keystore, 'markKeysUsed').mockImplementation(async (ids) => {
      expect(await replaceUnused({ keystore: billing }, id)).toMatchObject({ outcome: 'replaced' });
      return mark(ids);
    });
    expect((await gateway.get('/', plaintext)).status).toBe(401);
  });
});

describe('noting first uses', () => {
  it('is one write for a key, however many requests begin at once, and none from then on', async () => {
    const gateway = await startTestGateway();
    const mark = vi.spyOn(gateway.keystore, 'markKeysUsed');
    const find = vi.spyOn(gateway.keystore, 'findKeyFacts');
    const { plaintext, id } = await gateway.key();
    await Promise.all(Array.from({ length: 30 }, () => gateway.get('/', plaintext)));
    expect(mark.mock.calls).toEqual([[[id]]]);
    const reads = find.mock.calls.length;
    for (let i = 0; i < 10; i++) await gateway.get('/', plaintext);
    expect(mark).toHaveBeenCalledTimes(1);
    expect(find, 'a remembered key costs no look at the keystore').toHaveBeenCalledTimes(reads);
  });

  it('is not done again after a restart', async () => {
    const first = await startTestGateway();
    const { plaintext } = await first.key();
    await first.get('/', plaintext);
    await first.close();
    const second = await startTestGateway({ keystoreUrl: first.keystoreUrl });
    const mark = vi.spyOn(second.keystore, 'markKeysUsed');
    expect((await second.get('/', plaintext)).status).toBe(200);
    expect(mark).not.toHaveBeenCalled();
  });

  it('of many keys at once costs few transactions, each of a bounded size', async () => {
    const batches: (readonly string[])[] = [];
    const firstUses = new FirstUses({
      keystore: {
        markKeysUsed: async (ids) => {
          batches.push(ids);
        },
      },
      log: createLogger({ level: 'silent' }),
    });
    const uses = Array.from({ length: 250 }, (_, i) => ({ id: `key${i}`, firstUsedAt: null }));
    await Promise.all(uses.flatMap((use) => [firstUses.note(use), firstUses.note(use)]));
    expect(batches.flat()).toHaveLength(250);
    expect(batches.every((batch) => batch.length <= 100)).toBe(true);
    expect(batches.length).toBeLessThanOrEqual(6);
    expect(uses).not.toContainEqual(expect.objectContaining({ firstUsedAt: null }));
  });
});

describe('a keystore that cannot be written', () => {
  it('holds nobody up for what it cannot note; it is said once and tried again', async () => {
    const keystoreUrl = newKeystoreUrl();
    const gateway = await startTestGateway({ keystoreUrl });
    const keys = [await gateway.key(), await gateway.key()];
    const mark = vi.spyOn(gateway.keystore, 'markKeysUsed');
    const raw = besideKeystore(keystoreUrl);
    await whenUnlocked(() =>
      raw.exec(`create trigger full before update of first_used_at on keys
      begin select raise(abort, 'database or disk is full'); end`),
    );
    for (const { plaintext } of [...keys, ...keys])
      expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect(mark, 'a failing keystore is not asked for each request').toHaveBeenCalledTimes(1);
    await vi.waitFor(
      async () => {
        for (const { plaintext } of keys) expect((await gateway.get('/', plaintext)).status).toBe(200);
        expect(mark).toHaveBeenCalledTimes(2);
      },
      { interval: 100 },
    );
    expect(gateway.lines.filter((line) => line.includes('First uses'))).toHaveLength(1);
    await whenUnlocked(() => raw.exec('drop trigger full'));
    raw.close();
    for (const { plaintext, id } of keys) {
      await vi.waitFor(
        async () => {
          expect((await gateway.get('/', plaintext)).status).toBe(200);
          expect(await firstUsedAt(gateway, id)).toEqual(expect.any(Number));
        },
        { interval: 100 },
      );
    }
  });

  it('because somebody else holds its lock, is waited for only so long, and notes it in the end', async () => {
    const keystoreUrl = newKeystoreUrl();
    const gateway = await startTestGateway({ keystoreUrl });
    const { plaintext, id } = await gateway.key();
    const another = await gateway.key();
    const raw = besideKeystore(keystoreUrl);
    await whenUnlocked(() => raw.exec('begin immediate'));
    const startedAt = performance.now();
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect((await gateway.get('/', another.plaintext)).status).toBe(200);
    expect(performance.now() - startedAt, 'a write waits ten seconds for the lock').toBeLessThan(4000);
    raw.exec('rollback');
    raw.close();
    await vi.waitFor(async () => expect(await firstUsedAt(gateway, id)).toEqual(expect.any(Number)), 2000);
    const mark = vi.spyOn(gateway.keystore, 'markKeysUsed');
    // The keystore is left alone for a while: until it is not, nothing can be seen of what is tried again.
    const fresh = await gateway.key();
    await vi.waitFor(async () => {
      expect((await gateway.get('/', fresh.plaintext)).status).toBe(200);
      expect(mark).toHaveBeenCalled();
    });
    mark.mockClear();
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect(mark, 'it is noted by now').not.toHaveBeenCalled();
  });
});
