import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import type { IncomePart, IncomeSnapshot, Keystore } from './keystore.ts';

afterEach(closeKeystores);

const DAY_MS = 86_400_000;
const MAY_1 = Date.UTC(2026, 4, 1);
const DAY = MAY_1 / DAY_MS;

const part = (more: Partial<IncomePart> = {}): IncomePart => ({
  priceId: 'price_pro',
  planId: 'pro',
  amount: 1900,
  givenBack: 0,
  ...more,
});
const income = (more: Partial<IncomeSnapshot> = {}): IncomeSnapshot => ({
  id: 'in_1',
  subscriptionId: 'sub_1',
  stripeCustomerId: 'cus_1',
  currency: 'usd',
  paidAt: MAY_1,
  parts: [part()],
  fetchedAt: 1000,
  ...more,
});
const sync = async (store: Keystore, more: Partial<IncomeSnapshot> = {}) =>
  (await store.syncIncome({ mode: 'test', income: income(more) })).outcome;
const days = (store: Keystore, firstDay = DAY, lastDay = DAY) => store.incomeByDay({ firstDay, lastDay });
const sum = (more = {}) => ({
  day: DAY,
  currency: 'usd',
  planId: 'pro',
  amount: 1900,
  givenBack: 0,
  payments: 1,
  ...more,
});

describe('income', () => {
  it('is the same however often and in whatever order it is looked at', async () => {
    const store = await keystore();
    const givenBack = { parts: [part({ givenBack: 500 })], fetchedAt: 2000 };
    expect(await sync(store, givenBack)).toBe('updated');
    expect(await sync(store)).toBe('stale');
    expect(await sync(store, { ...givenBack, fetchedAt: 3000 })).toBe('unchanged');
    expect(await sync(store, { fetchedAt: 2500 })).toBe('stale');
    expect(await days(store)).toEqual([sum({ givenBack: 500 })]);
    expect(await store.findIncome('in_1')).toEqual([part({ givenBack: 500 })]);
  });

  it('of several looks at once is that of the newest', async () => {
    const store = await keystore();
    await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        sync(store, { fetchedAt: 1000 + n, parts: [part({ givenBack: n })] }),
      ),
    );
    expect(await days(store)).toEqual([sum({ givenBack: 19 })]);
  });

  it('adds up by day, plan and currency, which are never added together', async () => {
    const store = await keystore();
    await sync(store);
    await sync(store, { id: 'in_2', paidAt: MAY_1 + DAY_MS - 1 });
    await sync(store, { id: 'in_3', currency: 'jpy', parts: [part({ amount: 2000 })] });
    await sync(store, { id: 'in_4', paidAt: MAY_1 + DAY_MS });
    await sync(store, { id: 'pi_5', parts: [part({ priceId: 'price_team', planId: 'team', amount: 9900 })] });
    await sync(store, { id: 'in_6', paidAt: MAY_1 - 1 });
    const jpy = sum({ currency: 'jpy', amount: 2000 });
    expect(await days(store)).toEqual([
      jpy,
      sum({ amount: 3800, payments: 2 }),
      sum({ planId: 'team', amount: 9900 }),
    ]);
    expect((await days(store, DAY - 1, DAY + 1)).map(({ day }) => day - DAY)).toEqual([-1, 0, 0, 0, 1]);
  });

  it('of one payment for two prices of a plan is one payment', async () => {
    const store = await keystore();
    await sync(store, { parts: [part(), part({ priceId: 'price_yearly', amount: 100 })] });
    expect(await days(store)).toEqual([sum({ amount: 2000 })]);
  });

  it('leaves out what is for no plan; what a price brought in stays with its plan when it leaves the catalogue', async () => {
    const store = await keystore();
    const foreign = part({ priceId: 'price_shirt', planId: null, amount: 700 });
    expect(await sync(store, { parts: [foreign] })).toBe('not_ours');
    expect(await sync(store, { parts: [part(), foreign] })).toBe('updated');
    expect(
      await sync(store, { parts: [part({ planId: null, givenBack: 900 }), foreign], fetchedAt: 2000 }),
    ).toBe('updated');
    expect(await days(store)).toEqual([sum({ givenBack: 900 })]);
    expect(await store.unknownIncome(['in_1', 'in_2'])).toEqual(['in_2']);
  });

  it('moves when a price was mapped to the wrong plan and the payment is looked at again', async () => {
    const store = await keystore();
    await sync(store);
    await sync(store, { parts: [part({ planId: 'team' })], fetchedAt: 2000 });
    expect(await days(store)).toEqual([sum({ planId: 'team' })]);
  });
});
