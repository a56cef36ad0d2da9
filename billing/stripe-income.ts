import type Stripe from 'stripe';
import type { IncomePart, IncomeSnapshot } from '../keystore/keystore.ts';
import type { Mode } from '../shared/keys.ts';
import { callStripe, lookUp, pages } from './stripe-client.ts';
import { idOf } from './stripe-look.ts';
import { invoiceOf, refundsOf, subscriptionOf } from './stripe-payments.ts';

/** A payment as it is at Stripe now, split over the prices it was for; '' stands for an amount without a price. */
export type IncomeLook = Omit<IncomeSnapshot, 'parts'> & {
  mode: Mode;
  parts: readonly Omit<IncomePart, 'planId'>[];
};

/** What a price was charged for. */
type Charged = { priceId: string; amount: number };

/**
 * Looks at an invoice: the subscription that it bills for, and, when asked, what it brought in; `null` where it is for none,
 * or nothing was paid.
 *
 * @returns `null` when Stripe has no such invoice
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtInvoice(
  stripe: Stripe,
  invoiceId: string,
): Promise<{ subscriptionId: string | null; income(): Promise<IncomeLook | null> } | null> {
  const fetchedAt = Date.now();
  const invoice = await lookUp(() => stripe.invoices.retrieve(invoiceId, { expand: ['payments'] }));
  if (!invoice) return null;
  return {
    subscriptionId: subscriptionOf(invoice),
    income: () => incomeOfInvoice(stripe, invoice, fetchedAt),
  };
}

/**
 * Looks at what the one-time payment of a checkout brought in. Where there is an invoice, that says it, with events of its own.
 *
 * @returns `null` when nothing was paid, it has an invoice, or Stripe has no such checkout
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtIncomeOfSession(stripe: Stripe, sessionId: string): Promise<IncomeLook | null> {
  const fetchedAt = Date.now();
  const session = await lookUp(() =>
    stripe.checkout.sessions.retrieve(sessionId, { expand: ['line_items', 'payment_intent.latest_charge'] }),
  );
  if (!session) return null;
  if (idOf(session.invoice)) return null;
  const intent = session.payment_intent as Stripe.PaymentIntent | null;
  const charge = intent?.latest_charge as Stripe.Charge | null | undefined;
  if (intent?.status !== 'succeeded' || !charge || charge.amount_captured === 0) return null;
  const lines = session.line_items?.has_more
    ? await allOf((after) => stripe.checkout.sessions.listLineItems(session.id, { limit: 100, ...after }))
    : (session.line_items?.data ?? []);
  const charged = lines.map((line) => ({ priceId: line.price?.id ?? '', amount: line.amount_total }));
  return {
    id: intent.id,
    mode: session.livemode ? 'live' : 'test',
    subscriptionId: null,
    stripeCustomerId: idOf(session.customer),
    currency: charge.currency,
    paidAt: charge.created * 1000,
    parts: split(charged, charge.amount_captured, await givenBackOf(stripe, charge)),
    fetchedAt,
  };
}

/**
 * Looks at what a charge helped to pay: an invoice, or a checkout.
 *
 * @returns `null` when it was for neither
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtIncomeOfCharge(stripe: Stripe, chargeId: string): Promise<IncomeLook | null> {
  const charge = await lookUp(() => stripe.charges.retrieve(chargeId));
  if (!charge) return null;
  const invoice = await invoiceOf(stripe, charge);
  if (invoice?.id) return (await lookAtInvoice(stripe, invoice.id))?.income() ?? null;
  const intent = idOf(charge.payment_intent);
  if (!intent) return null;
  const { data } = await callStripe(() =>
    stripe.checkout.sessions.list({ payment_intent: intent, limit: 1 }),
  );
  return data[0] ? lookAtIncomeOfSession(stripe, data[0].id) : null;
}

async function incomeOfInvoice(
  stripe: Stripe,
  invoice: Stripe.Invoice,
  fetchedAt: number,
): Promise<IncomeLook | null> {
  const { id } = invoice;
  if (!id || invoice.status !== 'paid' || invoice.amount_paid <= 0) return null;
  let givenBack = 0;
  for (const { payment, status } of invoice.payments?.data ?? []) {
    if (status !== 'paid') continue;
    const charge = await chargeOf(stripe, payment);
    if (charge) givenBack += await givenBackOf(stripe, charge);
  }
  const lines = invoice.lines.has_more
    ? await allOf((after) => stripe.invoices.listLineItems(id, { limit: 100, ...after }))
    : invoice.lines.data;
  return {
    id,
    mode: invoice.livemode ? 'live' : 'test',
    subscriptionId: subscriptionOf(invoice),
    stripeCustomerId: idOf(invoice.customer),
    currency: invoice.currency,
    paidAt: (invoice.status_transitions.paid_at ?? invoice.created) * 1000,
    parts: split(lines.map(chargedBy), invoice.amount_paid, Math.min(givenBack, invoice.amount_paid)),
    fetchedAt,
  };
}

/** The price that a line of an invoice charges for, and how much after its discounts. */
function chargedBy(line: Stripe.InvoiceLineItem): Charged {
  const discounts = (line.discount_amounts ?? []).reduce((sum, { amount }) => sum + amount, 0);
  return { priceId: priceOfLine(line) ?? '', amount: line.amount - discounts };
}

/** The price of a line of an invoice; `null` where the amount was given by hand. */
export function priceOfLine(line: Stripe.InvoiceLineItem): string | null {
  return idOf(line.pricing?.price_details?.price);
}

async function chargeOf(
  stripe: Stripe,
  payment: Stripe.InvoicePayment.Payment,
): Promise<Stripe.Charge | null> {
  const intentId = idOf(payment.payment_intent);
  const chargeId = idOf(payment.charge);
  if (!intentId) return chargeId ? callStripe(() => stripe.charges.retrieve(chargeId)) : null;
  const intent = await callStripe(() =>
    stripe.paymentIntents.retrieve(intentId, { expand: ['latest_charge'] }),
  );
  return intent.latest_charge as Stripe.Charge | null;
}

/** How much of a charge was refunded, or lost in disputes. */
async function givenBackOf(stripe: Stripe, charge: Stripe.Charge): Promise<number> {
  let given = 0;
  if (charge.amount_refunded > 0) for (const { amount } of await refundsOf(stripe, charge)) given += amount;
  if (charge.disputed) {
    const { data } = await callStripe(() => stripe.disputes.list({ charge: charge.id, limit: 100 }));
    // A bank that disputes in another currency disputes all there is.
    for (const { amount, currency, status } of data)
      if (status === 'lost') given += currency === charge.currency ? amount : charge.amount_captured;
  }
  return Math.min(given, charge.amount_captured);
}

/**
 * Splits what was paid over the prices that were charged for, in proportion to what each came to. Credits, such as for the
 * unused time of a plan that was changed, lower what was paid: they lower what each price brought in alike, and are no
 * income below zero of the plan that was left. The parts add up to what was paid, and what was given back to them alike.
 */
function split(charged: readonly Charged[], paid: number, givenBack: number): IncomeLook['parts'] {
  const weights = new Map<string, number>();
  for (const { priceId, amount } of charged) weights.set(priceId, (weights.get(priceId) ?? 0) + amount);
  let positive = [...weights]
    .filter(([, amount]) => amount > 0)
    .sort(([one], [other]) => (one < other ? -1 : 1));
  // Something owed from before was paid with an invoice that charges for nothing.
  if (positive.length === 0) positive = [[charged[0]?.priceId ?? '', 1]];
  const amounts = proportions(
    paid,
    positive.map(([, amount]) => amount),
  );
  const given = proportions(givenBack, amounts);
  return positive.map(([priceId], i) => ({
    priceId,
    amount: amounts[i] as number,
    givenBack: given[i] as number,
  }));
}

/** Splits a whole number in proportion to weights, into whole numbers that add up to it. */
function proportions(whole: number, weights: readonly number[]): number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let weighed = 0;
  let shared = 0;
  return weights.map((weight) => {
    weighed += weight;
    const upTo = Math.round((whole * weighed) / total);
    const share = upTo - shared;
    shared = upTo;
    return share;
  });
}

async function allOf<T extends { id: string }>(list: Parameters<typeof pages<T>>[0]): Promise<T[]> {
  const all: T[] = [];
  for await (const page of pages(list)) all.push(...page);
  return all;
}
