import { describe, expect, it } from 'vitest';
import { EVENT_KINDS, readEventObject } from './stripe-events.ts';
import { readEvent } from './stripe-webhook.ts';

describe('what an event makes us look at', () => {
  // biome-ignore format: a table
  it.each<[string, string, object, { kind: string; id: string } | null, string | null]>([
    ['a checkout',                         'checkout.session.completed',       { id: 'cs_test_1', customer: 'cus_1' },                                                             { kind: 'session', id: 'cs_test_1' },    'cus_1'],
    ['a subscription',                     'customer.subscription.updated',    { id: 'sub_1', customer: { id: 'cus_1' } },                                                         { kind: 'subscription', id: 'sub_1' },   'cus_1'],
    ['an invoice of today',                'invoice.paid',                     { id: 'in_1', customer: 'cus_1', parent: { subscription_details: { subscription: 'sub_1' } } },      { kind: 'invoice', id: 'in_1' },         'cus_1'],
    ['with its subscription in full',      'invoice.paid',                     { id: 'in_1', parent: { subscription_details: { subscription: { id: 'sub_1' } } } },                 { kind: 'invoice', id: 'in_1' },         null],
    ['an invoice of before 2025-03-31',    'invoice.payment_failed',           { id: 'in_1', customer: 'cus_1', subscription: 'sub_1' },                                           { kind: 'invoice', id: 'in_1' },         'cus_1'],
    ['an invoice of something else',       'invoice.paid',                     { id: 'in_1', customer: 'cus_1', parent: null, subscription: null },                                { kind: 'invoice', id: 'in_1' },         'cus_1'],
    ['a charge',                           'charge.refunded',                  { id: 'ch_1', customer: null },                                                                     { kind: 'charge', id: 'ch_1' },          null],
    ['a refund',                           'refund.updated',                   { id: 're_1', charge: 'ch_1' },                                                                     { kind: 'charge', id: 'ch_1' },          null],
    ['a refund that names no charge',      'refund.updated',                   { id: 're_1', charge: null },                                                                       { kind: 'refund', id: 're_1' },          null],
    ['a dispute',                          'charge.dispute.closed',            { id: 'du_1', charge: { id: 'ch_1' } },                                                             { kind: 'charge', id: 'ch_1' },          null],
    ['a customer',                         'customer.deleted',                 { id: 'cus_1' },                                                                                    { kind: 'customer', id: 'cus_1' },       'cus_1'],
    ['entitlements',                       'entitlements.active_entitlement_summary.updated', { object: 'entitlements.active_entitlement_summary', customer: 'cus_1' },            { kind: 'entitlements', id: 'cus_1' },   'cus_1'],
    ['what nothing is done about',         'invoice.created',                  { id: 'in_1', subscription: 'sub_1' },                                                              null,                                    null],
    ['an object that is none',             'customer.updated',                 [] as unknown as object,                                                                            null,                                    null],
    ['an id of another form',              'customer.subscription.updated',    { id: 7, customer: 9 },                                                                             null,                                    null],
  ])('%s', (_what, type, data, object, customer) => {
    expect(readEventObject(type, data)).toEqual({ object, customer });
  });

  it('a thin event says the same in fewer words', () => {
    const thin = (type: string, more: object) =>
      readEvent({
        id: 'evt_thin',
        object: 'v2.core.event',
        type,
        livemode: false,
        created: '2026-11-21T09:00:00.000Z',
        ...more,
      });
    expect(
      thin('v1.invoice.paid', { related_object: { id: 'in_1', type: 'invoice', url: '/v1/invoices/in_1' } }),
    ).toEqual(
      expect.objectContaining({
        id: 'evt_thin',
        mode: 'test',
        object: { kind: 'invoice', id: 'in_1' },
        customer: null,
        createdAt: Date.UTC(2026, 10, 21, 9),
      }),
    );
    const summary = 'v1.entitlements.active_entitlement_summary.updated';
    expect(thin(summary, { related_object: null, snapshot_event: 'evt_1' }).object).toEqual({
      kind: 'event',
      id: 'evt_1',
    });
    expect(
      thin('v2.money_management.transaction.created', { related_object: { id: 'trxn_1' } }).object,
    ).toBeNull();
    expect(() => thin('v1.invoice.paid', { created: 'yesterday' })).toThrow();
  });

  it('is known for all of these', () => {
    expect(Object.keys(EVENT_KINDS)).toHaveLength(23);
  });
});
