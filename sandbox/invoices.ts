import type { Customer } from './customers.ts';
import { settleLater } from './delayed-payments.ts';
import { change, emit } from './events.ts';
import { base62, newId } from './ids.ts';
import type { Line } from './invoice-lines.ts';
import { listOf } from './pagination.ts';
import type { PaymentMethod } from './payment-methods.ts';
import { cancelIntent, confirm, createIntent, type PaymentOutcome } from './payments.ts';
import { invoicePaidFor, invoicePaymentFailed } from './subscription-payment.ts';
import type { Subscription } from './subscriptions.ts';
import type { World } from './world.ts';

export type Invoice = ReturnType<typeof draftInvoice>;
export type InvoicePayment = ReturnType<typeof createInvoicePayment>;
export interface InvoiceWanted {
  customer: Customer;
  /** What it bills for; null for one made by hand. */
  sub: Subscription | null;
  currency: string;
  reason: 'subscription_create' | 'subscription_cycle' | 'subscription_update' | 'manual';
  description?: string | undefined;
  metadata?: Record<string, string>;
  /** What it is to be paid with instead of the customer's default. */
  method?: string | null;
}

/** Drafts an invoice. One made by hand does not go on by itself. Event: invoice.created. */
export function draftInvoice(
  world: World,
  { customer, sub, ...wanted }: InvoiceWanted,
  makeLines: (invoiceId: string) => Line[],
) {
  const id = newId('in');
  const now = world.clock.now();
  const lines = makeLines(id);
  const total = lines.reduce((sum, line) => sum + line.amount, 0);
  const due = Math.max(0, total + customer.balance);
  const invoice = {
    id,
    object: 'invoice' as const,
    account_country: 'US',
    account_name: 'Sandbox',
    account_tax_ids: null,
    amount_due: due,
    amount_overpaid: 0,
    amount_paid: 0,
    amount_remaining: due,
    amount_shipping: 0,
    application: null,
    attempt_count: 0,
    attempted: false,
    auto_advance: sub !== null,
    automatic_tax: { disabled_reason: null, enabled: false, liability: null, provider: null, status: null },
    automatically_finalizes_at: null as number | null,
    billing_reason: wanted.reason,
    collection_method: 'charge_automatically' as const,
    created: now,
    currency: wanted.currency,
    custom_fields: null,
    customer: customer.id,
    customer_account: null,
    customer_address: customer.address,
    customer_email: customer.email,
    customer_name: customer.name,
    customer_phone: customer.phone,
    customer_shipping: null,
    customer_tax_exempt: 'none' as const,
    customer_tax_ids: [],
    default_payment_method: wanted.method ?? null,
    default_source: null,
    default_tax_rates: [],
    description: wanted.description ?? (null as string | null),
    discounts: [],
    due_date: null,
    effective_at: null as number | null,
    ending_balance: null as number | null,
    footer: null,
    from_invoice: null,
    hosted_invoice_url: null as string | null,
    invoice_pdf: null,
    issuer: { type: 'self' as const },
    last_finalization_error: null,
    latest_revision: null,
    lines: listOf(lines, `/v1/invoices/${id}/lines`),
    livemode: false,
    metadata: wanted.metadata ?? {},
    next_payment_attempt: null as number | null,
    number: null as string | null,
    on_behalf_of: null,
    parent: sub && {
      quote_details: null,
      subscription_details: { metadata: sub.metadata, subscription: sub.id },
      type: 'subscription_details' as const,
    },
    payment_settings: { default_mandate: null, payment_method_options: null, payment_method_types: null },
    period_end: now,
    period_start: now,
    post_payment_credit_notes_amount: 0,
    pre_payment_credit_notes_amount: 0,
    receipt_number: null,
    rendering: null,
    shipping_cost: null,
    shipping_details: null,
    starting_balance: customer.balance,
    statement_descriptor: null,
    status: 'draft' as 'draft' | 'open' | 'paid' | 'uncollectible' | 'void',
    status_transitions: {
      finalized_at: null as number | null,
      marked_uncollectible_at: null as number | null,
      paid_at: null as number | null,
      voided_at: null as number | null,
    },
    subtotal: total,
    subtotal_excluding_tax: total,
    test_clock: null,
    total,
    total_discount_amounts: [],
    total_excluding_tax: total,
    total_pretax_credit_amounts: [],
    total_taxes: [],
    webhooks_delivered_at: now,
  };
  world.store.invoices.add(invoice);
  emit(world, 'invoice.created', invoice);
  return invoice;
}

/** The subscription an invoice bills for; null for one made by hand. */
export function subscriptionIdOf(invoice: Invoice): string | null {
  return invoice.parent?.subscription_details.subscription ?? null;
}

/** Makes a draft final: a number, and what the customer's balance covers. Nothing due means paid. Event: invoice.finalized. */
export function finalizeInvoice(world: World, invoice: Invoice): void {
  const now = world.clock.now();
  const customer = world.store.customers.find(invoice.customer);
  const after = invoice.total + (customer?.balance ?? 0);
  const ending = Math.min(0, after);
  world.invoiceCount += 1;
  Object.assign(invoice, {
    status: 'open',
    number: `${customer?.invoice_prefix ?? 'SANDBOX'}-${String(customer?.next_invoice_sequence ?? world.invoiceCount).padStart(4, '0')}`,
    amount_due: Math.max(0, after),
    amount_remaining: Math.max(0, after),
    automatically_finalizes_at: null,
    effective_at: now,
    starting_balance: customer?.balance ?? 0,
    ending_balance: ending,
    hosted_invoice_url: `${world.publicUrl}/i/test_${base62(24)}/${invoice.id}`,
    status_transitions: { ...invoice.status_transitions, finalized_at: now },
  });
  if (customer) {
    customer.next_invoice_sequence += 1;
    if (customer.balance !== ending) change(world, 'customer.updated', customer, { balance: ending });
  }
  emit(world, 'invoice.finalized', invoice);
  if (invoice.amount_due === 0) invoicePaid(world, invoice);
}

export function createInvoicePayment(world: World, invoice: Invoice, intent: string) {
  const payment = {
    id: newId('inpay'),
    object: 'invoice_payment' as const,
    amount_paid: null as number | null,
    amount_requested: invoice.amount_due,
    created: world.clock.now(),
    currency: invoice.currency,
    invoice: invoice.id,
    is_default: true,
    livemode: false,
    payment: { payment_intent: intent, type: 'payment_intent' as const },
    status: 'open' as 'open' | 'paid' | 'canceled',
    status_transitions: { canceled_at: null as number | null, paid_at: null as number | null },
  };
  world.store.invoicePayments.add(payment);
  return payment;
}

export function paymentOf(world: World, invoice: Invoice): InvoicePayment | undefined {
  return world.store.invoicePayments.all().find((payment) => payment.invoice === invoice.id);
}

const purposes = {
  subscription_create: 'Subscription creation',
  subscription_cycle: 'Subscription update',
  subscription_update: 'Subscription update',
  manual: 'Payment for Invoice',
};

/** Tries to collect an open invoice with `method`. What follows for the subscription follows. */
export function payInvoice(
  world: World,
  invoice: Invoice,
  method: PaymentMethod | null,
  onSession: boolean,
): PaymentOutcome {
  invoice.attempted = true;
  invoice.attempt_count += 1;
  if (!method) {
    invoicePaymentFailed(world, invoice);
    return 'failed';
  }
  const payment = paymentOf(world, invoice);
  const intent =
    world.store.paymentIntents.find(payment?.payment.payment_intent) ??
    createIntent(world, {
      amount: invoice.amount_due,
      currency: invoice.currency,
      customer: invoice.customer,
      description: purposes[invoice.billing_reason],
      email: invoice.customer_email,
    });
  if (!payment) createInvoicePayment(world, invoice, intent.id);
  const outcome = confirm(world, intent, method, onSession);
  if (outcome === 'succeeded') invoicePaid(world, invoice);
  else if (outcome === 'failed') invoicePaymentFailed(world, invoice);
  else settleLater(world, intent, method);
  return outcome;
}

/** The money for an invoice is there. Events: invoice.paid, invoice.payment_succeeded, invoice_payment.paid. */
export function invoicePaid(world: World, invoice: Invoice, outOfBand = false): void {
  const now = world.clock.now();
  Object.assign(invoice, {
    status: 'paid',
    attempted: true,
    auto_advance: false,
    amount_paid: outOfBand ? 0 : invoice.amount_due,
    amount_remaining: 0,
    next_payment_attempt: null,
    status_transitions: { ...invoice.status_transitions, paid_at: now },
  });
  emit(world, 'invoice.paid', invoice);
  if (!outOfBand) emit(world, 'invoice.payment_succeeded', invoice);
  const payment = paymentOf(world, invoice);
  if (payment && !outOfBand) {
    Object.assign(payment, {
      status: 'paid',
      amount_paid: invoice.amount_due,
      status_transitions: { ...payment.status_transitions, paid_at: now },
    });
    emit(world, 'invoice_payment.paid', payment);
  }
  invoicePaidFor(world, invoice);
}

/** Ends an invoice that will not be paid. Event: invoice.voided or invoice.marked_uncollectible. */
export function closeInvoice(world: World, invoice: Invoice, status: 'void' | 'uncollectible'): void {
  const at = status === 'void' ? 'voided_at' : 'marked_uncollectible_at';
  Object.assign(invoice, {
    status,
    auto_advance: false,
    next_payment_attempt: null,
    status_transitions: { ...invoice.status_transitions, [at]: world.clock.now() },
  });
  emit(world, status === 'void' ? 'invoice.voided' : 'invoice.marked_uncollectible', invoice);
  const payment = paymentOf(world, invoice);
  if (status !== 'void' || !payment) return;
  payment.status = 'canceled';
  payment.status_transitions.canceled_at = world.clock.now();
  const intent = world.store.paymentIntents.find(payment.payment.payment_intent);
  if (intent) cancelIntent(world, intent);
}
