import { afterEach, describe, expect, it } from 'vitest';
import { parseKey } from '../shared/keys.ts';
import { closeKeystores, keystore, purchase, SESSION, subscription } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';

afterEach(closeKeystores);

describe('keys', () => {
  it('nothing resurrects a revoked key', async () => {
    const store = await keystore();
    const { purchase: made } = await store.provisionPurchase(purchase());
    const id = made.keyId!;
    expect(await store.revokeKey({ id, reason: 'operator', actor: 't' })).toBe('revoked');
    expect(await store.revokeKey({ id, reason: 'refunded', actor: 't' })).toBe('already_revoked');
    const revoked = await store.findKey(id);
    await store.provisionPurchase(purchase());
    await store.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_1', email: null },
      subscription: subscription({ planId: 'team', fetchedAt: 9000 }),
      actor: 't',
    });
    expect(await store.rotateKey({ id, overlapMs: 1000, actor: 't' })).toBe('revoked');
    expect(await store.findKey(id)).toMatchObject({
      revokedAt: revoked!.revokedAt,
      revokedReason: 'operator',
      planId: 'team',
    });
    expect(await store.revokeKey({ id: 'nosuchkey000', reason: 'operator', actor: 't' })).toBe('not_found');
  });

  it('rotation makes the new key first, keeps the old one for the overlap, and shares the quota', async () => {
    let time = Date.UTC(2026, 10, 21);
    const store = await keystore({ now: () => time });
    const old = await store.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'pro',
      name: 'ci',
      expiresAt: null,
      actor: 't',
    });
    const hour = Math.floor(time / 3_600_000);
    await store.recordUsage([{ keyId: old.id, hour, requests: 7, refused: 1 }], () => {});
    const fresh = await store.rotateKey({ id: old.id, overlapMs: 1000, actor: 't' });
    if (typeof fresh === 'string') throw new Error(fresh);
    expect(await store.findKeyFacts(old.id)).toMatchObject({ expiresAt: time + 1000, revokedAt: null });
    expect(await store.findKeyFacts(fresh.id)).toMatchObject({
      rootId: old.id,
      expiresAt: null,
      usedThisMonth: 7,
      planId: 'pro',
    });
    expect(fresh.oldKeyEndsAt).toBe(time + 1000);
    expect(await store.rotateKey({ id: old.id, overlapMs: 9000, actor: 't' })).toBe('replaced');
    time += 1000;
    expect(await store.rotateKey({ id: old.id, overlapMs: 1000, actor: 't' })).toBe('replaced');
    for (const id of [old.id, fresh.id])
      expect((await store.keyHistory(id)).map((entry) => entry.action)).toContain('key.rotated');
    const third = await store.rotateKey({ id: fresh.id, overlapMs: 0, actor: 't' });
    if (typeof third === 'string') throw new Error(third);
    expect(await store.findKeyFacts(fresh.id)).toMatchObject({ revokedAt: time });
    expect(await store.findKeyFacts(third.id)).toMatchObject({ rootId: old.id, usedThisMonth: 7 });
  });

  it('an overlap never outlives the key, the new one keeps its expiry, and an expired one stays dead', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time });
    const old = await store.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'pro',
      name: null,
      expiresAt: 6000,
      actor: 't',
    });
    const fresh = await store.rotateKey({ id: old.id, overlapMs: 60_000, actor: 't' });
    if (typeof fresh === 'string') throw new Error(fresh);
    expect(fresh.oldKeyEndsAt).toBe(6000);
    expect(await store.findKeyFacts(fresh.id)).toMatchObject({ expiresAt: 6000 });
    time = 6000;
    expect(await store.rotateKey({ id: fresh.id, overlapMs: 1000, actor: 't' })).toBe('expired');
  });

  it('a key that was rotated before it was claimed can no longer be claimed, and says why', async () => {
    const store = await keystore();
    const { purchase: made } = await store.provisionPurchase(purchase());
    await store.rotateKey({ id: made.keyId!, overlapMs: 60_000, actor: 't' });
    expect(await store.findReveal(SESSION)).toMatchObject({ reveal: { state: 'revoked' } });
    expect(await store.claimReveal({ sessionId: SESSION, actor: 't' })).toEqual({ outcome: 'revoked' });
  });

  it('lists, pages and finds', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time++ });
    const made: string[] = [];
    for (let i = 0; i < 7; i++) {
      const key = await store.createKey({
        mode: 'test',
        prefix: 'tg',
        planId: i % 2 ? 'pro' : 'free',
        name: null,
        expiresAt: null,
        actor: 't',
      });
      made.unshift(key.id);
    }
    const first = await store.listKeys({ limit: 3 });
    const rest = await store.listKeys({ limit: 10, before: first.at(-1)! });
    expect([...first, ...rest].map((key) => key.id)).toEqual(made);
    expect(await store.listKeys({ limit: 10, planId: 'pro' })).toHaveLength(3);
    await store.provisionPurchase(purchase());
    expect(await store.listKeys({ limit: 10, matching: 'buyer@example.com' })).toHaveLength(1);
    expect(await store.listKeys({ limit: 10, matching: 'sub_1' })).toHaveLength(1);
  });

  it('a hash of before is known, whatever the order in it, and is no reason to make another', async () => {
    const { hasher } = await keystore({ keyHash: { memoryKib: 4096, passes: 1, lanes: 1 } });
    const hash =
      '$argon2id$v=19$m=4096,p=1,t=1$P+Ft3v45+bznqSOUnoF1jA$E8SbF9G7wsjhQQdFJkIarmOExX0LtAWB+86QWryIYxc';
    expect(await hasher.verify('x'.repeat(32), hash)).toBe(true);
    expect(await hasher.verify('y'.repeat(32), hash)).toBe(false);
    expect(hasher.isOutdated(hash)).toBe(false);
    expect(hasher.isOutdated(hash.replace('t=1', 't=2'))).toBe(true);
  });

  it('renews an outdated hash only over the one that was read', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url, keyHash: { memoryKib: 1024, passes: 1, lanes: 1 } });
    const key = await store.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'pro',
      name: null,
      expiresAt: null,
      actor: 't',
    });
    const stronger = await keystore({ url, keyHash: { memoryKib: 4096, passes: 2, lanes: 1 } });
    const { hash } = (await stronger.findKeyFacts(key.id))!;
    expect(stronger.hasher.isOutdated(hash)).toBe(true);
    const { secret } = parseKey(key.plaintext)!;
    const renewed = await stronger.hasher.hash(secret);
    await stronger.upgradeKeyHash({ id: key.id, from: 'something else', to: 'x' });
    await stronger.upgradeKeyHash({ id: key.id, from: hash, to: renewed.hash });
    const facts = (await stronger.findKeyFacts(key.id))!;
    expect(facts.hash).toContain('m=4096,t=2,p=1');
    expect(await stronger.hasher.verify(secret, facts.hash)).toBe(true);
  });
});
