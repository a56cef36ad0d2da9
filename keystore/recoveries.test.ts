import { afterEach, describe, expect, it } from 'vitest';
import { parseKey } from '../shared/keys.ts';
import { closeKeystores, keystore, purchase, SESSION, subscription } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
import { RECOVERY_TTL_MS } from './keystore.ts';

afterEach(closeKeystores);

const HOUR = 3_600_000;

/** A keystore in which one key was bought, with a clock that the test moves. */
async function withKey() {
  const clock = { now: Date.UTC(2026, 10, 21) };
  const url = newKeystoreUrl();
  const store = await keystore({ url, now: () => clock.now, mails: true });
  const { purchase: bought } = await store.provisionPurchase(purchase());
  return { clock, url, store, keyId: bought.keyId!, customerId: bought.customerId! };
}

describe('a recovery link', () => {
  it('replaces the key once, at once; other links for the same key are then worth nothing', async () => {
    const { store, keyId } = await withKey();
    const [token, other] = [await store.createRecovery(keyId), await store.createRecovery(keyId)];
    expect(await store.findRecovery(token)).toMatchObject({ id: keyId, planId: 'pro' });
    const tries = await Promise.all(
      Array.from({ length: 5 }, () => store.recoverKey({ token, actor: 'recovery' })),
    );
    const made = tries.filter((outcome) => typeof outcome !== 'string');
    expect(made).toHaveLength(1);
    expect(parseKey(made[0]!.plaintext)).toBeDefined();
    expect(await store.findKeyFacts(keyId)).toMatchObject({
      revokedReason: 'rotated',
      replacedBy: made[0]!.id,
    });
    for (const spent of [token, other]) {
      expect(await store.findRecovery(spent)).toBeUndefined();
      expect(await store.recoverKey({ token: spent, actor: 'recovery' })).toBe('link_not_valid');
    }
  });

  it('ends with its time, and with its key', async () => {
    const { store, clock, keyId } = await withKey();
    const token = await store.createRecovery(keyId);
    const late = await store.createRecovery(keyId);
    await store.revokeKey({ id: keyId, reason: 'operator', actor: 'test' });
    expect(await store.recoverKey({ token, actor: 'recovery' })).toBe('revoked');
    clock.now += RECOVERY_TTL_MS;
    expect(await store.findRecovery(late)).toBeUndefined();
    expect(await store.recoverKey({ token: late, actor: 'recovery' })).toBe('link_not_valid');
    await store.sweep();
  });

  it('cannot be made up, nor made from what the database holds', async () => {
    const { store, url, keyId } = await withKey();
    const token = await store.createRecovery(keyId);
    const rows = JSON.stringify(await rawQuery(url, 'select * from recoveries'));
    const [id, signature] = token.split('.');
    expect(rows).toContain(id);
    expect(rows).not.toContain(signature);
    const elsewhere = await store.createRecovery(keyId);
    for (const forged of [
      id!,
      `${id}.`,
      `${id}.${'A'.repeat(signature!.length)}`,
      `${id}.${elsewhere.split('.')[1]}`,
      `${token}.x`,
      '',
      '.',
    ]) {
      expect(await store.recoverKey({ token: forged, actor: 'recovery' })).toBe('link_not_valid');
    }
  });

  it('is for keys that could still be used: the newest of a rotation, not revoked, not ended', async () => {
    const { store, keyId, customerId } = await withKey();
    const rotated = await store.rotateKey({ id: keyId, overlapMs: HOUR, actor: 'test' });
    if (typeof rotated === 'string') throw new Error(rotated);
    const ids = async () => (await store.recoverableKeys(customerId)).map((key) => key.id);
    expect(await ids()).toEqual([rotated.id]);
    await store.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_1', email: null },
      subscription: subscription({ status: 'past_due', fetchedAt: 2000 }),
      actor: 'test',
    });
    expect(await ids()).toEqual([rotated.id]);
    await store.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_1', email: null },
      subscription: subscription({ status: 'canceled', fetchedAt: 3000 }),
      actor: 'test',
    });
    expect(await ids()).toEqual([]);
  });

  it('is asked for by address, in any case of letters, and not mailed again and again', async () => {
    const { store, clock, customerId } = await withKey();
    const mails = async () => (await store.listEvents({ type: 'tollgate.mail.recovery', limit: 99 })).length;
    expect(await store.requestRecovery('nobody@example.com')).toBe(0);
    expect(await store.requestRecovery('BUYER@example.com')).toBe(1);
    expect(await store.requestRecovery('buyer@example.com')).toBe(1);
    expect(await mails()).toBe(1);
    clock.now += HOUR;
    await store.requestRecovery('buyer@example.com');
    expect(await mails()).toBe(2);
    const [group] = await store.leaseEvents({ owner: 'a', limit: 9, leaseMs: 1000 });
    expect(group).toBeDefined();
    expect(customerId).toMatch(/^cust_/);
  });
});

describe('a key that was shown and never used', () => {
  const claim = async (store: Awaited<ReturnType<typeof withKey>>['store']) => {
    const claimed = await store.claimReveal({ sessionId: SESSION, actor: 'test' });
    if (claimed.outcome !== 'claimed') throw new Error(claimed.outcome);
    return claimed;
  };
  const replace = (store: Awaited<ReturnType<typeof withKey>>['store'], keyId: string) =>
    store.replaceUnused({ sessionId: SESSION, keyId, actor: 'success_page' });

  it('is replaced from the same link, the old one revoked, as often as its showing was lost', async () => {
    const { store, clock, keyId } = await withKey();
    expect(await replace(store, keyId)).toEqual({ outcome: 'not_claimed' });
    await claim(store);
    expect((await store.findReveal(SESSION))!.reveal!.replaceableUntil).toBe(clock.now + 24 * HOUR);
    const twice = await Promise.all([replace(store, keyId), replace(store, keyId)]);
    expect(twice.map(({ outcome }) => outcome).sort()).toEqual(['replaced', 'superseded']);
    const first = twice.find((each) => each.outcome === 'replaced') as { keyId: string; plaintext: string };
    expect(await store.findKeyFacts(keyId)).toMatchObject({
      revokedReason: 'replaced',
      replacedBy: first.keyId,
    });
    expect((await store.findReveal(SESSION))!.reveal).toMatchObject({ state: 'claimed', keyId: first.keyId });
    expect(await replace(store, first.keyId)).toMatchObject({ outcome: 'replaced' });
    expect(await store.authenticateKey(first.plaintext)).toMatchObject({ revokedReason: 'replaced' });
  });

  it('is not after its first use, whether noted as such or counted, on any key of the rotation', async () => {
    for (const use of ['noted', 'counted'] as const) {
      const { store, keyId } = await withKey();
      await claim(store);
      if (use === 'noted') await store.markKeysUsed([keyId]);
      else await store.recordUsage([{ keyId, hour: 1, requests: 1, refused: 0 }], () => {});
      expect(await replace(store, keyId)).toEqual({ outcome: 'used' });
      expect((await store.findReveal(SESSION))!.reveal!.replaceableUntil).toBeNull();
    }
  });

  it('is not after a day, nor when it was rotated or revoked, nor by another purchase’s link', async () => {
    const { store, clock, keyId } = await withKey();
    await claim(store);
    const other = await store.provisionPurchase(purchase({ sessionId: `${SESSION}2`, subscription: null }));
    expect(await replace(store, other.purchase.keyId!)).toEqual({ outcome: 'superseded' });
    expect(await replace(store, 'nosuchkey123')).toEqual({ outcome: 'not_found' });
    clock.now += 24 * HOUR;
    expect(await replace(store, keyId)).toEqual({ outcome: 'too_late' });
    clock.now -= HOUR;
    await store.rotateKey({ id: keyId, overlapMs: HOUR, actor: 'test' });
    expect(await replace(store, keyId)).toEqual({ outcome: 'superseded' });
  });

  it('a new key begins unused', async () => {
    const { store, keyId } = await withKey();
    await claim(store);
    await store.markKeysUsed([keyId]);
    const rotated = await store.rotateKey({ id: keyId, overlapMs: 0, actor: 'test' });
    if (typeof rotated === 'string') throw new Error(rotated);
    expect(await store.findKeyFacts(rotated.id)).toMatchObject({ firstUsedAt: null });
    expect(await store.findKeyFacts(keyId)).toMatchObject({ firstUsedAt: expect.any(Number) });
  });
});

it('a key is known by the whole of it only', async () => {
  const { store } = await withKey();
  const claimed = await store.claimReveal({ sessionId: SESSION, actor: 'test' });
  if (claimed.outcome !== 'claimed') throw new Error(claimed.outcome);
  expect(await store.authenticateKey(claimed.plaintext)).toMatchObject({ id: claimed.keyId });
  for (const wrong of ['', claimed.keyId, `${claimed.plaintext}x`, claimed.plaintext.replace('tg_', 'xy_')]) {
    expect(await store.authenticateKey(wrong)).toBeUndefined();
  }
});
