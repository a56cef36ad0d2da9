import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore, purchase, SESSION, subscription } from '../test/keystore-fixtures.ts';
import type { Keystore, PaymentSnapshot } from './keystore.ts';

afterEach(closeKeystores);

const payment = (more: Partial<PaymentSnapshot> = {}): PaymentSnapshot => ({
  chargeId: 'ch_1',
  paymentIntentId: 'pi_1',
  subscriptionId: null,
  refundedAt: null,
  paidUntil: null,
  dispute: null,
  disputedSince: null,
  fetchedAt: 1000,
  ...more,
});
const sync = (store: Keystore, more: Partial<PaymentSnapshot>, rules = {}) =>
  store.syncPayment({ mode: 'test', payment: payment(more), rulesOf: () => rules, actor: 'test' });
const bought = async (store: Keystore, more = {}) =>
  (await store.provisionPurchase(purchase({ subscription: null, paymentIntentId: 'pi_1', ...more }))).purchase
    .keyId as string;
const factsOf = async (store: Keystore, id: string) => (await store.findKeyFacts(id))!;

describe('payments', () => {
  it('given back, they end the keys they bought, replacements too, and only those', async () => {
    const store = await keystore();
    const first = await bought(store);
    const other = await bought(store, { sessionId: `${SESSION}2`, paymentIntentId: 'pi_2' });
    const rotated = await store.rotateKey({ id: first, overlapMs: 1e9, actor: 'test' });
    if (typeof rotated === 'string') throw new Error(rotated);
    expect(await sync(store, { refundedAt: 900 })).toMatchObject({ outcome: 'updated', ended: true });
    for (const id of [first, rotated.id]) {
      expect(await factsOf(store, id)).toMatchObject({ revokedReason: 'refunded' });
    }
    expect((await factsOf(store, other)).revokedAt).toBeNull();
  });

  it('given back before the purchase was seen, they end its key all the same', async () => {
    const store = await keystore();
    await sync(store, { refundedAt: 900 });
    expect(await factsOf(store, await bought(store))).toMatchObject({ revokedReason: 'refunded' });
    const subscribed = await keystore();
    await sync(subscribed, { subscriptionId: 'sub_1', paymentIntentId: 'pi_9', dispute: 'lost' });
    const id = await bought(subscribed, { subscription: subscription(), paymentIntentId: null });
    expect(await factsOf(subscribed, id)).toMatchObject({ revokedReason: 'disputed' });
  });

  it('in dispute, they suspend, until the last dispute is closed', async () => {
    const store = await keystore();
    const id = await bought(store, { subscription: subscription(), paymentIntentId: null });
    const about = { subscriptionId: 'sub_1' };
    await sync(store, { ...about, dispute: 'open', disputedSince: 500 });
    await sync(store, { ...about, chargeId: 'ch_2', dispute: 'open', disputedSince: 400 });
    expect((await factsOf(store, id)).disputedSince).toBe(400);
    await sync(store, { ...about, chargeId: 'ch_2', dispute: 'won', fetchedAt: 2000 });
    expect((await factsOf(store, id)).disputedSince).toBe(500);
    await sync(store, { ...about, dispute: null, fetchedAt: 2000 });
    expect(await factsOf(store, id)).toMatchObject({ disputedSince: null, revokedAt: null });
  });

  it('an older look changes nothing, and nothing brings a revoked key back', async () => {
    const store = await keystore();
    const id = await bought(store);
    await sync(store, { dispute: 'won', fetchedAt: 2000 });
    expect((await sync(store, { dispute: 'lost', fetchedAt: 1000 })).outcome).toBe('stale');
    expect((await factsOf(store, id)).revokedAt).toBeNull();
    await sync(store, { refundedAt: 1, fetchedAt: 3000 });
    await sync(store, { refundedAt: null, fetchedAt: 4000 });
    expect((await factsOf(store, id)).revokedReason).toBe('refunded');
    expect((await sync(store, { refundedAt: null, fetchedAt: 5000 })).outcome).toBe('unchanged');
  });

  it('a plan keeps its keys where it says so', async () => {
    const store = await keystore();
    const id = await bought(store);
    expect(await sync(store, { refundedAt: 900 }, { refund: 'keep' })).toMatchObject({ ended: false });
    expect((await factsOf(store, id)).revokedAt).toBeNull();
  });
});
