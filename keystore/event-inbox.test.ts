import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, event, keystore, purchase, SESSION } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';

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
      [{ id: 'evt_1', attempts: 1, object: { kind: 'session', id: null } }],
    ]);
    expect(await b.leaseEvents({ owner: 'b', limit: 10, leaseMs: 500 })).toEqual([]);
    time += 500;
    expect(await b.leaseEvents({ owner: 'b', limit: 10, leaseMs: 500 })).toMatchObject([
      [{ id: 'evt_1', attempts: 2 }],
    ]);
    await b.completeEvents({ ids: ['evt_1'], outcome: 'provisioned' });
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
    await store.failEvents({
      ids: ['evt_1'],
      outcome: 'stripe_unavailable',
      error: `no ${SESSION}`,
      retryAt: 5000,
    });
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toEqual([]);
    time = 5000;
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toHaveLength(1);
    await store.failEvents({ ids: ['evt_1'], outcome: 'unknown_price', error: 'price_x', retryAt: null });
    expect(await store.inboxDepth()).toEqual({ pending: 0, failed: 1 });
    expect(await store.findEvent('evt_1')).toMatchObject({ status: 'failed', error: 'price_x' });
    expect(await store.receiveEvent(event('evt_1'))).toBe('requeued');
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toMatchObject([
      [{ attempts: 1 }],
    ]);
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

  it('an event without a group, as only a hand makes it, is a group by itself', async () => {
    let time = 1000;
    const url = newKeystoreUrl();
    const store = await keystore({ url, now: () => time });
    for (const id of ['evt_1', 'evt_2', 'evt_3']) await store.receiveEvent(event(id));
    await rawQuery(url, `update events set group_key = null where id in ('evt_1', 'evt_2')`);
    const lease = async (owner: string) => {
      const groups = await store.leaseEvents({ owner, limit: 10, leaseMs: 500 });
      return groups.map((events) => events.map(({ id }) => id)).sort();
    };
    expect(await lease('a')).toEqual([['evt_1'], ['evt_2'], ['evt_3']]);
    expect(await lease('b')).toEqual([]);
    await store.completeEvents({ ids: ['evt_1'], outcome: 'open' });
    time += 500;
    expect(await lease('b')).toEqual([['evt_2'], ['evt_3']]);
  });

  it('forgets events that were processed and checkouts that came to nothing 90 days ago, and nothing else', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time });
    await store.receiveEvent(event('evt_done'));
    await store.completeEvents({ ids: ['evt_done'], outcome: 'open' });
    await store.receiveEvent(event('evt_failed'));
    await store.failEvents({ ids: ['evt_failed'], outcome: 'unknown_price', error: 'x', retryAt: null });
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

  it('the events of one customer go to one process at a time, those of others go on', async () => {
    let time = 1000;
    const url = newKeystoreUrl();
    const [a, b] = [await keystore({ url, now: () => time }), await keystore({ url, now: () => time })];
    const about = (id: string, customer: string | null) =>
      event(id, { type: 'invoice.paid', customer, object: { kind: 'subscription', id: `sub_${id}` } });
    for (const id of ['evt_1', 'evt_2']) await a.receiveEvent(about(id, 'cus_1'));
    await a.receiveEvent(about('evt_3', 'cus_2'));
    await a.receiveEvent(about('evt_4', null));
    const ids = (groups: { id: string }[][]) => groups.map((group) => group.map(({ id }) => id).sort());
    expect(ids(await a.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 }))).toEqual([['evt_1', 'evt_2']]);
    await a.receiveEvent(about('evt_5', 'cus_1'));
    expect(ids(await b.leaseEvents({ owner: 'b', limit: 9, leaseMs: 500 }))).toEqual([['evt_3'], ['evt_4']]);
    await a.completeEvents({ ids: ['evt_1'], outcome: 'updated' });
    expect(await b.leaseEvents({ owner: 'b', limit: 9, leaseMs: 500 })).toEqual([]);
    await a.failEvents({ ids: ['evt_2'], outcome: 'stripe_unavailable', error: 'away', retryAt: 9000 });
    // What waits for a later try holds nobody up.
    expect(ids(await b.leaseEvents({ owner: 'b', limit: 9, leaseMs: 500 }))).toEqual([['evt_5']]);
    time = 9000;
    expect(
      ids(await a.leaseEvents({ owner: 'a', limit: 9, leaseMs: 500 }))
        .flat()
        .sort(),
    ).toEqual(['evt_2', 'evt_3', 'evt_4', 'evt_5']);
  });

  it('what failed for good can be found and put back to work', async () => {
    const store = await keystore();
    await store.receiveEvent(event('evt_1'));
    await store.receiveEvent(event('evt_2', { object: { kind: 'subscription', id: 'sub_1' } }));
    await store.failEvents({ ids: ['evt_1'], outcome: 'unknown_price', error: 'price_x', retryAt: null });
    expect((await store.listEvents({ status: 'failed', limit: 9 })).map(({ id }) => id)).toEqual(['evt_1']);
    expect(await store.replayEvent({ id: 'evt_2', actor: 'test' })).toBe('already_waiting');
    expect(await store.replayEvent({ id: 'evt_3', actor: 'test' })).toBe('not_found');
    expect(await store.replayEvent({ id: 'evt_1', actor: 'test' })).toBe('replayed');
    expect(await store.inboxDepth()).toEqual({ pending: 2, failed: 0 });
    await store.completeEvents({ ids: ['evt_1'], outcome: 'provisioned' });
    expect(await store.replayEvent({ id: 'evt_1', actor: 'test' })).toBe('replayed');
  });

  it('a worker that says it is alive keeps its leases; what nothing has to be done about is done at once', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time });
    await store.receiveEvent(event('evt_1'));
    await store.receiveEvent(event('evt_2', { type: 'invoice.created', object: null, outcome: 'unhandled' }));
    expect(await store.findEvent('evt_2')).toMatchObject({ status: 'processed', outcome: 'unhandled' });
    expect(await store.leaseEvents({ owner: 'a', limit: 9, leaseMs: 500 })).toHaveLength(1);
    time = 1400;
    await store.renewLeases({ owner: 'b', ids: ['evt_1'], leaseMs: 500 });
    await store.renewLeases({ owner: 'a', ids: ['evt_1'], leaseMs: 500 });
    time = 1899;
    expect(await store.leaseEvents({ owner: 'b', limit: 9, leaseMs: 500 })).toEqual([]);
    time = 1900;
    expect(await store.leaseEvents({ owner: 'b', limit: 9, leaseMs: 500 })).toHaveLength(1);
  });

  it('who cannot send mail leaves it to one who can', async () => {
    const store = await keystore({ mails: true });
    const { purchase: bought } = await store.provisionPurchase(purchase());
    await store.receiveEvent(event('evt_1', { object: { kind: 'subscription', id: 'sub_9' } }));
    const leased = async (mails: boolean) =>
      (await store.leaseEvents({ owner: 'a', limit: 9, leaseMs: 500, mails })).flat().map(({ id }) => id);
    expect(await leased(false)).toEqual(['evt_1']);
    expect(await leased(false)).toEqual([]);
    expect(await leased(true)).toEqual([`mail_receipt_${bought.id}`]);
  });
});
