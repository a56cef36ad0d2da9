import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, event, keystore, purchase, SESSION } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';

afterEach(closeKeystores);

describe('event inbox', () => {
  it('keeps an event once, leases it to one owner, and hands it on when the lease runs out', async () => {
    let time = 1000;
    const url = newKeystoreUrl();
    const a = await keystore({ url, now: () => time });
    const b = await keystore({ url, now: () => time });
    expect(await a.receiveEvent(event('evt_1'))).toBe('received');
    expect(await b.receiveEvent(event('evt_1'))).toBe('duplicate');
    expect(await a.leaseEvents({ owner: 'a', limit: 10, leaseMs: 500 })).toMatchObject([
      { id: 'evt_1', attempts: 1, objectId: null },
    ]);
    expect(await b.leaseEvents({ owner: 'b', limit: 10, leaseMs: 500 })).toEqual([]);
    time += 500;
    expect(await b.leaseEvents({ owner: 'b', limit: 10, leaseMs: 500 })).toMatchObject([
      { id: 'evt_1', attempts: 2 },
    ]);
    await b.completeEvent({ id: 'evt_1', outcome: 'provisioned' });
    time += 10_000;
    expect(await a.leaseEvents({ owner: 'a', limit: 10, leaseMs: 500 })).toEqual([]);
    expect(await a.receiveEvent(event('evt_1'))).toBe('duplicate');
    const done = await a.findEvent('evt_1');
    expect(done).toMatchObject({ status: 'processed', outcome: 'provisioned' });
    expect(done?.payload).not.toContain(SESSION);
    expect(JSON.parse(done!.payload)).toMatchObject({ data: { object: { id: 'cs_test_[redacted]' } } });
  });

  it('waits before a retry, keeps what failed for good, and works on it again when Stripe resends it', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time });
    await store.receiveEvent(event('evt_1'));
    await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 });
    await store.failEvent({
      id: 'evt_1',
      outcome: 'stripe_unavailable',
      error: `no ${SESSION}`,
      retryAt: 5000,
    });
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toEqual([]);
    time = 5000;
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toHaveLength(1);
    await store.failEvent({ id: 'evt_1', outcome: 'unknown_price', error: 'price_x', retryAt: null });
    expect(await store.inboxDepth()).toEqual({ pending: 0, failed: 1 });
    expect(await store.findEvent('evt_1')).toMatchObject({ status: 'failed', error: 'price_x' });
    expect(await store.receiveEvent(event('evt_1'))).toBe('requeued');
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toMatchObject([{ attempts: 1 }]);
  });

  it('gives leases back when a worker stops', async () => {
    const store = await keystore();
    await store.receiveEvent(event('evt_1'));
    await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500_000 });
    expect(await store.leaseEvents({ owner: 'b', limit: 1, leaseMs: 500_000 })).toEqual([]);
    await store.releaseLeases('b');
    expect(await store.leaseEvents({ owner: 'b', limit: 1, leaseMs: 500_000 })).toEqual([]);
    await store.releaseLeases('a');
    expect(await store.leaseEvents({ owner: 'b', limit: 1, leaseMs: 500_000 })).toHaveLength(1);
  });

  it('forgets events that were processed and checkouts that came to nothing 90 days ago, and nothing else', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time });
    await store.receiveEvent(event('evt_done'));
    await store.completeEvent({ id: 'evt_done', outcome: 'open' });
    await store.receiveEvent(event('evt_failed'));
    await store.failEvent({ id: 'evt_failed', outcome: 'unknown_price', error: 'x', retryAt: null });
    const abandoned = `cs_test_${'Zz'.repeat(28)}`;
    await store.recordPurchase({ sessionId: abandoned, mode: 'test', planId: 'pro', priceId: 'price_pro' });
    await store.provisionPurchase(purchase());
    time += 90 * 86_400_000;
    await store.sweep();
    expect(await store.findPurchase(abandoned)).toBeDefined();
    time += 1;
    await store.sweep();
    expect(await store.findPurchase(abandoned)).toBeUndefined();
    expect(await store.findPurchase(SESSION)).toMatchObject({ status: 'provisioned' });
    expect(await store.findEvent('evt_done')).toBeUndefined();
  });

  it('closes what waits for a session once its purchase is provisioned', async () => {
    const store = await keystore();
    await store.receiveEvent(event('evt_1'));
    await store.provisionPurchase(purchase());
    expect(await store.inboxDepth()).toEqual({ pending: 0, failed: 0 });
    const closed = await store.findEvent('evt_1');
    expect(closed).toMatchObject({ status: 'processed', outcome: 'provisioned' });
    expect(closed?.payload).not.toContain(SESSION);
  });
});
