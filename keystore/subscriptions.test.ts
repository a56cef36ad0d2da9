import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore, purchase, subscription } from '../test/keystore-fixtures.ts';
import type { Keystore, SubscriptionSnapshot } from './keystore.ts';

afterEach(closeKeystores);

/** Writes a look at the subscription of the fixtures. */
function syncIn(store: Keystore, more: Partial<SubscriptionSnapshot>) {
  return store.syncSubscription({
    mode: 'test',
    buyer: { stripeCustomerId: 'cus_1', email: null },
    subscription: subscription(more),
    actor: 't',
  });
}

describe('subscriptions', () => {
  it('an older look never overwrites a newer one, and an ended one stays ended', async () => {
    const store = await keystore();
    const sync = (more: Partial<SubscriptionSnapshot>) => syncIn(store, more);
    expect(await sync({ fetchedAt: 10 })).toBe('updated');
    expect(await sync({ fetchedAt: 11 })).toBe('unchanged');
    expect(await sync({ fetchedAt: 9, status: 'past_due' })).toBe('stale');
    expect(await sync({ fetchedAt: 12, status: 'past_due' })).toBe('updated');
    expect(await sync({ fetchedAt: 13, status: 'canceled' })).toBe('updated');
    expect(await sync({ fetchedAt: 14, status: 'active' })).toBe('stale');
  });

  it('a look stamped by a clock that has been set back since shuts out no other', async () => {
    const store = await keystore({ now: () => 5000 });
    const sync = (more: Partial<SubscriptionSnapshot>) => syncIn(store, more);
    expect(await sync({ fetchedAt: 3_605_000 })).toBe('updated');
    expect(await sync({ fetchedAt: 5000, status: 'canceled' })).toBe('updated');
  });

  it('remembers since when it is past due, until it no longer is', async () => {
    const store = await keystore();
    const { purchase: made } = await store.provisionPurchase(purchase());
    const look = async (status: SubscriptionSnapshot['status'], fetchedAt: number) => {
      await syncIn(store, { status, fetchedAt });
      return (await store.findKeyFacts(made.keyId!))?.subscription?.pastDueSince;
    };
    expect(await look('past_due', 2000)).toBe(2000);
    expect(await look('past_due', 3000)).toBe(2000);
    expect(await look('active', 4000)).toBeNull();
    expect(await look('past_due', 5000)).toBe(5000);
  });

  it('an event that comes before the purchase is no loss: the key follows the newest look', async () => {
    const store = await keystore();
    await syncIn(store, { status: 'canceled', fetchedAt: 5000 });
    const { purchase: made } = await store.provisionPurchase(purchase());
    expect(await store.findKeyFacts(made.keyId!)).toMatchObject({ subscription: { status: 'canceled' } });
    expect((await store.findKey(made.keyId!))?.email).toBe('buyer@example.com');
  });
});
