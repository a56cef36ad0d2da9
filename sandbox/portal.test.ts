import { afterEach, expect, test } from 'vitest';
import { clockFromTheTenth, closeSandboxes, startShop } from '../test/sandboxes.ts';

// Room for a machine busy with other things: nothing here waits by time.

const day = 86_400;
const hour = 3600;

afterEach(closeSandboxes);

test('the portal: cancel, keep, change of plan, card, and only what is configured', async () => {
  const { stripe, subscribe, advance, monthly, dearer, yearly } = await startShop({
    now: clockFromTheTenth(),
  });
  const sub = await subscribe('renewal_fails');
  const customer = sub.customer as string;
  await expect(stripe.billingPortal.sessions.create({ customer })).rejects.toThrow(
    /No configuration provided/,
  );
  const product = monthly.product as string;
  const full = await stripe.billingPortal.configurations.create({
    features: {
      subscription_cancel: { enabled: true },
      payment_method_update: { enabled: true },
      invoice_history: { enabled: true },
      subscription_update: {
        enabled: true,
        default_allowed_updates: ['price'],
        proration_behavior: 'none',
        products: [{ product, prices: [monthly.id, dearer.id] }],
      },
    },
  });
  const { url } = await stripe.billingPortal.sessions.create({
    customer,
    configuration: full.id,
    return_url: 'https://shop.example/account',
  });
  const act = (fields: Record<string, string>) =>
    fetch(url, { method: 'POST', redirect: 'manual', body: new URLSearchParams(fields) });
  expect(await (await fetch(url)).text()).toContain('https://shop.example/account');

  expect((await act({ action: 'cancel', subscription: sub.id })).status).toBe(303);
  expect(await stripe.subscriptions.retrieve(sub.id)).toMatchObject({
    status: 'active',
    cancel_at_period_end: true,
  });
  await act({ action: 'keep', subscription: sub.id });
  await act({ action: 'change_plan', subscription: sub.id, price: dearer.id });
  expect(await stripe.subscriptions.retrieve(sub.id)).toMatchObject({
    cancel_at_period_end: false,
    items: { data: [{ price: { id: dearer.id } }] },
  });
  expect((await act({ action: 'change_plan', subscription: sub.id, price: yearly.id })).status).toBe(400);
  expect((await act({ action: 'update_card', card: 'declined' })).status).toBe(400);
  expect((await act({ action: 'update_card', card: 'success' })).status).toBe(303);
  await advance(31 * day + 2 * hour);
  expect((await stripe.subscriptions.retrieve(sub.id)).status).toBe('active');

  expect((await fetch(url)).status).toBe(404);
  const flow = await stripe.billingPortal.sessions.create({
    customer,
    configuration: full.id,
    flow_data: { type: 'payment_method_update' },
  });
  expect(await (await fetch(flow.url)).text()).toContain('<details open>');
  await expect(
    stripe.billingPortal.sessions.create({
      customer,
      configuration: full.id,
      flow_data: { type: 'subscription_cancel', subscription_cancel: { subscription: 'sub_x' } },
    }),
  ).rejects.toMatchObject({
    code: 'resource_missing',
    param: 'flow_data[subscription_cancel][subscription]',
  });
  const bare = await stripe.billingPortal.configurations.create({
    features: { invoice_history: { enabled: true } },
  });
  const limited = await stripe.billingPortal.sessions.create({ customer, configuration: bare.id });
  const refused = await fetch(limited.url, {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ action: 'cancel', subscription: sub.id }),
  });
  expect(refused.status).toBe(400);
});
