import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type Stripe from 'stripe';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { reconcile } from '../billing/reconcile.ts';
import { type BillingServer, startBilling } from '../billing/server.ts';
import { createStripe } from '../billing/stripe-client.ts';
import { createLogger } from '../shared/log.ts';
import { temporaryFolder } from './keystores.ts';
import { controlSandbox, startTollgateUnderTest } from './tollgate.ts';

const PLANS = `plans:
  pro: { name: Pro, price: { amount: 19, currency: usd, per: month }, limits: [{ requests: 600, per: minute }] }
  team: { name: Team, price: { amount: 99, currency: usd, per: month }, limits: [{ requests: 3000, per: minute }] }
  once: { name: Once, price: { amount: 40, currency: usd, per: once }, limits: [{ requests: 60, per: minute }] }
  lenient:
    name: Lenient
    price: { amount: 9, currency: usd, per: month }
    limits: [{ requests: 60, per: minute }]
    access: { refund: keep, lost_dispute: keep, dispute: allow }
`;
const WORKS = { status: 200 };
const REVOKED = { status: 401, code: 'revoked_key' };
const DISPUTED = { status: 402, code: 'payment_disputed' };

let tollgate: Awaited<ReturnType<typeof startTollgateUnderTest>>;
let stripe: Stripe;
const restarted: BillingServer[] = [];
beforeAll(async () => {
  const plans = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(plans, PLANS);
  tollgate = await startTollgateUnderTest({ PLANS_FILE: plans });
  stripe = createStripe(tollgate.config.stripe!);
  await control('/settings', { settle_delayed_after_ms: null });
});
afterAll(async () => {
  for (const billing of restarted) await billing.close();
  await tollgate.close();
});
beforeEach(() => control('/delivery', { mode: 'concurrent' }));

const control = (path: string, body?: object) => controlSandbox(tollgate.sandbox!.url, path, body);
const days = (count: number) => control('/clock', { advance_seconds: count * 86_400 });

/** A checkout of a plan, paid. */
async function pay(plan: string, card = 'success'): Promise<{ sessionId: string; charge: string }> {
  const opened = await fetch(`${tollgate.billing.url}/billing/create-checkout-session`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ plan }),
  });
  const { url } = (await opened.json()) as { url: string };
  const sessionId = /cs_test_[0-9A-Za-z]+/.exec(url)![0];
  await control(`/checkout/sessions/${sessionId}/pay`, { card });
  const { payment_intent, invoice } = await stripe.checkout.sessions.retrieve(sessionId, {
    expand: ['payment_intent'],
  });
  const intent = (payment_intent as Stripe.PaymentIntent | null) ?? (await intentOf(invoice as string));
  return { sessionId, charge: intent.latest_charge as string };
}

async function intentOf(invoice: string): Promise<Stripe.PaymentIntent> {
  const { data } = await stripe.invoicePayments.list({
    invoice,
    expand: ['data.payment.payment_intent'],
  });
  return data[0]!.payment.payment_intent as Stripe.PaymentIntent;
}

/** Everything that happened at Stripe has arrived here and is worked off. */
async function settled(): Promise<void> {
  expect(await control('/delivery/flush')).toMatchObject({ failed: 0 });
  await vi.waitFor(
    async () => expect(await tollgate.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }),
    { interval: 5 },
  );
}

type Bought = {
  sessionId: string;
  charge: string;
  key: string;
  keyId: string;
  subscriptionId: string | null;
};

/** A plan that was bought, with its key in hand. */
async function buy(plan: string, card?: string): Promise<Bought> {
  const { sessionId, charge } = await pay(plan, card);
  if (card === 'bank_debit') await control(`/checkout/sessions/${sessionId}/settle`);
  await settled();
  const { status, body } = await claim(sessionId);
  expect(status).toBe(200);
  const purchase = (await tollgate.keystore.findPurchase(sessionId))!;
  expect(await answer(body.key!)).toEqual(WORKS);
  return {
    sessionId,
    charge,
    key: body.key!,
    keyId: body.key_id!,
    subscriptionId: purchase.subscriptionId,
  };
}

async function claim(session_id: string): Promise<{ status: number; body: Record<string, string> }> {
  const response = await fetch(`${tollgate.billing.url}/billing/success/claim`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ session_id }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, string> };
}

/** What a request with a key comes to at the gateway. */
async function answer(key: string): Promise<{ status: number; code?: string }> {
  const response = await fetch(`${tollgate.gateway.url}/v1/time`, { headers: { 'X-API-Key': key } });
  const body = (await response.json()) as { code?: string };
  return response.ok ? { status: response.status } : { status: response.status, code: body.code! };
}

/** A gateway learns of a change within a second. */
async function becomes(key: string, expected: object): Promise<void> {
  await settled();
  await vi.waitFor(async () => expect(await answer(key)).toEqual(expected), { timeout: 1000, interval: 10 });
}

/** Everything has arrived, and a gateway has had the time to learn of it. */
async function stays(key: string, expected: object): Promise<void> {
  await settled();
  await new Promise((resolve) => setTimeout(resolve, 250));
  expect(await answer(key)).toEqual(expected);
}

const reasonOf = async (keyId: string) => (await tollgate.keystore.findKeyFacts(keyId))!.revokedReason;
const refund = (charge: string, amount?: number) =>
  stripe.refunds.create({ charge, ...(amount === undefined ? {} : { amount }) });
async function dispute(
  charge: string,
  more: object = {},
): Promise<{ close(outcome: string): Promise<unknown> }> {
  const { id } = await control('/disputes', { charge, ...more });
  return { close: (outcome) => control(`/disputes/${id}/close`, { outcome }) };
}

describe('refunds', () => {
  it.each(['once', 'pro'])('in full, of %s: revoked for good', async (plan) => {
    const { key, keyId, charge } = await buy(plan);
    await refund(charge);
    await becomes(key, REVOKED);
    expect(await reasonOf(keyId)).toBe('refunded');
  });

  it.each(['once', 'pro'])('in part, of %s: nothing; the rest of it too: revoked', async (plan) => {
    const { key, charge } = await buy(plan);
    await refund(charge, 500);
    await stays(key, WORKS);
    await refund(charge);
    await becomes(key, REVOKED);
  });

  it.each(['once', 'pro'])('of a bank debit, of %s: revoked once it has succeeded', async (plan) => {
    const { key, charge } = await buy(plan, 'bank_debit');
    const { id, status } = await refund(charge);
    expect(status).toBe('pending');
    await stays(key, WORKS);
    await control(`/refunds/${id}/settle`);
    await becomes(key, REVOKED);
  });

  it('that fail give nothing back, so they end nothing; another that succeeds does', async () => {
    const { key, charge } = await buy('once', 'bank_debit');
    const { id } = await refund(charge);
    await control(`/refunds/${id}/fail`);
    await stays(key, WORKS);
    const again = await refund(charge);
    await control(`/refunds/${again.id}/settle`);
    await becomes(key, REVOKED);
  });

  it('of an upgrade in the middle of a period take back the upgrade; of the period itself, access', async () => {
    const { key, subscriptionId, charge } = await buy('pro');
    const change = async (plan: string, proration_behavior: 'always_invoice' | 'none') => {
      const [item] = (await stripe.subscriptions.retrieve(subscriptionId!)).items.data;
      const price = tollgate.config.plans.priceForPlan(plan, 'test')!;
      const items = [{ id: item!.id, price }];
      return stripe.subscriptions.update(subscriptionId!, { items, proration_behavior });
    };
    const { latest_invoice } = await change('team', 'always_invoice');
    await change('pro', 'none');
    await control('/clock', { advance_seconds: 60 });
    await refund((await intentOf(latest_invoice as string)).latest_charge as string);
    await stays(key, WORKS);
    await refund(charge);
    await becomes(key, REVOKED);
  });

  it('of the period end access, also when an upgrade in it is kept', async () => {
    const { key, subscriptionId, charge } = await buy('pro');
    const [item] = (await stripe.subscriptions.retrieve(subscriptionId!)).items.data;
    const price = tollgate.config.plans.priceForPlan('team', 'test')!;
    await stripe.subscriptions.update(subscriptionId!, {
      items: [{ id: item!.id, price }],
      proration_behavior: 'always_invoice',
    });
    await refund(charge);
    await becomes(key, REVOKED);
  });

  it('of a period that is over end nothing; of the present one they do', async () => {
    const { key, charge, subscriptionId } = await buy('pro');
    await days(32);
    await settled();
    await refund(charge);
    await stays(key, WORKS);
    const { latest_invoice } = await stripe.subscriptions.retrieve(subscriptionId!);
    const renewal = (await intentOf(latest_invoice as string)).latest_charge as string;
    expect(renewal).not.toBe(charge);
    await refund(renewal);
    await becomes(key, REVOKED);
  });

  it('that arrive before the purchase: its key is made, and never works', async () => {
    await control('/delivery', { mode: 'paused' });
    const { sessionId, charge } = await pay('once');
    await refund(charge);
    const [event] = (await stripe.events.list({ type: 'charge.refunded', limit: 1 })).data;
    await control(`/events/${event!.id}/deliver`);
    await vi.waitFor(async () => expect(await tollgate.keystore.findPayment(charge)).toBeDefined());
    expect(await tollgate.keystore.findPurchase(sessionId)).toMatchObject({ status: 'pending' });
    await settled();
    const { keyId } = (await tollgate.keystore.findPurchase(sessionId))!;
    expect(await reasonOf(keyId!)).toBe('refunded');
    expect(await claim(sessionId)).toMatchObject({ status: 410, body: { code: 'reveal_revoked' } });
  });

  it('whose events never arrive are found by reconciling', async () => {
    const { key, charge, subscriptionId } = await buy('pro');
    await control('/delivery', { mode: 'dropped' });
    await refund(charge);
    await stays(key, WORKS);
    const before = await compared(true);
    expect(before.drift).toContainEqual(
      expect.objectContaining({ what: 'payment', id: charge, here: 'kept', action: 'take over' }),
    );
    expect(await answer(key)).toEqual(WORKS);
    await compared(false);
    await becomes(key, REVOKED);
    // What it cannot do for the operator it says, as long as it is so.
    const { drift } = await compared(false);
    expect(drift.filter(({ what }) => what === 'payment')).toEqual([]);
    expect(drift).toContainEqual(
      expect.objectContaining({ id: subscriptionId, here: 'all keys revoked', open: true }),
    );
    await stripe.subscriptions.cancel(subscriptionId!);
    expect((await compared(false)).drift.filter(({ id, open }) => id === subscriptionId && open)).toEqual([]);
  });

  it('while billing is down, and never sent again, are found when it starts', async () => {
    const { key, charge } = await buy('once');
    await tollgate.billing.close();
    await control('/delivery', { mode: 'dropped' });
    await refund(charge);
    expect(await answer(key)).toEqual(WORKS);
    const { config, keystore } = tollgate;
    const { logLines } = tollgate;
    const log = createLogger({ level: 'trace', destination: { write: (line) => void logLines.push(line) } });
    tollgate = { ...tollgate, billing: await startBilling({ config, keystore, log }) };
    restarted.push(tollgate.billing);
    await vi.waitFor(async () => expect(await answer(key)).toEqual(REVOKED), { interval: 10 });
  });

  it('of a subscription that goes on are said in the log', async () => {
    const { key, charge, keyId, subscriptionId } = await buy('pro');
    await refund(charge);
    await becomes(key, REVOKED);
    expect(tollgate.logLines.map((line) => JSON.parse(line) as object)).toContainEqual(
      expect.objectContaining({
        level: expect.stringMatching(/error|50/),
        subscription: subscriptionId,
        keys: [keyId],
        msg: expect.stringContaining('goes on at Stripe although its keys are revoked'),
      }),
    );
  });

  it('revoke the key and all that were made of it', async () => {
    const { key, keyId, charge } = await buy('pro');
    const second = await rotated(keyId);
    const third = await rotated(second.id);
    for (const each of [key, second.plaintext, third.plaintext]) expect(await answer(each)).toEqual(WORKS);
    await refund(charge);
    for (const each of [key, second.plaintext, third.plaintext]) await becomes(each, REVOKED);
    expect(await tollgate.keystore.rotateKey({ id: third.id, overlapMs: 0, actor: 'test' })).toBe('revoked');
  });
});

describe('disputes', () => {
  it.each(['once', 'pro'])('of %s: suspended while open, back when won', async (plan) => {
    const { key, charge } = await buy(plan);
    const opened = await dispute(charge);
    await becomes(key, DISPUTED);
    await opened.close('won');
    await becomes(key, WORKS);
  });

  it.each(['once', 'pro'])('of %s that are lost: revoked for good', async (plan) => {
    const { key, keyId, charge } = await buy(plan);
    const opened = await dispute(charge);
    await becomes(key, DISPUTED);
    await opened.close('lost');
    await becomes(key, REVOKED);
    expect(await reasonOf(keyId)).toBe('disputed');
  });

  it('that are only asked about (inquiries) do nothing, open or closed', async () => {
    const { key, charge } = await buy('pro');
    const opened = await dispute(charge, { status: 'warning_needs_response' });
    await stays(key, WORKS);
    await opened.close('warning_closed');
    await stays(key, WORKS);
  });

  it('that arrive before the purchase: its key is suspended from the beginning', async () => {
    await control('/delivery', { mode: 'paused' });
    const { sessionId, charge } = await pay('pro');
    const opened = await dispute(charge);
    const [event] = (await stripe.events.list({ type: 'charge.dispute.created', limit: 1 })).data;
    await control(`/events/${event!.id}/deliver`);
    await vi.waitFor(async () => expect(await tollgate.keystore.findPayment(charge)).toBeDefined());
    await settled();
    const { body } = await claim(sessionId);
    expect(await answer(body.key!)).toEqual(DISPUTED);
    await opened.close('won');
    await becomes(body.key!, WORKS);
  });

  it('of a replaced key: its successor is suspended and comes back', async () => {
    const { key, keyId, charge } = await buy('pro');
    const second = await rotated(keyId);
    const opened = await dispute(charge);
    for (const each of [key, second.plaintext]) await becomes(each, DISPUTED);
    const third = await rotated(second.id);
    expect(await answer(third.plaintext)).toEqual(DISPUTED);
    await opened.close('won');
    for (const each of [second.plaintext, third.plaintext]) await becomes(each, WORKS);
  });
});

describe('a key that was revoked by a refund stays so', () => {
  it('through renewal, plan change, reloads, and its old events once more', async () => {
    const { key, keyId, charge, sessionId, subscriptionId } = await buy('pro');
    const from = Math.floor(Date.now() / 1000) - 3600;
    await refund(charge);
    await becomes(key, REVOKED);
    const told = await tollgate.keystore.keyHistory(keyId);

    const [item] = (await stripe.subscriptions.retrieve(subscriptionId!)).items.data;
    const { id: team } = (await stripe.prices.list({ limit: 100 })).data.find(
      ({ unit_amount }) => unit_amount === 9900,
    )!;
    await stripe.subscriptions.update(subscriptionId!, { items: [{ id: item!.id, price: team }] });
    await stays(key, REVOKED);
    expect((await tollgate.keystore.findSubscription(subscriptionId!))!.planId).toBe('team');
    await days(32);
    await stays(key, REVOKED);
    await fetch(`${tollgate.billing.url}/billing/success?session_id=${sessionId}`);
    expect((await claim(sessionId)).status).toBe(410);
    await stays(key, REVOKED);
    for await (const event of stripe.events.list({ created: { gte: from }, limit: 100 })) {
      await control(`/events/${event.id}/deliver`);
      await tollgate.keystore.replayEvent({ id: event.id, actor: 'test' });
    }
    await compared(false);
    await stays(key, REVOKED);
    expect((await tollgate.keystore.findKeyFacts(keyId))!.revokedReason).toBe('refunded');
    const since = (await tollgate.keystore.keyHistory(keyId)).slice(told.length).map(({ action }) => action);
    expect(new Set(since)).toEqual(new Set(['subscription.updated']));
    const living = await tollgate.keystore.findSubscription(subscriptionId!);
    expect(living).toMatchObject({ status: 'active', hasLivingKey: false });
  });
});

describe('a plan that says so', () => {
  it('keeps its keys whatever happens to the payment', async () => {
    const { key, charge } = await buy('lenient');
    const opened = await dispute(charge);
    await stays(key, WORKS);
    await opened.close('lost');
    await stays(key, WORKS);
    const other = await buy('lenient');
    await refund(other.charge);
    await stays(other.key, WORKS);
  });
});

/** A key made of another; the other works on for a day. */
async function rotated(id: string): Promise<{ id: string; plaintext: string }> {
  const made = await tollgate.keystore.rotateKey({ id, overlapMs: 86_400_000, actor: 'test' });
  if (typeof made === 'string') throw new Error(made);
  return made;
}

/** Everything here compared with everything at Stripe. */
function compared(dryRun: boolean) {
  const { config, keystore } = tollgate;
  const context = {
    stripe: createStripe(config.stripe!),
    mode: 'test' as const,
    keystore,
    plans: config.plans,
    keyPrefix: config.keyPrefix,
    ownOrigins: [new URL(config.publicBillingUrl).origin],
    log: createLogger({ level: 'silent' }),
  };
  return reconcile(context, { since: Date.now() - 86_400_000, dryRun });
}
