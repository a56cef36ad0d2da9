import { afterEach, describe, expect, it } from 'vitest';
import { accessOf } from '../shared/access.ts';
import { closeKeystores, keystore, purchase, subscription } from '../test/keystore-fixtures.ts';
import type { Keystore } from './keystore.ts';

afterEach(closeKeystores);

const MINUTE = { name: 'minute', requests: 600, seconds: 60 };
const OWN = { limits: [MINUTE], quota: 50_000 };

/** A key that was bought, and its subscription. */
async function bought() {
  const store = await keystore();
  const { purchase: made } = await store.provisionPurchase(purchase());
  const sync = (more: object) =>
    store.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_1', email: null },
      subscription: subscription(more),
      actor: 't',
    });
  return { store, id: made.keyId as string, sync };
}

async function rotated(store: Keystore, id: string, overlapMs = 60_000): Promise<string> {
  const fresh = await store.rotateKey({ id, overlapMs, actor: 't' });
  if (typeof fresh === 'string') throw new Error(fresh);
  return fresh.id;
}

async function mayNow(store: Keystore, id: string): Promise<string> {
  const key = (await store.findKeyFacts(id))!;
  const access = accessOf(key, key.subscription, {}, Date.now());
  return access.state === 'active' ? 'active' : access.code;
}

const actions = async (store: Keystore, id: string) =>
  (await store.keyHistory(id)).map(({ action }) => action);

describe('a suspension by the seller', () => {
  it('is lifted by nothing but its end, and says who, from where and why', async () => {
    const { store, id, sync } = await bought();
    const by = { id, actor: 'console:ada', address: '192.0.2.7' };
    expect(await store.suspendKey({ ...by, note: 'asked for a call' })).toBe('suspended');
    expect(await store.suspendKey({ ...by, note: 'again' })).toBe('already_suspended');
    expect(await store.findKey(id)).toMatchObject({
      suspendedAt: expect.any(Number),
      suspendedNote: 'asked for a call',
    });
    await store.provisionPurchase(purchase());
    await sync({ status: 'past_due', fetchedAt: 9000 });
    await sync({ status: 'active', planId: 'team', fetchedAt: 9001 });
    expect(await mayNow(store, id)).toBe('suspended_by_seller');
    expect(await store.resumeKey(by)).toBe('resumed');
    expect(await store.resumeKey(by)).toBe('not_suspended');
    expect(await mayNow(store, id)).toBe('active');
    const history = await store.keyHistory(id);
    expect(history.filter(({ action }) => /suspended|resumed/.test(action))).toEqual([
      expect.objectContaining({
        action: 'key.suspended',
        actor: 'console:ada',
        address: '192.0.2.7',
        details: '{"note":"asked for a call"}',
      }),
      expect.objectContaining({
        action: 'key.resumed',
        details: expect.stringMatching(/"since":\d+,"note":"asked for a call"/),
      }),
    ]);
  });

  it('is of the whole chain: of what it was rotated from, and of what is rotated from it', async () => {
    const { store, id } = await bought();
    const second = await rotated(store, id);
    await store.suspendKey({ id, note: null, actor: 't' });
    const third = await rotated(store, second);
    for (const each of [id, second, third]) expect(await mayNow(store, each)).toBe('suspended_by_seller');
    const fourth = await rotated(store, third, 0);
    expect(await mayNow(store, third)).toBe('revoked_key');
    expect(await mayNow(store, fourth)).toBe('suspended_by_seller');
    await store.resumeKey({ id: fourth, actor: 't' });
    for (const each of [id, second, fourth]) {
      expect(await mayNow(store, each)).toBe('active');
      expect(await actions(store, each)).toContain('key.resumed');
    }
    expect(await actions(store, third)).not.toContain('key.resumed');
  });

  it('of a revoked key changes nothing, and a suspended one can be revoked', async () => {
    const { store, id } = await bought();
    await store.suspendKey({ id, note: null, actor: 't' });
    expect(await store.revokeKey({ id, reason: 'operator', actor: 't' })).toBe('revoked');
    expect(await mayNow(store, id)).toBe('revoked_key');
    expect(await store.resumeKey({ id, actor: 't' })).toBe('revoked');
    expect(await store.suspendKey({ id, note: null, actor: 't' })).toBe('revoked');
    expect(await store.overrideLimits({ id, override: OWN, actor: 't' })).toBe('revoked');
    for (const outcome of [
      store.suspendKey({ id: 'nosuchkey000', note: null, actor: 't' }),
      store.resumeKey({ id: 'nosuchkey000', actor: 't' }),
      store.overrideLimits({ id: 'nosuchkey000', override: OWN, actor: 't' }),
    ])
      expect(await outcome).toBe('not_found');
  });
});

describe('limits of a key of its own', () => {
  it('stay with renewals, plan changes and rotations, and can be given back', async () => {
    const { store, id, sync } = await bought();
    expect((await store.findKeyFacts(id))?.override).toBeNull();
    expect(await store.overrideLimits({ id, override: OWN, actor: 't' })).toBe('overridden');
    await sync({ planId: 'team', quantity: 3, fetchedAt: 9000 });
    const second = await rotated(store, id);
    for (const each of [id, second]) expect((await store.findKeyFacts(each))?.override).toEqual(OWN);
    await store.overrideLimits({ id: second, override: { limits: null, quota: 7 }, actor: 't' });
    for (const each of [id, second])
      expect((await store.findKey(each))?.override).toEqual({ limits: null, quota: 7 });
    await store.overrideLimits({ id, override: null, actor: 't' });
    for (const each of [id, second]) expect((await store.findKeyFacts(each))?.override).toBeNull();
    const history = (await store.keyHistory(id)).filter(({ action }) => action === 'key.limits_overridden');
    expect(history.map(({ details }) => JSON.parse(details as string))).toEqual([
      { from: "the plan's", to: { limits: ['600 per minute'], quota: 50_000 } },
      { from: { limits: ['600 per minute'], quota: 50_000 }, to: { quota: 7 } },
      { from: { quota: 7 }, to: "the plan's" },
    ]);
  });

  it('given as none at all are none', async () => {
    const { store, id } = await bought();
    await store.overrideLimits({ id, override: { limits: null, quota: null }, actor: 't' });
    expect((await store.findKeyFacts(id))?.override).toBeNull();
  });
});
