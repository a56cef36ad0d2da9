import type Stripe from 'stripe';
import { afterEach, expect, test } from 'vitest';
import { PLAN_DEFAULTS, type PlanCatalogue } from '../shared/plans.ts';
import { closeSandboxes, type Shop, startShop } from '../test/sandboxes.ts';
import { StripePortal } from './stripe-portal.ts';

afterEach(closeSandboxes);

/** A catalogue that sells these prices, a plan each; `hidden` ones are not on sale. */
function selling(prices: readonly string[], hidden: readonly string[] = []): PlanCatalogue {
  const plans = [...prices, ...hidden].map((priceId) => ({
    ...PLAN_DEFAULTS,
    id: `plan-${priceId}`,
    name: priceId,
    hidden: hidden.includes(priceId),
  }));
  return {
    plans,
    plan: (id) => plans.find((plan) => plan.id === id),
    planForPrice: () => 'unknown',
    pricesIn: () => [],
    priceForPlan: (planId) => planId.replace('plan-', ''),
  };
}
const portalOf = (stripe: Stripe, plans: PlanCatalogue) =>
  new StripePortal(stripe, {
    plans,
    mode: 'test',
    productName: 'Demo API',
    manageUrl: 'https://shop.example/billing/manage',
  });
const configurations = async ({ stripe }: Shop) =>
  (await stripe.billingPortal.configurations.list({ limit: 100 })).data;
const productPrices = (configuration: Stripe.BillingPortal.Configuration | undefined) =>
  configuration?.features.subscription_update.products?.map(({ prices }) => prices);

test('however many processes open it at once for the first time, one configuration is made', async () => {
  const shop = await startShop();
  const { customer } = await shop.subscribe();
  const plans = selling([shop.monthly.id, shop.yearly.id]);
  // Somebody else's configuration is left alone.
  await shop.stripe.billingPortal.configurations.create({ features: { invoice_history: { enabled: true } } });
  const urls = await Promise.all(
    Array.from({ length: 8 }, () =>
      portalOf(shop.stripe, plans).open(customer as string, 'https://shop.example/back'),
    ),
  );
  for (const url of urls) expect(await (await fetch(url as string)).text()).toContain('shop.example/back');
  const all = await configurations(shop);
  expect(all).toHaveLength(2);
  expect(productPrices(all.find(({ metadata }) => metadata?.tollgate_portal))).toEqual([
    [shop.monthly.id, shop.yearly.id],
  ]);
});

test('a subscription can be moved only to what Stripe takes here', async () => {
  const shop = await startShop();
  const { stripe } = shop;
  const { customer } = await shop.subscribe();
  const once = await shop.price(900);
  const archived = await stripe.prices.update((await shop.price(700, 'year')).id, { active: false });
  // `dearer` is of the same product and interval as `monthly`.
  const plans = selling(
    [shop.monthly.id, shop.dearer.id, once.id, archived.id, 'price_gone', shop.yearly.id],
    [(await shop.price(1, 'year')).id],
  );
  expect(await portalOf(stripe, plans).open(customer as string, 'https://shop.example/')).toContain('/p/');
  const [configuration] = await configurations(shop);
  expect(productPrices(configuration)).toEqual([[shop.monthly.id, shop.yearly.id]]);
});

test('with one price there is nothing to change to, and no more is offered', async () => {
  const shop = await startShop();
  const { customer } = await shop.subscribe();
  await portalOf(shop.stripe, selling([shop.monthly.id])).open(customer as string, 'https://shop.example/');
  const [configuration] = await configurations(shop);
  expect(configuration).toMatchObject({
    features: {
      subscription_update: { enabled: false },
      subscription_cancel: { enabled: true, mode: 'at_period_end' },
      payment_method_update: { enabled: true },
    },
  });
});

test('a customer that Stripe does not know has no portal', async () => {
  const shop = await startShop();
  const portal = portalOf(shop.stripe, selling([shop.monthly.id]));
  expect(await portal.open('cus_gone', 'https://shop.example/')).toBeNull();
  expect(await configurations(shop)).toHaveLength(1);
});

test('a failure is not remembered', async () => {
  const shop = await startShop();
  const { customer } = await shop.subscribe();
  const portal = portalOf(shop.stripe, selling([shop.monthly.id]));
  const open = () => portal.open(customer as string, 'https://shop.example/');
  await shop.control('faults', { status: 500, count: 100 });
  await expect(open()).rejects.toMatchObject({ code: 'stripe_unavailable' });
  await shop.control('faults/clear');
  expect(await open()).toContain('/p/session/');
});
