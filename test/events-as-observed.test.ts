import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Stripe from 'stripe';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { EVENT_KINDS } from '../billing/stripe-events.ts';
import { accessOf } from '../shared/access.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { temporaryFolder } from './keystores.ts';
import { NOT_PART_OF_THE_PROJECT } from './summary-reporter.ts';

/** Orders in which real webhooks were seen to arrive. Beside the project, and no part of it. */
const OBSERVED = new URL('../../shared/stripe/observed-sequences.json', import.meta.url);
const present = existsSync(OBSERVED);

type Sequence = { flow: string; events?: string[]; states?: string[] };
type Observed = { second: number; type: string };

const sequences = present
  ? (JSON.parse(readFileSync(OBSERVED, 'utf8')) as { sequences: Sequence[] }).sequences
  : [];

/** A pause this long in a log is one in which somebody did something else, seconds. */
const LULL_S = 60;
const DAY_MS = 86_400_000;
const PLANS = `plans:
  pro: { name: Pro, price: { amount: 19, currency: usd, per: month }, limits: [{ requests: 600, per: minute }] }
  team: { name: Team, price: { amount: 99, currency: usd, per: month }, limits: [{ requests: 3000, per: minute }] }
  once: { name: Once, price: { amount: 40, currency: usd, per: once }, limits: [{ requests: 60, per: minute }] }
`;

let test: BillingUnderTest;
afterEach(() => test?.close());

/** What a flow leaves here. Ids of Stripe's objects; a session is there where something was bought in a checkout. */
type Subject = { sessionId?: string; subscriptionId?: string; chargeId?: string };

/** A flow: what was there before the log begins, what happens in it (a part for each lull), and how it must end. */
type Flow = {
  before?: () => Promise<Subject>;
  parts: ((subject: Subject) => Promise<void>)[];
  ends: (subject: Subject) => Promise<void>;
};

/** The flows by words of their description. One that nobody has written down here fails. */
const FLOWS: [RegExp, Flow][] = [
  [/checkout, hosted page, new customer|checkout \(tail\)|checkout, filtered/, checkout()],
  [/checkout, existing customer/, checkout(true)],
  [
    /created by API .*deleted/,
    {
      parts: [
        async (subject) => {
          subject.subscriptionId = (await subscribeByApi()).id;
          await test.stripe.subscriptions.cancel(subject.subscriptionId);
        },
      ],
      ends: async ({ subscriptionId }) => {
        // It was bought nowhere, so there is no key to end.
        expect(await test.keystore.findSubscription(subscriptionId!)).toMatchObject({
          status: 'canceled',
          hasKey: false,
        });
        expect(await test.keystore.listKeys({ limit: 1 })).toEqual([]);
      },
    },
  ],
  [
    /create, incomplete/,
    {
      parts: [
        async (subject) => {
          const { id, latest_invoice } = await subscribeByApi({
            payment_behavior: 'default_incomplete',
            expand: ['latest_invoice.payments'],
          });
          subject.subscriptionId = id;
          const [payment] = (latest_invoice as Stripe.Invoice).payments!.data;
          await test.stripe.paymentIntents.confirm(payment!.payment.payment_intent as string, {
            payment_method: 'pm_card_visa',
          });
        },
      ],
      ends: async ({ subscriptionId }) =>
        expect(await test.keystore.findSubscription(subscriptionId!)).toMatchObject({
          status: 'active',
          planId: 'pro',
        }),
    },
  ],
  [
    /upgrade/,
    {
      before: () => bought('pro'),
      parts: [
        async ({ subscriptionId }) => {
          const [item] = (await test.stripe.subscriptions.retrieve(subscriptionId!)).items.data;
          await test.stripe.subscriptions.update(subscriptionId!, {
            items: [{ id: item!.id, price: test.prices.team! }],
            proration_behavior: 'always_invoice',
          });
        },
      ],
      ends: async (subject) => {
        const { planId, keys, access } = await standing(subject);
        expect({ planId, keys, access }).toEqual({
          planId: 'team',
          keys: 1,
          access: { state: 'active', until: null },
        });
        expect(test.config.plans.plan(planId)!.limits).toMatchObject([{ requests: 3000, seconds: 60 }]);
      },
    },
  ],
  [
    /cancel at period end/,
    {
      before: () => bought('pro'),
      parts: [({ subscriptionId }) => inPortal(subscriptionId!, 'cancel')],
      ends: async (subject) => {
        const { facts, access } = await standing(subject);
        expect(access).toEqual({ state: 'active', until: null });
        expect(facts.subscription!.cancelAt).toBe(facts.subscription!.currentPeriodEnd);
      },
    },
  ],
  [
    /cancel, then end/,
    {
      before: () => bought('pro'),
      parts: [
        ({ subscriptionId }) => openPortal(subscriptionId!).then(() => undefined),
        ({ subscriptionId }) => inPortal(subscriptionId!, 'cancel'),
        () => pass(32),
      ],
      ends: async (subject) =>
        expect((await standing(subject)).access).toEqual({ state: 'expired', code: 'subscription_ended' }),
    },
  ],
  [
    /one-time checkout, then full refund/,
    {
      parts: [(subject) => buy(subject, 'once'), refund],
      ends: endsRevoked,
    },
  ],
  [/^refund/, { before: () => bought('once'), parts: [refund], ends: endsRevoked }],
  [
    /failed renewal/,
    {
      before: () => bought('pro', 'renewal_fails'),
      parts: [
        async (subject) => {
          const [item] = (await subscriptionOf(subject)).items.data;
          await pass(0, item!.current_period_end + 60 - Math.floor(Date.now() / 1000));
          const { latest_invoice, status } = await subscriptionOf(subject, ['latest_invoice']);
          expect(latest_invoice).toMatchObject({ status: 'draft', attempt_count: 0 });
          expect({ status, failures: await eventsOf('invoice.payment_failed') }).toEqual({
            status: 'active',
            failures: [],
          });
        },
        async (subject) => {
          await pass(0, 3700);
          const { latest_invoice, status } = await subscriptionOf(subject, ['latest_invoice']);
          expect(latest_invoice).toMatchObject({ status: 'open', attempted: true, attempt_count: 1 });
          expect(status).toBe('past_due');
          expect(await eventsOf('invoice.payment_failed')).toHaveLength(1);
        },
      ],
      ends: async (subject) => {
        const { facts } = await standing(subject);
        const { status, pastDueSince } = facts.subscription!;
        const failure = (await eventsOf('invoice.payment_failed')).at(-1);
        // The grace counts from the first failure, to the second in which Stripe says it was.
        expect({ status, pastDueSince }).toEqual({
          status: 'past_due',
          pastDueSince: failure!.created * 1000,
        });
        const plan = test.config.plans.plan('pro')!;
        const at = (ms: number) => accessOf(facts, facts.subscription, plan, ms).state;
        const over = pastDueSince! + 14 * DAY_MS;
        expect([at(pastDueSince!), at(over - 1), at(over)]).toEqual(['active', 'active', 'suspended']);
        // Stripe's next attempt fails too, and prolongs nothing.
        await pass(3);
        await test.control('/delivery/flush');
        await settled();
        expect((await standing(subject)).facts.subscription).toMatchObject({ status, pastDueSince });
      },
    },
  ],
];

/** How the events of a log come in: the second says when, and those of one second may cross each other. */
const WAYS = {
  'one after the other': (events: Observed[]) => events.map((event) => [event]),
  'together where the log has them in one second': (events: Observed[]) => [
    ...Map.groupBy(events, ({ second }) => second).values(),
  ],
};

if (!present)
  it('orders observed at Stripe', ({ skip }) => {
    skip(`${NOT_PART_OF_THE_PROJECT}: orders in which Stripe's events were seen to arrive`);
  });

describe.skipIf(!present)('as observed at Stripe', () => {
  const cases = sequences.flatMap((sequence) =>
    Object.keys(WAYS).flatMap((way) => {
      const asItHappens = { name: `${sequence.flow}: ${way}`, sequence, way, late: false };
      const allLate = { ...asItHappens, name: `${asItHappens.name}, all of it late`, late: true };
      return partsOf(sequence).length > 1 ? [asItHappens, allLate] : [asItHappens];
    }),
  );
  it.each(cases.map((each) => [each.name, each] as const))('%s', async (_name, { sequence, way, late }) => {
    const flow = FLOWS.find(([words]) => words.test(sequence.flow))?.[1];
    if (!flow) throw new Error(`Nobody has written down what happens in "${sequence.flow}"`);
    const plans = join(temporaryFolder(), 'plans.yaml');
    writeFileSync(plans, PLANS);
    test = await startBillingUnderTest({ PLANS_FILE: plans });
    const subject: Subject = (await flow.before?.()) ?? {};
    await settled();
    await test.control('/delivery', { mode: 'paused' });
    const known = new Set((await heldEvents()).map(({ event }) => event));

    const logs = partsOf(sequence);
    expect(flow.parts).toHaveLength(logs.length);
    if (late) for (const part of flow.parts) await part(subject);
    for (const [index, log] of logs.entries()) {
      if (!late) await flow.parts[index]!(subject);
      for (const group of WAYS[way as keyof typeof WAYS](log)) {
        const sent = [];
        for (const { type } of group) sent.push(await take(type, known, subject));
        await Promise.all(sent.map((send) => send()));
        await settled();
      }
      // Where no log says which events there were, all of them come.
      if (sequence.states) await test.control('/delivery/flush');
      await settled();
      const more = index < logs.length - 1;
      if (more && !late) expect((await standing(subject)).access).toEqual({ state: 'active', until: null });
    }
    await flow.ends(subject);
    // And whatever the log left out comes in the end.
    expect(await test.control('/delivery/flush')).toMatchObject({ failed: 0 });
    await settled();
    await flow.ends(subject);
  });
});

/** A log's events, in the parts that lie between its lulls. Of states, each is a part. */
function partsOf({ events, states }: Sequence): Observed[][] {
  if (states) return states.map(() => []);
  const parts: Observed[][] = [];
  let before = Number.NEGATIVE_INFINITY;
  for (const line of events ?? []) {
    const [, seconds, type] = /^(\d+) (\S+)$/.exec(line)!;
    const second = Number(seconds);
    if (second - before > LULL_S) parts.push([]);
    parts.at(-1)!.push({ second, type: type! });
    before = second;
  }
  return parts;
}

/**
 * The next event of a type that really happened, taken out of what is held; how to deliver it. One of a type that the
 * sandbox has no event for is made up, and signed, about the object as it is now.
 */
async function take(type: string, known: Set<string>, subject: Subject): Promise<() => Promise<void>> {
  const next = (await heldEvents()).find((each) => each.type === type && !known.has(each.event));
  if (next) {
    known.add(next.event);
    return async () =>
      expect(await test.control(`/events/${next.event}/deliver`)).toMatchObject({
        attempts: [{ status: 200 }],
      });
  }
  const object = await objectOf(type, subject);
  const id = `evt_made${known.size}${type.replaceAll(/\W/g, '')}`;
  known.add(id);
  const payload = JSON.stringify({
    id,
    object: 'event',
    type,
    livemode: false,
    created: Math.floor(Date.now() / 1000),
    data: { object },
  });
  return async () => {
    const answer = await fetch(`${test.url}/billing/webhook`, {
      method: 'POST',
      body: payload,
      headers: {
        'Stripe-Signature': Stripe.webhooks.generateTestHeaderString({
          payload,
          secret: test.webhookSecret,
        }),
      },
    });
    expect(answer.status).toBe(200);
  };
}

async function objectOf(type: string, subject: Subject): Promise<object> {
  if (type.startsWith('customer.subscription.')) return subscriptionOf(subject);
  // Types about which something is done, and which did not happen: the flow is not the one of the log.
  expect(EVENT_KINDS).not.toHaveProperty([type]);
  return { id: 'made_up', object: type.split('.')[0] };
}

async function heldEvents(): Promise<{ event: string; type: string }[]> {
  const answer = await fetch(`${test.sandbox.url}/_sandbox/deliveries`);
  return ((await answer.json()) as { deliveries: { event: string; type: string }[] }).deliveries;
}

/** Waits until every event that came in is worked off, and none of them failed. */
async function settled(): Promise<void> {
  await vi.waitFor(async () => expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }), {
    timeout: 15_000,
    interval: 5,
  });
}

function checkout(existing = false): Flow {
  return {
    parts: [
      async (subject) => {
        const more = existing
          ? { customer: (await test.stripe.customers.create({ email: 'known@example.com' })).id }
          : {};
        await buy(subject, 'pro', 'success', more);
      },
    ],
    async ends(subject) {
      const { keys, planId, access } = await standing(subject);
      expect({ keys, planId, access }).toEqual({
        keys: 1,
        planId: 'pro',
        access: { state: 'active', until: null },
      });
    },
  };
}

/** A checkout of a plan, paid; what is done about it here comes with its events. */
async function buy(
  subject: Subject,
  plan: string,
  card = 'success',
  more: { customer?: string } = {},
): Promise<void> {
  const { id } = await test.stripe.checkout.sessions.create({
    mode: plan === 'once' ? 'payment' : 'subscription',
    line_items: [{ price: test.prices[plan]!, quantity: 1 }],
    success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
    ...more,
  });
  await test.pay(id, card);
  const session = await test.stripe.checkout.sessions.retrieve(id, { expand: ['payment_intent'] });
  subject.sessionId = id;
  if (session.subscription) subject.subscriptionId = session.subscription as string;
  const intent = session.payment_intent as Stripe.PaymentIntent | null;
  if (intent) subject.chargeId = intent.latest_charge as string;
}

/** As {@link buy}, with all its events delivered and its key there. */
async function bought(plan: string, card = 'success'): Promise<Subject> {
  const subject: Subject = {};
  await buy(subject, plan, card);
  await test.control('/delivery/flush');
  await settled();
  expect((await standing(subject)).access.state).toBe('active');
  return subject;
}

async function subscribeByApi(more: Partial<Stripe.SubscriptionCreateParams> = {}) {
  const { id } = await test.stripe.customers.create({
    email: 'api@example.com',
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  });
  return test.stripe.subscriptions.create({ customer: id, items: [{ price: test.prices.pro! }], ...more });
}

async function refund({ chargeId }: Subject): Promise<void> {
  await test.stripe.refunds.create({ charge: chargeId! });
}

async function endsRevoked(subject: Subject): Promise<void> {
  const { facts, access, keys } = await standing(subject);
  expect({ access, keys, reason: facts.revokedReason }).toEqual({
    access: { state: 'revoked', code: 'revoked_key' },
    keys: 1,
    reason: 'refunded',
  });
}

async function subscriptionOf({ subscriptionId }: Subject, expand: string[] = []) {
  return test.stripe.subscriptions.retrieve(subscriptionId!, { expand });
}

async function openPortal(subscriptionId: string): Promise<string> {
  const { customer } = await test.stripe.subscriptions.retrieve(subscriptionId);
  const { id } = await test.stripe.billingPortal.configurations.create({
    features: { subscription_cancel: { enabled: true, mode: 'at_period_end' } },
  });
  const session = await test.stripe.billingPortal.sessions.create({
    customer: customer as string,
    configuration: id,
  });
  return session.url;
}

async function inPortal(subscription: string, action: string): Promise<void> {
  const page = await fetch(await openPortal(subscription), {
    method: 'POST',
    body: new URLSearchParams({ action, subscription }),
  });
  expect(page.ok).toBe(true);
}

/** Time goes by at Stripe. */
async function pass(days: number, seconds = 0): Promise<void> {
  await test.control('/clock', { advance_seconds: days * 86_400 + seconds });
}

async function eventsOf(type: string): Promise<Stripe.Event[]> {
  return (await test.stripe.events.list({ type })).data;
}

/** Where the key of a subject stands. */
async function standing({ sessionId }: Subject) {
  const purchase = (await test.keystore.findPurchase(sessionId!))!;
  expect(purchase.status).toBe('provisioned');
  const facts = (await test.keystore.findKeyFacts(purchase.keyId!))!;
  const keys = (await test.keystore.listKeys({ limit: 10 })).length;
  const plan = test.config.plans.plan(facts.planId)!;
  return { facts, keys, planId: facts.planId, access: accessOf(facts, facts.subscription, plan, Date.now()) };
}
