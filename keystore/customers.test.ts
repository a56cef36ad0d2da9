import { afterEach, expect, it } from 'vitest';
import { closeKeystores, keystore, purchase } from '../test/keystore-fixtures.ts';
import type { CustomerSnapshot } from './keystore.ts';

afterEach(closeKeystores);

const look = (more: Partial<CustomerSnapshot>): CustomerSnapshot => ({
  stripeCustomerId: 'cus_1',
  email: 'new@example.com',
  entitlements: null,
  fetchedAt: 1000,
  ...more,
});

it('a look at the customer and one at the entitlements do not shut each other out', async () => {
  const store = await keystore();
  const { purchase: bought } = await store.provisionPurchase(purchase());
  const sync = (more: Partial<CustomerSnapshot>) =>
    store.syncCustomer({ customer: look(more), actor: 'test' });
  const rights = async () => (await store.findKeyFacts(bought.keyId!))!.entitlements;
  expect(await sync({ fetchedAt: 2000 })).toBe('updated');
  expect(await sync({ email: 'old@example.com', entitlements: ['b', 'a'], fetchedAt: 1000 })).toBe('updated');
  expect(await rights()).toEqual(['a', 'b']);
  expect(await store.findCustomer('cus_1')).toMatchObject({ email: 'new@example.com' });
  expect(await sync({ entitlements: [], fetchedAt: 500 })).toBe('stale');
  expect(await rights()).toEqual(['a', 'b']);
  expect(await sync({ entitlements: [], fetchedAt: 3000 })).toBe('updated');
  expect(await rights()).toEqual([]);
  expect(await sync({ stripeCustomerId: 'cus_other' })).toBe('not_ours');
});
