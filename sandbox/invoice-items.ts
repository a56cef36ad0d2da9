import { invalid } from './errors.ts';
import { change, emit } from './events.ts';
import { newId } from './ids.ts';
import {
  boolean,
  inRange,
  integer,
  mergeMetadata,
  metadata,
  missing,
  range,
  required,
  string,
  unsupported,
} from './params.ts';
import { currency } from './price-params.ts';
import { listRoute, type Route, route } from './routes.ts';
import type { World } from './world.ts';

export type InvoiceItem = ReturnType<typeof createItem>;

/** Makes something to be put on the customer's next invoice. Event: invoiceitem.created. */
function createItem(
  world: World,
  wanted: {
    customer: string;
    amount: number;
    currency: string;
    description: string | null;
    metadata: Record<string, string>;
  },
) {
  const now = world.clock.now();
  const item = {
    id: newId('ii'),
    object: 'invoiceitem' as const,
    amount: wanted.amount,
    currency: wanted.currency,
    customer: wanted.customer,
    customer_account: null,
    date: now,
    description: wanted.description,
    discountable: true,
    discounts: [],
    invoice: null as string | null,
    livemode: false,
    metadata: wanted.metadata,
    net_amount: wanted.amount,
    parent: null,
    period: { start: now, end: now },
    pricing: { type: 'price_details' as const, unit_amount_decimal: String(wanted.amount) },
    proration: false,
    quantity: 1,
    quantity_decimal: '1',
    tax_rates: [],
    test_clock: null,
  };
  world.store.invoiceItems.add(item);
  emit(world, 'invoiceitem.created', item);
  return item;
}

/** What waits to be invoiced, oldest first. */
export function pendingItems(world: World, customer: string, currency: string): InvoiceItem[] {
  return world.store.invoiceItems
    .all()
    .filter((item) => item.customer === customer && item.currency === currency && item.invoice === null)
    .reverse();
}

export const invoiceItemRoutes: Route[] = [
  route(
    'POST',
    '/v1/invoiceitems',
    {
      customer: required(string()),
      amount: integer(-99_999_999),
      currency: currency(),
      description: string(),
      metadata: metadata(),
      ...unsupported(
        'customer_account',
        'discountable',
        'discounts',
        'invoice',
        'period',
        'price_data',
        'pricing',
        'quantity',
        'quantity_decimal',
        'subscription',
        'tax_behavior',
        'tax_code',
        'tax_rates',
        'unit_amount_decimal',
      ),
    },
    (world, params) => {
      const customer = world.store.customers.named(params.customer, 'customer');
      if (params.amount === undefined) throw missing('amount');
      const currency = params.currency ?? customer.currency;
      if (!currency) throw missing('currency');
      if (customer.currency === null) change(world, 'customer.updated', customer, { currency });
      return createItem(world, {
        customer: customer.id,
        amount: params.amount,
        currency,
        description: params.description ?? null,
        metadata: mergeMetadata({}, params.metadata),
      });
    },
  ),
  listRoute(
    '/v1/invoiceitems',
    {
      created: range(),
      customer: string(),
      invoice: string(),
      pending: boolean(),
      ...unsupported('customer_account'),
    },
    (world, params) =>
      world.store.invoiceItems
        .all()
        .filter(
          (item) =>
            (!params.created || inRange(item.date, params.created)) &&
            (params.customer === undefined || item.customer === params.customer) &&
            (params.invoice === undefined || item.invoice === params.invoice) &&
            (params.pending === undefined || (item.invoice === null) === params.pending),
        ),
  ),
  route('GET', '/v1/invoiceitems/:id', {}, (world, _params, id) => world.store.invoiceItems.get(id)),
  route('DELETE', '/v1/invoiceitems/:id', {}, (world, _params, id) => {
    const item = world.store.invoiceItems.get(id);
    if (item.invoice !== null)
      throw invalid('An invoice item that is on an invoice cannot be deleted.', 'id');
    world.store.invoiceItems.remove(id);
    emit(world, 'invoiceitem.deleted', item);
    return { id, object: 'invoiceitem', deleted: true };
  }),
];
