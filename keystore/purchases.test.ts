import { afterEach, describe, expect, it } from 'vitest';
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
import { newKeystoreUrl, SERVER_SECRET } from '../test/keystores.ts';
import { everythingStored, rawQuery } from '../test/raw-sql.ts';
import type { Keystore } from './keystore.ts';
import { openSeal, sealKey } from './seal.ts';

afterEach(closeKeystores);

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
    const { claimToken } = store.namePurchase(null);
    const opened = { sessionId: SESSION, mode: 'test', planId: 'pro', priceId: 'price_pro' } as const;
    await store.recordPurchase({ ...opened, claimToken });
    await store.receiveEvent(event('evt_1'));
    await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 });
    await store.failEvents({ ids: ['evt_1'], outcome: 'error', error: `no ${SESSION}`, retryAt: null });
    await store.provisionPurchase(purchase());
    await store.receiveEvent(event('evt_2'));
    const states = [await everythingStored(url)];
    const claim = await store.claimReveal({ sessionId: SESSION, actor: 'test' });
    if (claim.outcome !== 'claimed') throw new Error(claim.outcome);
    states.push(await everythingStored(url));
    await store.completeEvents({ ids: ['evt_2'], outcome: 'already_provisioned' });
    states.push(await everythingStored(url));
    for (const bytes of states) {
      expect(bytes.includes('evt_1')).toBe(true);
      expect(bytes.includes(SESSION)).toBe(false);
      expect(bytes.includes(claimToken)).toBe(false);
      expect(bytes.includes(parseKey(claim.plaintext)!.secret)).toBe(false);
    }
    expect(await rawQuery(url, 'select sealed from reveals')).toEqual([{ sealed: null }]);
    expect(await rawQuery(url, 'select session_sealed from purchases')).toEqual([{ session_sealed: null }]);
  });

  it('does not open for another session id, nor when the seal was moved to another purchase', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    const other = `cs_test_${'Zz'.repeat(28)}`;
    await store.provisionPurchase(purchase());
    await store.provisionPurchase(
      purchase({ sessionId: other, subscription: subscription({ id: 'sub_2' }) }),
    );
    await rawQuery(
      url,
      'update reveals set sealed = (select sealed from reveals order by created_at, purchase_id limit 1)',
    );
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
    expect(await rawQuery(url, 'select purchase_id from reveals where sealed is not null')).toEqual([]);
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

describe('a purchase that a program began', () => {
  const OTHER_SESSION = `cs_test_${'Zz'.repeat(28)}`;
  const opened = { mode: 'test', planId: 'pro', priceId: 'price_pro' } as const;
  /** What the program has of a purchase that was begun for it. */
  async function begun(store: Keystore, sessionId = SESSION) {
    const names = store.namePurchase(null);
    expect(await store.recordPurchase({ ...opened, ...names, sessionId })).toMatchObject({
      id: names.purchaseId,
      status: 'pending',
      byProgram: true,
    });
    return names;
  }

  it('is found by id and token, which open the session id and so the key; nothing else does', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    const names = await begun(store);
    const other = await begun(store, OTHER_SESSION);
    const { purchaseId, claimToken } = names;
    expect(await store.findRevealForProgram(names)).toMatchObject({
      purchase: { id: purchaseId },
      reveal: null,
      sessionId: SESSION,
    });
    await store.recordPurchase({ ...opened, sessionId: `${SESSION}x`, purchaseId: PURCHASE_ID });
    for (const wrong of [
      { purchaseId, claimToken: other.claimToken },
      { purchaseId: other.purchaseId, claimToken },
      { purchaseId: PURCHASE_ID, claimToken },
      { purchaseId: 'pur_none', claimToken },
      { purchaseId, claimToken: '' },
    ])
      expect(await store.findRevealForProgram(wrong)).toBeUndefined();

    await store.provisionPurchase(purchase());
    const found = (await store.findRevealForProgram(names))!;
    expect(found).toMatchObject({ sessionId: SESSION, reveal: { state: 'sealed' } });
    const claim = { sessionId: found.sessionId!, actor: 'purchase_claim' };
    expect(await store.claimReveal(claim)).toMatchObject({ outcome: 'claimed' });
    expect(await store.findRevealForProgram(names)).toMatchObject({
      sessionId: null,
      reveal: { state: 'claimed', claimedBy: 'purchase_claim' },
    });
    // A sealed session id that was moved opens for nobody.
    await rawQuery(
      url,
      `update purchases set session_sealed = (select session_sealed from purchases where id = '${other.purchaseId}')`,
    );
    await expect(store.findRevealForProgram(names)).rejects.toThrow();
    expect(await store.findRevealForProgram(other)).toMatchObject({ sessionId: OTHER_SESSION });
  });

  it('is not opened by all that the keystore has together with the server’s secret', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    const { purchaseId, claimToken } = await begun(store);
    await store.provisionPurchase(purchase());
    const [row] = await rawQuery(url, 'select * from purchases');
    const sealed = row!.session_sealed as Uint8Array;
    const openedBy = (secret: string) =>
      openSeal(sealed, sealKey(SERVER_SECRET, 'session id', secret), purchaseId);
    expect(openedBy(claimToken)).toBe(SESSION);
    const tables = ['purchases', 'reveals', 'keys', 'customers', 'subscriptions', 'audit', 'meta'];
    const rows = await Promise.all(tables.map((table) => rawQuery(url, `select * from ${table}`)));
    const values = rows.flat().flatMap((each) => Object.values(each).map(String));
    expect(values).toContain(row!.claim_hash);
    for (const value of values) expect(() => openedBy(value)).toThrow();
  });

  it.each<[string, (store: Keystore, keyId: string) => Promise<unknown>]>([
    ['claimed by it', (store) => store.claimReveal({ sessionId: SESSION, actor: 'purchase_claim' })],
    [
      'claimed on the success page',
      (store) => store.claimReveal({ sessionId: SESSION, actor: 'success_page' }),
    ],
    ['revoked', (store, id) => store.revokeKey({ id, reason: 'operator', actor: 't' })],
    ['replaced', (store, id) => store.rotateKey({ id, overlapMs: 5000, actor: 't' })],
    ['expired', (store) => store.sweep()],
  ])('keeps no sealed session id once the key is %s', async (what, end) => {
    let time = 1_000_000;
    const url = newKeystoreUrl();
    const store = await keystore({ url, now: () => time, revealTtlMs: 5000 });
    const names = await begun(store);
    const other = await begun(store, OTHER_SESSION);
    const { purchase: made } = await store.provisionPurchase(purchase());
    expect((await store.findRevealForProgram(names))!.sessionId).toBe(SESSION);
    if (what === 'expired') time += 5000;
    await end(store, made.keyId!);
    expect((await store.findRevealForProgram(names))!.sessionId).toBe(null);
    const left = await rawQuery(url, 'select id from purchases where session_sealed is not null');
    expect(left).toEqual([{ id: other.purchaseId }]);
  });

  it('keeps it when the payment failed, which can still be made; not when the checkout expired', async () => {
    const store = await keystore();
    const names = await begun(store);
    const end = { sessionId: SESSION, mode: 'test', failure: 'x', actor: 't' } as const;
    await store.endPurchase({ ...end, status: 'failed' });
    expect(await store.findRevealForProgram(names)).toMatchObject({
      purchase: { status: 'failed' },
      sessionId: SESSION,
    });
    await store.endPurchase({ ...end, status: 'canceled' });
    expect(await store.findRevealForProgram(names)).toMatchObject({
      purchase: { status: 'canceled', byProgram: true },
      sessionId: null,
    });
    // The request repeated now learns what became of it.
    await store.recordPurchase({ ...opened, ...names, sessionId: SESSION });
    expect((await store.findRevealForProgram(names))!.sessionId).toBe(null);
  });

  it('that a look at the session made known first becomes the program’s by its own request', async () => {
    const store = await keystore();
    const names = store.namePurchase('purchase 0b7e2f0e-8a52-4a55');
    const { purchaseId } = names;
    await store.recordPurchase({ ...opened, purchaseId, sessionId: SESSION });
    expect(await store.findRevealForProgram(names)).toBeUndefined();
    await store.recordPurchase({ ...opened, ...names, sessionId: SESSION });
    // One that looked at the same time and comes late changes nothing.
    await store.recordPurchase({ ...opened, purchaseId, sessionId: SESSION });
    expect((await store.findRevealForProgram(names))!.sessionId).toBe(SESSION);
  });

  it('has names of its own; those of an Idempotency-Key are the same again, for this server only', async () => {
    const [store, elsewhere] = [await keystore(), await keystore({ serverSecret: `${SERVER_SECRET}x` })];
    const key = 'purchase 0b7e2f0e-8a52-4a55';
    const all = [
      store.namePurchase(key),
      elsewhere.namePurchase(key),
      store.namePurchase(`${key}1`),
      store.namePurchase(null),
      store.namePurchase(null),
    ];
    expect(store.namePurchase(key)).toEqual(all[0]);
    for (const names of all) {
      expect(names.purchaseId).toMatch(/^pur_[0-9A-Za-z]{20}$/);
      expect(names.claimToken).toMatch(/^tgc_[0-9A-Za-z_-]{43}$/);
    }
    expect(new Set(all.map(({ purchaseId }) => purchaseId)).size).toBe(all.length);
    expect(new Set(all.map(({ claimToken }) => claimToken)).size).toBe(all.length);
  });
});
