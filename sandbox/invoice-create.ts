import { pendingItems } from './invoice-items.ts';
import { itemLine } from './invoice-lines.ts';
import { draftInvoice } from './invoices.ts';
import { mergeMetadata, metadata, missing, oneOf, only, string, unsupported } from './params.ts';
import { currency } from './price-params.ts';
import { type Route, route } from './routes.ts';

export const invoiceCreateRoutes: Route[] = [
  route(
    'POST',
    '/v1/invoices',
    {
      customer: string(),
      currency: currency(),
      description: string(1500),
      metadata: metadata(),
      pending_invoice_items_behavior: oneOf('exclude', 'include'),
      default_payment_method: string(),
      auto_advance: only('false'),
      collection_method: only('charge_automatically'),
      ...unsupported(
        'account_tax_ids',
        'application_fee_amount',
        'automatic_tax',
        'automatically_finalizes_at',
        'custom_fields',
        'customer_account',
        'days_until_due',
        'default_source',
        'default_tax_rates',
        'discounts',
        'due_date',
        'effective_at',
        'footer',
        'from_invoice',
        'issuer',
        'number',
        'on_behalf_of',
        'payment_settings',
        'rendering',
        'shipping_cost',
        'shipping_details',
        'statement_descriptor',
        'subscription',
        'transfer_data',
      ),
    },
    (world, params) => {
      if (params.customer === undefined) throw missing('customer');
      const customer = world.store.customers.named(params.customer, 'customer');
      const method =
        params.default_payment_method &&
        world.store.paymentMethods.named(params.default_payment_method, 'default_payment_method');
      const currency = params.currency ?? customer.currency ?? 'usd';
      const items =
        params.pending_invoice_items_behavior === 'include' ? pendingItems(world, customer.id, currency) : [];
      const invoice = draftInvoice(
        world,
        {
          customer,
          sub: null,
          currency,
          reason: 'manual',
          description: params.description,
          metadata: mergeMetadata({}, params.metadata),
          method: method ? method.id : null,
        },
        (id) => items.map((item) => itemLine(item, id)),
      );
      for (const item of items) item.invoice = invoice.id;
      return invoice;
    },
  ),
];
