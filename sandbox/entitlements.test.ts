import type Stripe from 'stripe';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { clockFromTheTenth, closeSandboxes, refusal, type Shop, startShop } from '../test/sandboxes.ts';

const day = 86_400;
const summary = 'entitlements.active_entitlement_summary.updated';
let shop: Shop;
let stripe: Stripe;
let exports: Stripe.Entitlements.Feature;

beforeEach(async () => {
  shop = await startShop({ now: clockFromTheTenth() });
  stripe = shop.stripe;
  exports = await stripe.entitlements.features.create({ lookup_key: 'exports', name: 'Exports' });
});

afterEach(closeSandboxes);

const attach = (feature: Stripe.Entitlements.Feature) =>
  stripe.products.createFeature(shop.monthly.product as string, { entitlement_feature: feature.id });
const keysOf = async (customer: unknown) => {
  const { data } = await stripe.entitlements.activeEntitlements.list({ customer: customer as string });
  return data.map(({ lookup_key }) => lookup_key).sort();
};

test('a feature is made, found, renamed, archived, and its lookup key is its own', async () => {
  expect((await stripe.entitlements.features.list({ lookup_key: 'exports' })).data).toEqual([exports]);
  const again = stripe.entitlements.features.create({ lookup_key: 'exports', name: 'Twice' });
  expect(await refusal(again)).toMatchObject({ param: 'lookup_key' });
  await stripe.entitlements.features.update(exports.id, { name: 'CSV', active: false });
  expect((await stripe.entitlements.features.list()).data).toEqual([]);
  expect((await stripe.entitlements.features.list({ archived: true })).data).toMatchObject([{ name: 'CSV' }]);
});

test('a product carries features, each once, until they are taken away', async () => {
  const product = shop.monthly.product as string;
  const attached = await attach(exports);
  expect(await refusal(attach(exports))).toMatchObject({ param: 'entitlement_feature' });
  expect(await stripe.products.retrieveFeature(product, attached.id)).toEqual(attached);
  await stripe.products.deleteFeature(product, attached.id);
  expect((await stripe.products.listFeatures(product)).data).toEqual([]);
});

test('entitlements come with a subscription and go with it, and an event tells of both', async () => {
  await attach(exports);
  const sub = await shop.subscribe();
  const { data } = await stripe.entitlements.activeEntitlements.list({
    customer: sub.customer as string,
    expand: ['data.feature'],
  });
  expect(data).toMatchObject([{ lookup_key: 'exports', feature: { id: exports.id } }]);
  await stripe.subscriptions.update(sub.id, { metadata: { a: 'b' } });
  await stripe.subscriptions.cancel(sub.id);
  expect(await keysOf(sub.customer)).toEqual([]);
  const events = (await stripe.events.list({ type: summary })).data.reverse();
  expect(events.map(({ data }) => data)).toMatchObject([
    {
      object: { customer: sub.customer, entitlements: { data: [{ lookup_key: 'exports' }] } },
      previous_attributes: { entitlements: { data: [] } },
    },
    {
      object: { customer: sub.customer, entitlements: { data: [] } },
      previous_attributes: { entitlements: { data: [{ lookup_key: 'exports' }] } },
    },
  ]);
});

test('what is attached later comes with the next period, or with a change of plan', async () => {
  const sub = await shop.subscribe();
  await attach(exports);
  await stripe.subscriptions.update(sub.id, { metadata: { a: 'b' } });
  expect(await keysOf(sub.customer)).toEqual([]);
  await shop.advance(31 * day + 7200);
  expect(await keysOf(sub.customer)).toEqual(['exports']);

  const other = await stripe.products.create({ name: 'Team' });
  const price = await stripe.prices.create({
    product: other.id,
    currency: 'usd',
    unit_amount: 9000,
    recurring: { interval: 'month' },
  });
  const seats = await stripe.entitlements.features.create({ lookup_key: 'seats', name: 'Seats' });
  await stripe.products.createFeature(other.id, { entitlement_feature: seats.id });
  await stripe.subscriptions.update(sub.id, { items: [{ id: sub.items.data[0]!.id, price: price.id }] });
  expect(await keysOf(sub.customer)).toEqual(['seats']);
});

test('a paused subscription and one past due entitle to nothing', async () => {
  await attach(exports);
  const paused = await shop.subscribe();
  await stripe.subscriptions.pause(paused.id);
  expect(await keysOf(paused.customer)).toEqual([]);
  await stripe.subscriptions.resume(paused.id);
  expect(await keysOf(paused.customer)).toEqual(['exports']);
  const late = await shop.subscribe('renewal_fails');
  await shop.advance(31 * day + 7200);
  expect(await keysOf(late.customer)).toEqual([]);
});
