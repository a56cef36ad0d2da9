import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, it } from 'vitest';
import { sqlitePath } from '../shared/config.ts';
import { parseKey } from '../shared/keys.ts';
import {
  closeKeystores,
  event,
  keystore,
  PURCHASE_ID,
  purchase,
  SESSION,
  subscription,
} from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';

afterEach(closeKeystores);

/** Every byte the keystore left on disk. */
function onDisk(url: string): string {
  const dir = join(sqlitePath(url), '..');
  return readdirSync(dir)
    .map((name) => readFileSync(join(dir, name), 'latin1'))
    .join('');
}

describe('provisioning and claiming', () => {
  it('makes one key, shows it once', async () => {
    const store = await keystore();
    const first = await store.provisionPurchase(purchase());
    expect(first).toMatchObject({
      outcome: 'provisioned',
      purchase: { status: 'provisioned', planId: 'pro' },
    });
    expect(await store.provisionPurchase(purchase())).toEqual({ ...first, outcome: 'already_provisioned' });
    expect(await store.findReveal(SESSION)).toMatchObject({ reveal: { state: 'sealed', claimedAt: null } });

    const claim = await store.claimReveal({ sessionId: SESSION, actor: 'test' });
    if (claim.outcome !== 'claimed') throw new Error(claim.outcome);
    const parsed = parseKey(claim.plaintext);
    expect(parsed).toMatchObject({ id: claim.keyId, mode: 'test', prefix: 'tg' });
    expect(await store.claimReveal({ sessionId: SESSION, actor: 'test' })).toEqual({
      outcome: 'already_claimed',
    });
    expect(await store.findReveal(SESSION)).toMatchObject({
      reveal: { state: 'claimed', lastFour: claim.plaintext.slice(-4) },
    });

    const facts = await store.findKeyFacts(claim.keyId);
    expect(facts).toMatchObject({
      planId: 'pro',
      mode: 'test',
      revokedAt: null,
      subscription: { status: 'active' },
    });
    expect(store.hasher.tagMatches(parsed!.secret, facts!.tag)).toBe(true);
    expect(await store.hasher.verify(parsed!.secret, facts!.hash)).toBe(true);
    expect(await store.hasher.verify(`${parsed!.secret.slice(0, -1)}!`, facts!.hash)).toBe(false);
    expect((await store.keyHistory(claim.keyId)).map((entry) => entry.action)).toEqual([
      'key.provisioned',
      'key.claimed',
    ]);
  });

  it('provisioned in turn over two connections and claimed 50 times at once: one key, shown once', async () => {
    const url = newKeystoreUrl();
    const stores = [await keystore({ url }), await keystore({ url })];
    const outcomes: string[] = [];
    for (let round = 0; round < 25; round++) {
      for (const store of stores) outcomes.push((await store.provisionPurchase(purchase())).outcome);
    }
    expect(outcomes.filter((outcome) => outcome === 'provisioned')).toHaveLength(1);
    const inOne = await Promise.all(
      Array.from({ length: 50 }, () => stores[0]!.claimReveal({ sessionId: SESSION, actor: 't' })),
    );
    expect(inOne.filter((claim) => claim.outcome === 'claimed')).toHaveLength(1);
    expect(await stores[1]!.listKeys({ limit: 10 })).toHaveLength(1);
  });

  it('leaves neither plaintext nor session id anywhere on disk, sealed or claimed', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    await store.recordPurchase({ sessionId: SESSION, mode: 'test', planId: 'pro', priceId: 'price_pro' });
    await store.receiveEvent(event('evt_1'));
    await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 });
    await store.failEvents({ ids: ['evt_1'], outcome: 'error', error: `no ${SESSION}`, retryAt: null });
    await store.provisionPurchase(purchase());
    await store.receiveEvent(event('evt_2'));
    const states = [onDisk(url)];
    const claim = await store.claimReveal({ sessionId: SESSION, actor: 'test' });
    if (claim.outcome !== 'claimed') throw new Error(claim.outcome);
    states.push(onDisk(url));
    await store.completeEvents({ ids: ['evt_2'], outcome: 'already_provisioned' });
    states.push(onDisk(url));
    for (const bytes of states) {
      expect(bytes.includes('evt_1')).toBe(true);
      expect(bytes.includes(SESSION)).toBe(false);
      expect(bytes.includes(parseKey(claim.plaintext)!.secret)).toBe(false);
    }
    const raw = new Database(sqlitePath(url));
    expect(raw.prepare('select sealed from reveals').all()).toEqual([{ sealed: null }]);
    raw.close();
  });

  it('keeps its files from other users', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    await store.provisionPurchase(purchase());
    for (const suffix of ['', '-wal', '-shm'])
      expect(statSync(sqlitePath(url) + suffix).mode & 0o077, suffix).toBe(0);
  });

  it('does not open for another session id, nor when the seal was moved to another purchase', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    const other = `cs_test_${'Zz'.repeat(28)}`;
    await store.provisionPurchase(purchase());
    await store.provisionPurchase(
      purchase({ sessionId: other, subscription: subscription({ id: 'sub_2' }) }),
    );
    const raw = new Database(sqlitePath(url));
    raw.exec(
      'update reveals set sealed = (select sealed from reveals order by created_at, purchase_id limit 1)',
    );
    raw.close();
    const claims = await Promise.allSettled(
      [SESSION, other].map((sessionId) => store.claimReveal({ sessionId, actor: 't' })),
    );
    expect(claims.map((claim) => claim.status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('destroys an unclaimed seal when its time is up, or when its key is revoked', async () => {
    let time = 1_000_000;
    const url = newKeystoreUrl();
    const store = await keystore({ url, now: () => time, revealTtlMs: 5000 });
    await store.provisionPurchase(purchase());
    time += 4999;
    expect(await store.sweep()).toEqual({ expiredReveals: 0 });
    expect(await store.findReveal(SESSION)).toMatchObject({ reveal: { state: 'sealed' } });
    time += 1;
    expect(await store.findReveal(SESSION)).toMatchObject({ reveal: { state: 'expired' } });
    expect(await store.claimReveal({ sessionId: SESSION, actor: 't' })).toEqual({ outcome: 'expired' });
    expect(await store.sweep()).toEqual({ expiredReveals: 1 });

    const other = `cs_test_${'Zz'.repeat(28)}`;
    const { purchase: made } = await store.provisionPurchase(purchase({ sessionId: other }));
    await store.revokeKey({ id: made.keyId!, reason: 'operator', actor: 't' });
    expect(await store.claimReveal({ sessionId: other, actor: 't' })).toEqual({ outcome: 'revoked' });
    const raw = new Database(sqlitePath(url));
    expect(raw.prepare('select count(*) as n from reveals where sealed is not null').get()).toEqual({ n: 0 });
    raw.close();
  });

  it('a purchase that failed can still be paid for later, a provisioned one can no longer fail', async () => {
    const store = await keystore();
    await store.recordPurchase({
      sessionId: SESSION,
      purchaseId: PURCHASE_ID,
      mode: 'test',
      planId: 'pro',
      priceId: 'price_pro',
    });
    const end = {
      sessionId: SESSION,
      mode: 'test' as const,
      status: 'failed' as const,
      failure: 'payment_failed',
      actor: 't',
    };
    expect(await store.endPurchase(end)).toMatchObject({
      id: PURCHASE_ID,
      status: 'failed',
      failure: 'payment_failed',
    });
    expect((await store.provisionPurchase(purchase())).purchase).toMatchObject({
      id: PURCHASE_ID,
      status: 'provisioned',
      failure: null,
    });
    expect(await store.endPurchase(end)).toMatchObject({ status: 'provisioned' });
    expect(
      await store.recordPurchase({ sessionId: SESSION, mode: 'test', planId: null, priceId: null }),
    ).toMatchObject({
      id: PURCHASE_ID,
      status: 'provisioned',
    });
  });

  it('two sessions that carry the same purchase id stay two purchases', async () => {
    const store = await keystore();
    const other = `cs_test_${'Zz'.repeat(28)}`;
    const first = await store.provisionPurchase(purchase({ purchaseId: PURCHASE_ID }));
    const second = await store.provisionPurchase(
      purchase({ sessionId: other, purchaseId: PURCHASE_ID, subscription: subscription({ id: 'sub_2' }) }),
    );
    expect(first.purchase.id).toBe(PURCHASE_ID);
    expect(second.purchase.id).not.toBe(PURCHASE_ID);
    expect(second.purchase.keyId).not.toBe(first.purchase.keyId);
    expect(await store.findPurchase(SESSION)).toEqual(first.purchase);
  });

  it('a newer look at the subscription is written, also when somebody else made the key from an older one', async () => {
    const store = await keystore();
    const { purchase: bought } = await store.provisionPurchase(purchase());
    await store.provisionPurchase(
      purchase({ subscription: subscription({ status: 'canceled', fetchedAt: 2000 }) }),
    );
    await store.provisionPurchase(purchase({ subscription: subscription({ fetchedAt: 1500 }) }));
    expect((await store.findKeyFacts(bought.keyId!))!.subscription).toMatchObject({ status: 'canceled' });
  });

  it('what was said of a customer before the purchase was seen is looked into again', async () => {
    const store = await keystore();
    const about = (id: string, kind: string) =>
      event(id, { type: 'customer.updated', object: { kind, id: 'cus_1' } });
    await store.receiveEvent(about('evt_1', 'entitlements'));
    await store.receiveEvent(about('evt_2', 'customer'));
    await store.receiveEvent(event('evt_3', { object: { kind: 'customer', id: 'cus_2' } }));
    await store.completeEvents({ ids: ['evt_1', 'evt_2', 'evt_3'], outcome: 'not_ours' });
    await store.provisionPurchase(purchase());
    const waiting = await store.listEvents({ status: 'pending', limit: 9 });
    expect(waiting.map(({ id }) => id).sort()).toEqual(['evt_1', 'evt_2']);
  });
});
