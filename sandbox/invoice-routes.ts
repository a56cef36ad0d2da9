import { declined, invalid } from './errors.ts';
import { change } from './events.ts';
import {
  closeInvoice,
  finalizeInvoice,
  type Invoice,
  invoicePaid,
  payInvoice,
  paymentOf,
  subscriptionIdOf,
} from './invoices.ts';
import {
  boolean,
  inRange,
  mergeMetadata,
  metadata,
  object,
  oneOf,
  range,
  required,
  string,
  unsupported,
} from './params.ts';
import { methodNamed } from './payment-methods.ts';
import { listRoute, type Route, route } from './routes.ts';
import { methodForInvoice } from './subscription-payment.ts';
import type { World } from './world.ts';

/** Pays an open invoice now. @throws StripeError 402 when the card is declined, 400 when there is nothing to pay. */
function pay(
  world: World,
  invoice: Invoice,
  params: { payment_method?: string | undefined; paid_out_of_band?: boolean | undefined },
): Invoice {
  if (invoice.status === 'draft') finalizeInvoice(world, invoice);
  else if (invoice.status === 'paid') throw invalid('Invoice is already paid');
  else if (invoice.status === 'void') throw invalid('Invoice is voided');
  if ((invoice.status as string) === 'paid') return invoice;
  if (params.paid_out_of_band) {
    invoicePaid(world, invoice, true);
    return invoice;
  }
  const method = params.payment_method
    ? methodNamed(world, params.payment_method, 'payment_method')
    : methodForInvoice(world, invoice);
  if (!method) {
    throw invalid(
      'There is no `default_payment_method` set on this Customer or Invoice. Please set either an Invoice or Customer `default_payment_method`.',
    );
  }
  if (payInvoice(world, invoice, method, false) === 'failed') {
    const intent = world.store.paymentIntents.find(paymentOf(world, invoice)?.payment.payment_intent);
    const charge = world.store.charges.find(intent?.latest_charge);
    throw declined(charge?.outcome.reason ?? 'generic_decline', charge ? { charge: charge.id } : {});
  }
  return invoice;
}

export const invoiceRoutes: Route[] = [
  listRoute(
    '/v1/invoices',
    {
      created: range(),
      customer: string(),
      status: oneOf('draft', 'open', 'paid', 'uncollectible', 'void'),
      subscription: string(),
      ...unsupported('collection_method', 'customer_account', 'due_date'),
    },
    (world, params) =>
      world.store.invoices
        .all()
        .filter(
          (invoice) =>
            (!params.created || inRange(invoice.created, params.created)) &&
            (params.customer === undefined || invoice.customer === params.customer) &&
            (params.status === undefined || invoice.status === params.status) &&
            (params.subscription === undefined || subscriptionIdOf(invoice) === params.subscription),
        ),
  ),
  route('GET', '/v1/invoices/:id', {}, (world, _params, id) => world.store.invoices.get(id)),
  listRoute('/v1/invoices/:id/lines', {}, (world, _params, id) => world.store.invoices.get(id).lines.data),
  route(
    'POST',
    '/v1/invoices/:id',
    {
      metadata: metadata(),
      ...unsupported(
        'account_tax_ids',
        'application_fee_amount',
        'auto_advance',
        'automatic_tax',
        'automatically_finalizes_at',
        'collection_method',
        'custom_fields',
        'days_until_due',
        'default_payment_method',
        'default_source',
        'default_tax_rates',
        'description',
        'discounts',
        'due_date',
        'effective_at',
        'footer',
        'issuer',
        'number',
        'on_behalf_of',
        'payment_settings',
        'rendering',
        'shipping_cost',
        'shipping_details',
        'statement_descriptor',
        'transfer_data',
      ),
    },
    (world, params, id) => {
      const invoice = world.store.invoices.get(id);
      change(world, 'invoice.updated', invoice, {
        metadata: mergeMetadata(invoice.metadata, params.metadata),
      });
      return invoice;
    },
  ),
  route(
    'POST',
    '/v1/invoices/:id/pay',
    {
      payment_method: string(),
      paid_out_of_band: boolean(),
      off_session: boolean(),
      ...unsupported('forgive', 'mandate', 'source'),
    },
    (world, params, id) => pay(world, world.store.invoices.get(id), params),
  ),
  ...(['void', 'mark_uncollectible'] as const).map((act) =>
    route('POST', `/v1/invoices/:id/${act}`, {}, (world, _params, id) => {
      const invoice = world.store.invoices.get(id);
      if (invoice.status !== 'open' && invoice.status !== 'uncollectible') {
        throw invalid(`You can only pass in open invoices. This invoice isn't open.`);
      }
      closeInvoice(world, invoice, act === 'void' ? 'void' : 'uncollectible');
      return invoice;
    }),
  ),
  route('POST', '/v1/invoices/:id/finalize', { auto_advance: boolean() }, (world, _params, id) => {
    const invoice = world.store.invoices.get(id);
    if (invoice.status !== 'draft')
      throw invalid(`This invoice is already finalized, you can't re-finalize a non-draft invoice.`);
    finalizeInvoice(world, invoice);
    return invoice;
  }),
  listRoute(
    '/v1/invoice_payments',
    {
      created: range(),
      invoice: string(),
      payment: object({
        type: required(oneOf('payment_intent')),
        payment_intent: string(),
        ...unsupported('payment_record'),
      }),
      status: oneOf('open', 'paid', 'canceled'),
    },
    (world, params) =>
      world.store.invoicePayments
        .all()
        .filter(
          (payment) =>
            (!params.created || inRange(payment.created, params.created)) &&
            (params.invoice === undefined || payment.invoice === params.invoice) &&
            (!params.payment?.payment_intent ||
              payment.payment.payment_intent === params.payment.payment_intent) &&
            (params.status === undefined || payment.status === params.status),
        ),
  ),
  route('GET', '/v1/invoice_payments/:id', {}, (world, _params, id) => world.store.invoicePayments.get(id)),
];
