import { afterEach, expect, test } from 'vitest';
import { closeSandboxes, startShop } from '../test/sandboxes.ts';

// Room for a machine busy with other things: nothing here waits by time.

afterEach(closeSandboxes);

test('refunds, partial and full, never more than was paid', async () => {
  const { stripe, subscribe } = await startShop();
  await subscribe();
  const charge = (await stripe.charges.list()).data[0]!;
  const part = await stripe.refunds.create({ charge: charge.id, amount: 500 });
  expect(part).toMatchObject({ amount: 500, status: 'succeeded', payment_intent: charge.payment_intent });
  expect(await stripe.charges.retrieve(charge.id, { expand: ['refunds'] })).toMatchObject({
    amount_refunded: 500,
    refunded: false,
    refunds: { data: [{ id: part.id }] },
  });
  await expect(stripe.refunds.create({ charge: charge.id, amount: 1501 })).rejects.toMatchObject({
    param: 'amount',
  });
  await stripe.refunds.create({ payment_intent: charge.payment_intent as string });
  expect((await stripe.charges.retrieve(charge.id)).refunded).toBe(true);
  await expect(stripe.refunds.create({ charge: charge.id })).rejects.toMatchObject({
    code: 'charge_already_refunded',
  });
  const { data } = await stripe.events.list({
    types: ['refund.created', 'charge.refunded', 'refund.updated', 'charge.refund.updated'],
  });
  expect(
    data
      .map(({ type }) => type)
      .reverse()
      .slice(0, 4),
  ).toEqual(['refund.created', 'charge.refunded', 'refund.updated', 'charge.refund.updated']);
});

test('disputes and inquiries', async () => {
  const { stripe, subscribe, control, eventTypes } = await startShop();
  const first = await subscribe();
  await subscribe();
  const charges = (await stripe.charges.list()).data;
  const dispute = await control('disputes', { charge: charges[0]!.id });
  expect(dispute).toMatchObject({ status: 'needs_response', amount: 2000 });
  expect(await stripe.charges.retrieve(charges[0]!.id)).toMatchObject({ disputed: true });
  await control(`disputes/${dispute.id}/close`, { outcome: 'lost' });
  const inquiry = await control('disputes', { charge: charges[1]!.id, status: 'warning_needs_response' });
  await control(`disputes/${inquiry.id}/close`, { outcome: 'warning_closed' });
  const { data } = await stripe.disputes.list({ expand: ['data.charge'] });
  expect(data.map(({ status }) => status)).toEqual(['warning_closed', 'lost']);
  const types = (await eventTypes()).filter((type) => type.startsWith('charge.dispute'));
  expect(types).toEqual([
    'charge.dispute.created',
    'charge.dispute.funds_withdrawn',
    'charge.dispute.closed',
    'charge.dispute.created',
    'charge.dispute.closed',
  ]);
  expect((await stripe.subscriptions.retrieve(first.id)).status).toBe('active');
});

test('the refund of a bank debit is pending until it succeeds or fails', async () => {
  const { stripe, subscribe, control, eventTypes } = await startShop();
  await subscribe('bank_debit');
  const intent = (await stripe.paymentIntents.list()).data[0]!;
  await control(`payment_intents/${intent.id}/settle`);
  const charge = intent.latest_charge as string;
  const before = (await eventTypes()).length;
  const part = await stripe.refunds.create({ charge, amount: 500 });
  const rest = await stripe.refunds.create({ charge });
  expect([part, rest]).toMatchObject([
    { status: 'pending', pending_reason: 'processing' },
    { status: 'pending', amount: 1500 },
  ]);
  expect(await stripe.charges.retrieve(charge)).toMatchObject({ refunded: true, amount_refunded: 2000 });
  expect(await control(`refunds/${part.id}/settle`)).toMatchObject({ status: 'succeeded' });
  expect(await control(`refunds/${rest.id}/fail`, { failure_reason: 'declined' })).toMatchObject({
    status: 'failed',
    failure_reason: 'declined',
    failure_balance_transaction: expect.stringMatching(/^txn_/),
  });
  expect(await stripe.charges.retrieve(charge)).toMatchObject({ refunded: false, amount_refunded: 500 });
  expect((await eventTypes()).slice(before)).toEqual([
    'refund.created',
    'charge.refunded',
    'refund.created',
    'charge.refunded',
    'refund.updated',
    'charge.refund.updated',
    'refund.failed',
    'refund.updated',
    'charge.refund.updated',
  ]);
});

test('a refund that succeeded can fail later, once', async () => {
  const { stripe, subscribe, control, requestControl } = await startShop();
  await subscribe();
  const charge = (await stripe.charges.list()).data[0]!.id;
  const refund = await stripe.refunds.create({ charge });
  expect((await requestControl(`refunds/${refund.id}/settle`)).status).toBe(400);
  await control(`refunds/${refund.id}/fail`);
  expect((await requestControl(`refunds/${refund.id}/fail`)).status).toBe(400);
  expect(await stripe.charges.retrieve(charge)).toMatchObject({ refunded: false, amount_refunded: 0 });
  await stripe.refunds.create({ charge });
});

test('refunds of bank debits settle by themselves where payments do', async () => {
  const { stripe, subscribe, control, advance } = await startShop({ settleDelayedAfterMs: 60_000 });
  await subscribe('bank_debit');
  await advance(61);
  const { latest_charge } = (await stripe.paymentIntents.list()).data[0]!;
  const { id } = await stripe.refunds.create({ charge: latest_charge as string });
  await advance(61);
  expect((await stripe.refunds.retrieve(id)).status).toBe('succeeded');
  await control('reset');
});
