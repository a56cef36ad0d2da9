import { afterEach, describe, expect, it, vi } from 'vitest';
import type { KeyFacts, Keystore } from '../../keystore/keystore.ts';
import { closeAll, closeLater } from '../../test/gateways.ts';
import { newKeystoreUrl, openTestKeystore } from '../../test/keystores.ts';
import { BadKeys } from './bad-keys.ts';
import { FactsCache } from './facts-cache.ts';
import type { Key } from './key.ts';

afterEach(async () => {
  vi.useRealTimers();
  await closeAll();
});

const NEW_KEY = { mode: 'test', prefix: 'tg', planId: 'p', name: null, expiresAt: null } as const;

/** A cache over a real keystore, in whose reads the test can stand. */
async function cacheOver(options: { healthy?: () => boolean; exact?: () => boolean } = {}) {
  const url = newKeystoreUrl();
  const keystore: Keystore = closeLater(await openTestKeystore({ url }));
  let time = Date.now();
  let reads = 0;
  let hidden = false;
  let during: (facts: KeyFacts | undefined) => Promise<void> = async () => {};
  let everything = () => {};
  const notices: string[] = [];
  await keystore.changes.subscribe((change) => notices.push(...change));
  const cache = new FactsCache({
    keystore: {
      findKeyFacts: async (id) => {
        reads++;
        const facts = await keystore.findKeyFacts(id);
        await during(facts);
        return hidden ? undefined : facts;
      },
      changes: Object.create(keystore.changes, {
        healthy: { get: () => options.healthy?.() ?? true },
        asOf: { value: time },
        subscribe: {
          value: (listener: Parameters<typeof keystore.changes.subscribe>[0]) => {
            everything = () => listener('everything');
            return keystore.changes.subscribe(listener);
          },
        },
      }),
    },
    capacity: 10,
    graceMs: 3_600_000,
    now: () => time,
    usageWrite: () => 0,
    onRead: () => options.exact?.() ?? true,
  });
  await cache.start();
  const { id } = await keystore.createKey({ ...NEW_KEY, actor: 't' });
  await vi.waitFor(() => expect(notices).toEqual([id]));
  return {
    id,
    cache,
    keystore,
    notices,
    reads: () => reads,
    time: () => time,
    /** As if the change feed did not know any more what has changed. */
    everything: () => everything(),
    /** As if the key were not there yet. */
    hide: (yes: boolean) => {
      hidden = yes;
    },
    pass: (milliseconds: number) => {
      time += milliseconds;
    },
    duringRead: (what: typeof during) => {
      during = what;
    },
  };
}

describe('what is remembered of a key', () => {
  it('is not what was read before a notice that came during the read', async () => {
    const { id, cache, keystore, notices, duringRead } = await cacheOver();
    duringRead(async () => {
      duringRead(async () => {});
      await keystore.revokeKey({ id, reason: 'operator', actor: 't' });
      await vi.waitFor(() => expect(notices).toHaveLength(2));
    });
    expect((await cache.load(id))?.revokedAt).not.toBeNull();
    expect(cache.fresh(id)?.revokedAt).not.toBeNull();
  });

  it('is read once for many who ask at the same time, and not again while it is good', async () => {
    const { id, cache, reads } = await cacheOver();
    await Promise.all(Array.from({ length: 50 }, () => cache.load(id)));
    expect(cache.fresh(id)?.id).toBe(id);
    expect(reads()).toBe(1);
  });

  it('goes with a notice', async () => {
    const { id, cache, keystore } = await cacheOver();
    await cache.load(id);
    await keystore.revokeKey({ id, reason: 'operator', actor: 't' });
    await vi.waitFor(() => expect(cache.fresh(id)).toBeUndefined());
  });

  it('that there is none of an id, too', async () => {
    const { id, cache, keystore, reads, notices } = await cacheOver();
    expect(await cache.load('nosuchkey000')).toBeUndefined();
    expect(await cache.load('nosuchkey000')).toBeUndefined();
    expect(reads()).toBe(1);
    await keystore.revokeKey({ id, reason: 'operator', actor: 't' });
    await vi.waitFor(() => expect(notices).toHaveLength(2));
    await cache.load('nosuchkey000');
    expect(reads(), 'a notice about another key changes nothing').toBe(1);
  });

  it('that there is none of an id, until a notice says otherwise', async () => {
    const { id, cache, keystore, hide, notices } = await cacheOver();
    hide(true);
    expect(await cache.load(id)).toBeUndefined();
    hide(false);
    expect(await cache.load(id), 'still remembered').toBeUndefined();
    await keystore.revokeKey({ id, reason: 'operator', actor: 't' });
    await vi.waitFor(() => expect(notices).toHaveLength(2));
    expect((await cache.load(id))?.id).toBe(id);
  });

  it('is good for a second only while the feed is away', async () => {
    let healthy = true;
    const { id, cache, pass, reads } = await cacheOver({ healthy: () => healthy });
    await cache.load(id);
    healthy = false;
    pass(1000);
    expect(cache.fresh(id)?.id).toBe(id);
    pass(1);
    expect(cache.fresh(id)).toBeUndefined();
    expect((await cache.load(id))?.id).toBe(id);
    expect(reads()).toBe(2);
  });

  it('outlasts an outage of the keystore, but not for ever, and not a notice', async () => {
    let healthy = true;
    const { id, cache, pass, duringRead, reads } = await cacheOver({ healthy: () => healthy });
    await cache.load(id);
    healthy = false;
    duringRead(async () => {
      throw new Error('disk gone');
    });
    pass(5000);
    expect((await cache.load(id))?.id).toBe(id);
    const before = reads();
    for (let i = 0; i < 100; i++) expect((await cache.load(id))?.id).toBe(id);
    expect(reads(), 'a failing keystore is not asked for each request').toBe(before);
    expect(cache.fresh(id)?.id, 'and is used without waiting').toBe(id);
    expect(cache.stale).toBe(102);
    await expect(cache.load('unknownunkno')).rejects.toThrow('disk gone');
    pass(3_600_000);
    await expect(cache.load(id)).rejects.toThrow('disk gone');
    // Recovery by itself.
    duringRead(async () => {});
    pass(1000);
    expect((await cache.load(id))?.id).toBe(id);
  });

  it('is used while the keystore is silent, and who is not known does not wait for ever', async () => {
    let healthy = true;
    const { id, cache, pass, duringRead } = await cacheOver({ healthy: () => healthy });
    await cache.load(id);
    healthy = false;
    let answer = () => {};
    duringRead(
      () =>
        new Promise((resolve) => {
          const before = answer;
          answer = () => {
            before();
            resolve();
          };
        }),
    );
    pass(5000);
    expect((await cache.load(id))?.id).toBe(id);
    await expect(cache.load('unknownunkno')).rejects.toThrow('does not answer');
    duringRead(async () => {});
    answer();
    pass(1000);
    expect((await cache.load(id))?.id).toBe(id);
    expect(await cache.load('unknownunkno')).toBeUndefined();
  });
});

describe('a key in use is read again, by the by', () => {
  const MINUTE = 60_000;

  it('once in an hour, as long as nothing calls for it', async () => {
    const { id, cache, pass, reads, time } = await cacheOver();
    await cache.load(id);
    pass(60 * MINUTE - 1);
    expect(cache.fresh(id)?.id).toBe(id);
    expect(reads()).toBe(1);
    pass(1000);
    for (let i = 0; i < 10; i++) expect(cache.fresh(id)?.id, 'it works meanwhile').toBe(id);
    await vi.waitFor(() => expect(cache.find(id)?.readAt).toBe(time()));
    expect(cache.fresh(id)?.id).toBe(id);
    expect(reads()).toBe(2);
  });

  it('within seconds when it is outdated, or when a write was under way', async () => {
    let exact = true;
    const { id, cache, pass, reads, time } = await cacheOver({ exact: () => exact });
    await cache.load(id);
    cache.renewSoon(id);
    exact = false;
    for (const expected of [2, 3]) {
      pass(9999);
      cache.fresh(id);
      expect(reads()).toBe(expected - 1);
      pass(1000);
      cache.fresh(id);
      await vi.waitFor(() => expect(cache.find(id)?.readAt).toBe(time()));
      expect(reads()).toBe(expected);
    }
  });

  it('once in a minute while other keys count against the same quota', async () => {
    const { id, cache, keystore, pass, reads, notices } = await cacheOver();
    const rotated = await keystore.rotateKey({ id, overlapMs: 10 * MINUTE, actor: 't' });
    const newer = (rotated as { id: string }).id;
    await vi.waitFor(() => expect(notices).toContain(newer));
    for (const each of [id, newer]) {
      await cache.load(each);
      const before = reads();
      pass(MINUTE - 1);
      cache.fresh(each);
      expect(reads()).toBe(before);
      pass(1000);
      cache.fresh(each);
      expect(reads()).toBe(before + 1);
    }
  });
});

describe('a key that somebody keeps', () => {
  it('is of no use any more once a notice of it came, and what is read then has used what it had used', async () => {
    const { id, cache, keystore } = await cacheOver();
    await cache.load(id);
    const kept = cache.find(id) as Key;
    expect(cache.isGood(kept)).toBe(true);
    await keystore.revokeKey({ id, reason: 'operator', actor: 't' });
    await vi.waitFor(() => expect(cache.isGood(kept)).toBe(false));
    const read = await cache.load(id);
    expect(read?.revokedAt).not.toBeNull();
    expect(read?.chain).toBe(kept.chain);
    expect(cache.isGood(kept), 'it stays so').toBe(false);
  });

  it('is of no use once it was read again', async () => {
    const { id, cache } = await cacheOver();
    await cache.load(id);
    const kept = cache.find(id) as Key;
    await cache.load(id);
    expect(cache.isGood(kept)).toBe(false);
    expect(cache.fresh(id)?.chain).toBe(kept.chain);
  });

  it('is of no use once all were forgotten, as nobody would tell of its revocation', async () => {
    const { id, cache, everything } = await cacheOver();
    await cache.load(id);
    const kept = cache.find(id) as Key;
    everything();
    expect(cache.isGood(kept)).toBe(false);
  });

  it('is of no use once it gave way to others, for the same reason; in use, it does not give way', async () => {
    const { id, cache, keystore } = await cacheOver();
    const others = await keystore.createKeys({ keys: Array(40).fill(NEW_KEY), actor: 't' });
    await cache.load(id);
    const kept = cache.find(id) as Key;
    for (const other of others.slice(0, 20)) {
      await cache.load(other.id);
      expect(cache.isGood(kept)).toBe(true);
    }
    for (const other of others.slice(20)) await cache.load(other.id);
    expect(cache.isGood(kept)).toBe(false);
  });
});

describe('clients that send wrong keys', () => {
  it('cost no more memory than is set aside for them, from however many addresses they come', async () => {
    vi.useFakeTimers();
    const badKeys = new BadKeys(100);
    for (let i = 0; i < 5000; i++) badKeys.count(`10.${i >> 8}.${i & 255}.1`);
    expect(badKeys.size).toBe(100);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('are one client in one IPv6 /64, and are forgiven after a minute', async () => {
    vi.useFakeTimers();
    const badKeys = new BadKeys();
    for (let i = 0; i < 30; i++) badKeys.count(`2001:db8:1:2::${i}`);
    expect(badKeys.waitSeconds('2001:db8:1:2:ffff::1')).toBe(60);
    expect(badKeys.waitSeconds('2001:db8:1:3::1')).toBe(0);
    vi.advanceTimersByTime(60_000);
    expect(badKeys.waitSeconds('2001:db8:1:2::1')).toBe(0);
  });
});
