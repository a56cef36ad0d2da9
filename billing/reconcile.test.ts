import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../shared/log.ts';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';
import { runProgram } from '../test/processes.ts';
import { InboxWorker } from './inbox-worker.ts';
import { type Drift, type ReconcileOptions, reconcile } from './reconcile.ts';
import type { SettleContext } from './settle.ts';
import { createStripe } from './stripe-client.ts';

const DAY = 86_400;

let test: BillingUnderTest;
beforeEach(async () => {
  test = await startBillingUnderTest();
  await test.control('/delivery', { mode: 'paused' });
});
afterEach(() => test.close());

const contextOf = (): SettleContext => ({
  stripe: createStripe(test.config.stripe!),
  mode: 'test',
  keystore: test.keystore,
  plans: test.config.plans,
  keyPrefix: 'tg',
  ownOrigins: [test.url],
  log: createLogger({ level: 'silent' }),
});
const run = (more: Partial<ReconcileOptions> = {}) =>
  reconcile(contextOf(), { since: 0, dryRun: false, ...more });
const short = (drift: readonly Drift[]) =>
  drift
    .filter(({ what }) => what !== 'events')
    .map(({ what, here, atStripe }) => `${what}: ${here} | ${atStripe}`)
    .sort();
/** Buys and lets billing see it, with no event delivered. */
async function provision(plan = 'pro', card = 'success') {
  const { sessionId } = await test.openCheckout(plan);
  await test.pay(sessionId, card);
  await fetch(`${test.url}/billing/success?session_id=${sessionId}`);
  const purchase = (await test.keystore.findPurchase(sessionId))!;
  return { ...purchase, facts: async () => (await test.keystore.findKeyFacts(purchase.keyId!))! };
}
async function refund(subscriptionId: string): Promise<string> {
  const invoices = await test.stripe.invoices.list({ subscription: subscriptionId });
  const payments = await test.stripe.invoicePayments.list({ invoice: invoices.data.at(-1)!.id });
  const { payment_intent } = payments.data[0]!.payment;
  const { charge } = await test.stripe.refunds.create({ payment_intent: payment_intent as string });
  return charge as string;
}

describe('reconcile', () => {
  it('finds everything that was missed, says it, puts it right, and then finds nothing', async () => {
    const upgraded = await provision();
    const canceled = await provision();
    const refunded = await provision();
    const failing = await provision('pro', 'renewal_fails');
    const missed = await test.buy('team');
    const [item] = (await test.stripe.subscriptions.retrieve(upgraded.subscriptionId!)).items.data;
    await test.stripe.subscriptions.update(upgraded.subscriptionId!, {
      items: [{ id: item!.id, price: test.prices.team! }],
    });
    await test.stripe.subscriptions.cancel(canceled.subscriptionId!);
    const charge = await refund(refunded.subscriptionId!);
    await test.control('/clock', { advance_seconds: 32 * DAY });

    const wouldBe = await run({ dryRun: true });
    expect(await test.keystore.findPurchase(missed)).toMatchObject({ status: 'pending' });
    expect((await upgraded.facts()).planId).toBe('pro');
    expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 });

    const report = await run();
    // That its keys are revoked shows once they are.
    const revoked = 'subscription: all keys revoked | active';
    expect(short(report.drift)).toEqual([...short(wouldBe.drift), revoked].sort());
    expect(short(report.drift)).toEqual(
      expect.arrayContaining([
        'purchase: pending | paid',
        'subscription: status active | status canceled',
        expect.stringMatching(/^subscription: plan pro, price price_\w+, period to .* \| plan team, /),
        expect.stringMatching(/^subscription: status active, .*owes since none \| status past_due/),
        expect.stringMatching(/^payment: kept \| refunded /),
        'income: unknown | paid $19, given back $19',
        'income: unknown | paid $99',
      ]),
    );
    expect(report.drift.find(({ what }) => what === 'payment')!.id).toBe(charge);
    expect(await test.keystore.findPurchase(missed)).toMatchObject({ status: 'provisioned' });
    expect((await upgraded.facts()).planId).toBe('team');
    expect((await canceled.facts()).subscription!.status).toBe('canceled');
    expect((await refunded.facts()).revokedReason).toBe('refunded');
    expect((await failing.facts()).subscription!.status).toBe('past_due');

    const missedEvents = report.drift.filter(({ what }) => what === 'events');
    expect(missedEvents.find(({ id }) => id === 'invoice.payment_failed')).toMatchObject({
      atStripe: '1 sent',
    });
    // The worker of the running billing takes them.
    await vi.waitFor(
      async () => expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }),
      {
        timeout: 15_000,
      },
    );

    const again = await run();
    expect(again.drift.map(({ here, open }) => ({ here, open }))).toEqual([
      { here: 'all keys revoked', open: true },
    ]);
  });

  it('says what needs a person: a price that stands for nothing, a subscription that is not there', async () => {
    const bought = await provision();
    const { team, ...mapped } = test.prices;
    await test.restart({
      STRIPE_PRICE_MAP: Object.entries(mapped)
        .map(([plan, price]) => `${price}:${plan}`)
        .join(';'),
    });
    const session = await test.stripe.checkout.sessions.create({
      mode: 'subscription',
      line_items: [{ price: team!, quantity: 1 }],
      success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
    });
    await test.pay(session.id);
    await test.keystore.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_elsewhere', email: null },
      subscription: {
        ...(await test.keystore.findSubscription(bought.subscriptionId!))!,
        id: 'sub_elsewhere',
      },
      actor: 'test',
    });
    const report = await run();
    expect(
      report.drift.filter(({ open }) => open).map(({ what, id, atStripe }) => ({ what, id, atStripe })),
    ).toEqual([
      { what: 'purchase', id: expect.stringMatching(/^pur_/), atStripe: 'paid' },
      { what: 'subscription', id: 'sub_elsewhere', atStripe: 'not there' },
    ]);
  });

  it('outlives a short outage of Stripe, and after a long one says so with the rest undone', async () => {
    await test.buy('pro');
    await test.control('/faults', { count: 4, status: 500, paths: ['/v1/checkout/sessions/cs_'] });
    const report = await run();
    expect(short(report.drift)).toEqual(['income: unknown | paid $19', 'purchase: pending | paid']);
    await test.control('/faults', { count: 1000, status: 503, paths: ['/v1/subscriptions'] });
    await expect(run()).rejects.toMatchObject({ code: 'stripe_unavailable' });
  });

  it('works events off by itself where no billing runs', async () => {
    const { customerId } = await provision();
    const customer = (await test.keystore.findCustomer(customerId!))!;
    await test.stopBilling();
    await test.stripe.customers.update(customer.stripeCustomerId!, { email: 'new@example.com' });
    await run();
    await new InboxWorker(contextOf()).drain();
    expect(await test.keystore.findCustomer(customerId!)).toMatchObject({ email: 'new@example.com' });
    expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 });
  });
});

describe('npm run reconcile', () => {
  it('prints what differs as a table, repairs it, and says that all is well after that', async () => {
    await test.stopBilling();
    const session = await test.stripe.checkout.sessions.create({
      mode: 'subscription',
      line_items: [{ price: test.prices.pro!, quantity: 1 }],
      success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
    });
    await test.pay(session.id);
    const cli = (...args: string[]) => runProgram('scripts/reconcile.ts', test.environment, args);
    const dry = await cli('--dry-run', '--since', '12h');
    expect(dry).toMatchObject({ code: 0 });
    expect(dry.output).toMatch(
      /WHAT +ID +HERE +AT STRIPE +WOULD BE DONE\npurchase +new +unknown +paid +make its key/,
    );
    const real = await cli();
    expect(real).toMatchObject({ code: 0 });
    expect(real.output).toMatch(/purchase +pur_\w+ +unknown +paid +made its key \w{12}\n/);
    expect(real.output).toMatch(
      /events +checkout.session.completed +never arrived +1 sent +fetched into the inbox/,
    );
    expect(real.output).not.toContain(session.id);
    const after = await cli();
    expect(after.output).toContain('Everything here is as at Stripe.');
    expect(JSON.parse((await cli('--json')).output)).toMatchObject({
      dry_run: false,
      drift: [],
      checked: { purchases: 1, subscriptions: 1, payments: 0 },
      inbox: { pending: 0, failed: 0 },
    });
  });

  it('refuses a length of time that is none', async () => {
    const { code, output } = await runProgram('scripts/reconcile.ts', test.environment, [
      '--since',
      'yesterday',
    ]);
    expect(code).toBe(1);
    expect(output).toContain('Give a duration such as 30m, 12h or 30d.');
  });
});
