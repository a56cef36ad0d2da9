import type Stripe from 'stripe';
import type { PaymentSnapshot } from '../keystore/keystore.ts';
import type { Mode } from '../shared/keys.ts';
import { callStripe, lookUp, pages } from './stripe-client.ts';
import { idOf } from './stripe-look.ts';

/** A payment as it is at Stripe now. `untouched`: nothing was refunded or disputed. */
export type PaymentLook = PaymentSnapshot & { mode: Mode; untouched: boolean };

/** An inquiry withdraws nothing, but may become a dispute. */
const OPEN_INQUIRIES = new Set(['warning_needs_response', 'warning_under_review']);

/** States of a dispute in which the money is gone and not lost for good. */
const OPEN_DISPUTES = new Set([
  'needs_response',
  'under_review',
  'appeal_needs_response',
  'appeal_under_review',
]);

/**
 * Looks at a charge: what was given back, what is disputed, and which subscription it paid for.
 *
 * @returns `null` when Stripe has no such charge
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtPayment(stripe: Stripe, chargeId: string): Promise<PaymentLook | null> {
  const fetchedAt = Date.now();
  const charge = await lookUp(() => stripe.charges.retrieve(chargeId));
  if (!charge) return null;
  const untouched = charge.amount_refunded === 0 && !charge.disputed;
  const paid = untouched ? NOTHING : await paidFor(stripe, charge);
  const givenBackAt = charge.amount_refunded === 0 ? null : await refundedAt(stripe, charge);
  const keptOtherwise = givenBackAt !== null && (await othersKept(stripe, paid, givenBackAt));
  return {
    chargeId,
    mode: charge.livemode ? 'live' : 'test',
    untouched,
    paymentIntentId: idOf(charge.payment_intent),
    subscriptionId: paid.subscriptionId,
    paidUntil: paid.paidUntil,
    refundedAt: keptOtherwise ? null : givenBackAt,
    ...(charge.disputed ? await disputeOf(stripe, charge) : { dispute: null, disputedSince: null }),
    fetchedAt,
  };
}

/** Whether a subscription was ever paid for: with money, or a period after the trial with a credit or a coupon. */
export async function wasPaidFor(stripe: Stripe, subscriptionId: string): Promise<boolean> {
  for await (const page of pages((after) =>
    stripe.invoices.list({ subscription: subscriptionId, status: 'paid', limit: 100, ...after }),
  ))
    if (
      page.some(({ amount_due, billing_reason }) => amount_due > 0 || billing_reason === 'subscription_cycle')
    )
      return true;
  return false;
}

/** The charge that a refund gives back. */
export async function lookAtRefund(
  stripe: Stripe,
  refundId: string,
): Promise<{ chargeId: string | null } | null> {
  const refund = await lookUp(() => stripe.refunds.retrieve(refundId));
  return refund && { chargeId: idOf(refund.charge) };
}

/** The charge that a dispute is about. */
export async function lookAtDispute(
  stripe: Stripe,
  disputeId: string,
): Promise<{ chargeId: string | null } | null> {
  const dispute = await lookUp(() => stripe.disputes.retrieve(disputeId));
  return dispute && { chargeId: idOf(dispute.charge) };
}

/** Charges of which something was refunded or disputed since a moment (seconds), each once. */
export async function touchedCharges(stripe: Stripe, since: number): Promise<string[]> {
  const charges = new Set<string>();
  const created = { gte: since };
  for await (const page of pages((after) => stripe.refunds.list({ created, limit: 100, ...after })))
    for (const refund of page) charges.add(idOf(refund.charge) ?? '');
  for await (const page of pages((after) => stripe.disputes.list({ created, limit: 100, ...after })))
    for (const dispute of page) charges.add(idOf(dispute.charge) ?? '');
  charges.delete('');
  return [...charges];
}

/** When the last of a charge was given back; `null` while some of it is kept. A refund under way gives nothing back yet. */
async function refundedAt(stripe: Stripe, charge: Stripe.Charge): Promise<number | null> {
  let given = 0;
  let last = 0;
  for (const refund of await refundsOf(stripe, charge)) {
    given += refund.amount;
    last = Math.max(last, refund.created);
  }
  return given > 0 && given >= charge.amount_captured ? last * 1000 : null;
}

/** What was given back of a charge. A refund under way gives nothing back yet. */
export async function refundsOf(stripe: Stripe, charge: Stripe.Charge): Promise<Stripe.Refund[]> {
  const given: Stripe.Refund[] = [];
  for await (const page of pages((after) => stripe.refunds.list({ charge: charge.id, limit: 100, ...after })))
    given.push(...page.filter(({ status }) => status === 'succeeded'));
  return given;
}

async function disputeOf(
  stripe: Stripe,
  charge: Stripe.Charge,
): Promise<Pick<PaymentSnapshot, 'dispute' | 'disputedSince'>> {
  const { data } = await callStripe(() => stripe.disputes.list({ charge: charge.id, limit: 100 }));
  if (data.some(({ status }) => status === 'lost')) return { dispute: 'lost', disputedSince: null };
  const open = data.filter(({ status }) => OPEN_DISPUTES.has(status)).map(({ created }) => created * 1000);
  if (open.length > 0) return { dispute: 'open', disputedSince: Math.min(...open) };
  if (data.some(({ status }) => OPEN_INQUIRIES.has(status)))
    return { dispute: 'inquiry', disputedSince: null };
  return { dispute: data.some(({ status }) => status === 'won') ? 'won' : null, disputedSince: null };
}

/** The subscription that a charge paid for, and until when; by which invoice. */
type PaidFor = Pick<PaymentSnapshot, 'subscriptionId' | 'paidUntil'> & {
  invoiceId: string | null;
  /** Whether it paid for a period as such, and not for a change in the middle of one. */
  forPeriod: boolean;
};
const NOTHING: PaidFor = { subscriptionId: null, paidUntil: null, invoiceId: null, forPeriod: false };
const PERIOD_INVOICES = new Set(['subscription_create', 'subscription_cycle']);

async function paidFor(stripe: Stripe, charge: Stripe.Charge): Promise<PaidFor> {
  const invoice = await invoiceOf(stripe, charge);
  const subscriptionId = invoice && subscriptionOf(invoice);
  if (!invoice || !subscriptionId) return NOTHING;
  return {
    subscriptionId,
    paidUntil: paidUntil(invoice),
    invoiceId: invoice.id ?? null,
    forPeriod: PERIOD_INVOICES.has(invoice.billing_reason ?? ''),
  };
}

function paidUntil(invoice: Stripe.Invoice): number | null {
  const ends = invoice.lines.data.map((line) => line.period.end * 1000);
  return ends.length > 0 ? Math.max(...ends) : null;
}

/**
 * Whether a refund takes back a change in the middle of a period only, such as an upgrade, and what was paid for the rest
 * of that time is kept. Giving back what the period itself cost is giving back access, whatever else was paid.
 */
async function othersKept(
  stripe: Stripe,
  { subscriptionId, invoiceId, forPeriod }: PaidFor,
  refundedAtMs: number,
): Promise<boolean> {
  if (!subscriptionId || forPeriod) return false;
  const paid = pages((after) =>
    stripe.invoices.list({
      subscription: subscriptionId,
      status: 'paid',
      created: { lte: Math.floor(refundedAtMs / 1000) },
      limit: 100,
      expand: ['data.payments'],
      ...after,
    }),
  );
  for await (const page of paid) {
    for (const invoice of page) {
      // What was paid only after the refund does not undo it: the key had ended by then, if the refund was seen.
      const paidBefore = (invoice.status_transitions.paid_at ?? 0) * 1000 <= refundedAtMs;
      const covers = paidBefore && (paidUntil(invoice) ?? 0) > refundedAtMs;
      if (invoice.id !== invoiceId && invoice.amount_paid > 0 && covers && (await isKept(stripe, invoice)))
        return true;
    }
  }
  return false;
}

/** Whether what an invoice was paid with was not given back in full. */
async function isKept(stripe: Stripe, invoice: Stripe.Invoice): Promise<boolean> {
  for (const { payment, status } of invoice.payments?.data ?? []) {
    const intentId = idOf(payment.payment_intent);
    if (status !== 'paid' || !intentId) continue;
    const intent = await callStripe(() =>
      stripe.paymentIntents.retrieve(intentId, { expand: ['latest_charge'] }),
    );
    const charge = intent.latest_charge as Stripe.Charge | null;
    if (charge && charge.amount_refunded > 0 && (await refundedAt(stripe, charge)) !== null) return false;
  }
  // Paid outside Stripe, nothing there tells of a refund.
  return true;
}

/** Since 2025-03-31 invoice payments tie a payment to its invoice; before that, the charge named it. */
export async function invoiceOf(stripe: Stripe, charge: Stripe.Charge): Promise<Stripe.Invoice | null> {
  const named = idOf((charge as { invoice?: string | { id: string } | null }).invoice);
  if (named) return lookUp(() => stripe.invoices.retrieve(named));
  const intent = idOf(charge.payment_intent);
  if (!intent) return null;
  const { data } = await callStripe(() =>
    stripe.invoicePayments.list({
      payment: { type: 'payment_intent', payment_intent: intent },
      limit: 1,
      expand: ['data.invoice'],
    }),
  );
  const invoice = data[0]?.invoice as Stripe.Invoice | Stripe.DeletedInvoice | undefined;
  return invoice && !invoice.deleted ? (invoice as Stripe.Invoice) : null;
}

/** Since 2025-03-31 the subscription is under `parent`; before that it stood on the invoice itself. */
export function subscriptionOf(invoice: Stripe.Invoice): string | null {
  const old = (invoice as { subscription?: string | { id: string } | null }).subscription;
  return idOf(invoice.parent?.subscription_details?.subscription ?? old);
}
