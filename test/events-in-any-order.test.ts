import fc from 'fast-check';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { accessOf, SUBSCRIPTION_STATUSES } from '../shared/access.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { subscription } from './keystore-fixtures.ts';
import { openTestKeystore } from './keystores.ts';

let test: BillingUnderTest;
beforeAll(async () => {
  test = await startBillingUnderTest();
});
afterAll(() => test.close());

it('looks that are written in any order, each any number of times, leave the newest', async () => {
  const look = fc.record({
    status: fc.constantFrom(
      ...SUBSCRIPTION_STATUSES.filter((status) => status !== 'canceled' && status !== 'incomplete_expired'),
    ),
    planId: fc.constantFrom('free', 'pro', 'team'),
    cancelAtPeriodEnd: fc.boolean(),
  });
  const history = fc.array(look, { minLength: 1, maxLength: 8 }).chain((looks) =>
    fc.record({
      looks: fc.constant(looks),
      written: fc.array(fc.nat(looks.length - 1), { maxLength: 16 }),
      atLeastOnce: fc.shuffledSubarray([...looks.keys()], { minLength: looks.length }),
    }),
  );
  await fc.assert(
    fc.asyncProperty(history, async ({ looks, written, atLeastOnce }) => {
      const keystore = await openTestKeystore();
      try {
        for (const index of [...written, ...atLeastOnce]) {
          const taken = looks[index]!;
          await keystore.syncSubscription({
            mode: 'test',
            buyer: { stripeCustomerId: 'cus_1', email: null },
            subscription: subscription({
              priceId: `price_${taken.planId}`,
              fetchedAt: 1000 + index,
              ...taken,
            }),
            actor: 'test',
          });
        }
        const { planId } = looks.at(-1)!;
        expect(await keystore.findSubscription('sub_1')).toMatchObject({
          planId,
          priceId: `price_${planId}`,
        });
      } finally {
        await keystore.close();
      }
    }),
    { numRuns: 40 },
  );
});

it('a life of events, shuffled and repeated, ends as Stripe has it', async () => {
  const lives = fc.array(fc.constantFrom('upgrade', 'downgrade', 'cancel_later', 'keep', 'cancel', 'renew'), {
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(lives, fc.nat(10_000), fc.integer({ min: 1, max: 3 }), async (life, seed, copies) => {
      await test.control('/delivery', { mode: 'paused' });
      const { sessionId } = await test.openCheckout('pro');
      await test.pay(sessionId);
      const session = await test.stripe.checkout.sessions.retrieve(sessionId);
      const subscriptionId = session.subscription as string;
      for (const step of life) await live(subscriptionId, step);
      await test.control('/delivery', { mode: copies > 1 ? 'duplicated' : 'shuffled', copies, seed });
      await test.control('/delivery/flush', { order: 'shuffled', seed });
      await vi.waitFor(async () =>
        expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }),
      );

      const truth = await test.stripe.subscriptions.retrieve(subscriptionId);
      const purchase = (await test.keystore.findPurchase(sessionId))!;
      expect(purchase.status).toBe('provisioned');
      const facts = (await test.keystore.findKeyFacts(purchase.keyId!))!;
      const plan = Object.entries(test.prices).find(
        ([, price]) => price === truth.items.data[0]!.price.id,
      )![0];
      expect({ plan: facts.planId, status: facts.subscription!.status }).toEqual({
        plan,
        status: truth.status,
      });
      const access = accessOf(facts, facts.subscription, {}, Date.now());
      expect(access.state).toBe(truth.status === 'canceled' ? 'expired' : 'active');
    }),
    { numRuns: 25 },
  );
});

async function live(subscriptionId: string, step: string): Promise<void> {
  const { items, status } = await test.stripe.subscriptions.retrieve(subscriptionId);
  if (status === 'canceled') return;
  const item = items.data[0]!;
  const change = (plan: string) =>
    test.stripe.subscriptions.update(subscriptionId, { items: [{ id: item.id, price: test.prices[plan]! }] });
  if (step === 'upgrade') await change('team');
  if (step === 'downgrade') await change('pro');
  if (step === 'cancel_later')
    await test.stripe.subscriptions.update(subscriptionId, { cancel_at_period_end: true });
  if (step === 'keep')
    await test.stripe.subscriptions.update(subscriptionId, { cancel_at_period_end: false });
  if (step === 'cancel') await test.stripe.subscriptions.cancel(subscriptionId);
  if (step === 'renew') await test.control('/clock', { advance_seconds: 32 * 86_400 });
}
