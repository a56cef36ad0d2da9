import type Stripe from 'stripe';
import { PLANS, type PlanTerms } from './convergence-plans.ts';

/**
 * What every key may do, from Stripe's objects alone as they are in the end. Knows nothing of the code it is held
 * against: imports neither billing nor keystore nor the rule on access.
 */

export type May = 'active' | 'suspended' | 'ended';
export type Expected =
  | { key: false; why: string }
  /** `may` has two entries where the objects do not tell which: `why` says so. */
  | { key: true; plan: string; quantity: number; may: readonly May[]; why: string };

/** All objects of the account. */
export type AtStripe = {
  /** Seconds. */
  now: number;
  sessions: readonly Stripe.Checkout.Session[];
  /** By session: what it sold. */
  lines: ReadonlyMap<string, readonly { price: string; quantity: number; total: number }[]>;
  customers: readonly Stripe.Customer[];
  subscriptions: readonly Stripe.Subscription[];
  invoices: readonly Stripe.Invoice[];
  invoicePayments: readonly Stripe.InvoicePayment[];
  intents: readonly Stripe.PaymentIntent[];
  charges: readonly Stripe.Charge[];
  refunds: readonly Stripe.Refund[];
  disputes: readonly Stripe.Dispute[];
  /** Plan ids by price. */
  planOf: ReadonlyMap<string, string>;
  /** Refunds that had succeeded before they failed. Stripe's objects do not tell. */
  onceSucceeded: ReadonlySet<string>;
};

const DAY = 86_400;

/** What a checkout session entitles to. */
export function expectedOf(stripe: AtStripe, session: Stripe.Checkout.Session): Expected {
  if (session.status !== 'complete') return { key: false, why: `the checkout is ${session.status}` };
  return session.mode === 'subscription' ? ofSubscription(stripe, session) : ofPayment(stripe, session);
}

function ofPayment(stripe: AtStripe, session: Stripe.Checkout.Session): Expected {
  const sold = bestPlan(stripe, stripe.lines.get(session.id) ?? []);
  if (!sold) return { key: false, why: 'nothing of ours was sold' };
  const intent = stripe.intents.find(({ id }) => id === session.payment_intent);
  if (intent?.status !== 'succeeded') return { key: false, why: `the payment is ${intent?.status}` };
  const charges = stripe.charges.filter((charge) => charge.payment_intent === intent.id);
  return {
    key: true,
    ...sold,
    ...merged(
      fateOf(
        stripe,
        sold.plan,
        charges.map((charge) => ({ charge, paidUntil: null, invoice: null })),
      ),
      { may: ['active'], why: 'paid once' },
    ),
  };
}

function ofSubscription(stripe: AtStripe, session: Stripe.Checkout.Session): Expected {
  const subscription = stripe.subscriptions.find(({ id }) => id === session.subscription);
  if (!subscription) return { key: false, why: 'there is no subscription' };
  const sold = bestPlan(
    stripe,
    subscription.items.data.map((item) => ({ price: item.price.id, quantity: item.quantity ?? 1 })),
  );
  if (!sold) return { key: false, why: 'nothing of ours was sold' };
  const invoices = stripe.invoices.filter((invoice) => subscriptionOf(invoice) === subscription.id);
  const first = invoices.find(({ id }) => id === session.invoice);
  if (first?.status !== 'paid') return { key: false, why: `the first invoice is ${first?.status}` };
  if (trialWasUsed(stripe, session, subscription)) {
    const paid = invoices.some(({ status, amount_due }) => status === 'paid' && amount_due > 0);
    if (!paid) return { key: false, why: 'another trial, and nothing was paid' };
  }
  const payments = invoices.flatMap((invoice) => {
    const paidUntil = Math.max(...invoice.lines.data.map((line) => line.period.end));
    return chargesOf(stripe, invoice).map((charge) => ({ charge, paidUntil, invoice }));
  });
  return {
    key: true,
    ...sold,
    ...merged(fateOf(stripe, sold.plan, payments), standingOf(stripe, subscription, invoices, sold.plan)),
  };
}

type Verdict = { may: readonly May[]; why: string };

/** The worse of two verdicts holds; what is uncertain in one stays so unless the other is worse than both. */
function merged(one: Verdict, other: Verdict): Verdict {
  const order: May[] = ['active', 'suspended', 'ended'];
  const worse = (a: May, b: May) => (order.indexOf(a) > order.indexOf(b) ? a : b);
  const may = [...new Set(one.may.flatMap((a) => other.may.map((b) => worse(a, b))))];
  return { may, why: `${other.why}; ${one.why}` };
}

/** What the subscription itself says. */
function standingOf(
  stripe: AtStripe,
  { status }: Stripe.Subscription,
  invoices: readonly Stripe.Invoice[],
  planId: string,
): Verdict {
  const plan = PLANS[planId] as PlanTerms;
  const rule = plan.access?.[status];
  const verdict = (may: May, more = ''): Verdict => ({ may: [may], why: `${status}${more}` });
  if (status === 'canceled' || status === 'incomplete_expired') return verdict('ended');
  if (rule) return verdict(rule === 'allow' ? 'active' : 'suspended', `, and the plan says ${rule}`);
  if (status === 'active' || status === 'trialing') return verdict('active');
  if (status !== 'past_due') return verdict('suspended');
  const owed = invoices.filter((invoice) => invoice.status === 'open' && invoice.attempted);
  if (owed.length === 0) {
    return { may: ['active', 'suspended'], why: 'past_due, and no invoice says since when' };
  }
  const since = Math.min(...owed.map((invoice) => firstFailure(stripe, invoice)));
  const ends = since + (plan.graceDays ?? 14) * DAY;
  return verdict(ends > stripe.now ? 'active' : 'suspended', ` since ${date(since)}, grace to ${date(ends)}`);
}

/** When an invoice was first tried in vain: by its charges, or without a payment method when it became final. */
function firstFailure(stripe: AtStripe, invoice: Stripe.Invoice): number {
  const failed = chargesOf(stripe, invoice).filter(({ status }) => status === 'failed');
  if (failed.length > 0) return Math.min(...failed.map(({ created }) => created));
  return invoice.status_transitions.finalized_at as number;
}

type Payment = { charge: Stripe.Charge; paidUntil: number | null; invoice: Stripe.Invoice | null };

/** What became of the payments. */
function fateOf(stripe: AtStripe, planId: string, payments: readonly Payment[]): Verdict {
  const rules = PLANS[planId]?.access ?? {};
  const succeeded = ({ status }: Stripe.Refund) => status === 'succeeded';
  const everSucceeded = (refund: Stripe.Refund) => succeeded(refund) || stripe.onceSucceeded.has(refund.id);
  let verdict: Verdict = { may: ['active'], why: 'all payments kept' };
  for (const payment of payments) {
    const { charge, paidUntil } = payment;
    const cameInTime = (at: number | null) => at !== null && (paidUntil === null || at < paidUntil);
    const givenBack = givenBackAt(stripe, charge, succeeded);
    if (rules.refund === 'keep') {
      // Nothing comes of refunds.
    } else if (cameInTime(givenBack)) {
      const forPeriod = /^subscription_(create|cycle)$/.test(payment.invoice?.billing_reason ?? '');
      const beside = forPeriod
        ? []
        : payments.filter((each) => isPaidBeside(each, payment, givenBack as number));
      const keeps = (counts: typeof succeeded, isSure = false) =>
        beside.some(
          (other) =>
            givenBackAt(stripe, other.charge, counts) === null &&
            // Of a payment and a refund in one second, nothing tells which came first.
            !(isSure && other.invoice?.status_transitions.paid_at === givenBack),
        );
      if (keeps(everSucceeded, true))
        verdict = merged(verdict, { may: ['active'], why: `${charge.id} only refunded` });
      else if (keeps(succeeded)) verdict = uncertain(verdict, `${charge.id} refunded, others perhaps not`);
      else verdict = merged(verdict, { may: ['ended'], why: `${charge.id} refunded` });
    } else if (cameInTime(givenBackAt(stripe, charge, everSucceeded))) {
      verdict = uncertain(verdict, `${charge.id} refunded, but the refund failed: final if it was seen`);
    }
    for (const { status } of stripe.disputes.filter((dispute) => dispute.charge === charge.id)) {
      if (status === 'lost' && rules.lost_dispute !== 'keep')
        verdict = merged(verdict, { may: ['ended'], why: `${charge.id}: dispute lost` });
      if ((status === 'needs_response' || status === 'under_review') && rules.dispute !== 'allow')
        verdict = merged(verdict, { may: ['suspended'], why: `${charge.id}: in dispute` });
    }
  }
  return verdict;
}

function uncertain(verdict: Verdict, why: string): Verdict {
  return merged(verdict, { may: ['active', 'ended'], why });
}

/** When the last of a charge was given back; `null` while some is kept. */
function givenBackAt(
  { refunds }: AtStripe,
  charge: Stripe.Charge,
  counts: (refund: Stripe.Refund) => boolean,
): number | null {
  if (charge.status !== 'succeeded') return null;
  let given = 0;
  const last = refunds
    .filter((refund) => refund.charge === charge.id && counts(refund))
    .sort((one, other) => one.created - other.created)
    .find(({ amount }) => {
      given += amount;
      return given >= charge.amount;
    });
  return last?.created ?? null;
}

/** Whether another invoice had been paid, before a refund, for the time that the refund fell into. */
function isPaidBeside(other: Payment, refunded: Payment, at: number): boolean {
  if (!other.invoice || other.invoice === refunded.invoice || other.charge.status !== 'succeeded')
    return false;
  const paidAt = other.invoice.status_transitions.paid_at;
  return paidAt !== null && paidAt <= at && (other.paidUntil ?? 0) > at;
}

/** Whether this is a trial of a plan that gives a person one, and the person has had one before. */
function trialWasUsed(
  stripe: AtStripe,
  session: Stripe.Checkout.Session,
  subscription: Stripe.Subscription,
): boolean {
  const first = bestPlan(stripe, stripe.lines.get(session.id) ?? []);
  if (!PLANS[first?.plan ?? '']?.trial?.once || subscription.trial_start === null) return false;
  const email = session.customer_details?.email;
  const person = stripe.customers.filter(
    (customer) => customer.id === session.customer || (email && customer.email === email),
  );
  return stripe.subscriptions.some(
    (other) =>
      other.id !== subscription.id &&
      other.trial_start !== null &&
      other.items.data.some((item) => stripe.planOf.has(item.price.id)) &&
      person.some(({ id }) => id === other.customer) &&
      (other.created < subscription.created ||
        (other.created === subscription.created && other.id < subscription.id)),
  );
}

/** Of several plans, the last in the catalogue, and all there is of it. */
function bestPlan(
  stripe: AtStripe,
  items: readonly { price: string; quantity: number }[],
): { plan: string; quantity: number } | undefined {
  const quantities = new Map<string, number>();
  for (const { price, quantity } of items) {
    const plan = stripe.planOf.get(price);
    if (plan) quantities.set(plan, (quantities.get(plan) ?? 0) + quantity);
  }
  const plan = Object.keys(PLANS).findLast((each) => quantities.has(each));
  return plan === undefined ? undefined : { plan, quantity: quantities.get(plan) as number };
}

export function chargesOf(stripe: AtStripe, invoice: Stripe.Invoice): Stripe.Charge[] {
  const intents = stripe.invoicePayments
    .filter((payment) => payment.invoice === invoice.id)
    .map((payment) => payment.payment.payment_intent);
  return stripe.charges.filter((charge) => intents.includes(charge.payment_intent as string));
}

export function subscriptionOf(invoice: Stripe.Invoice): string | null {
  return (invoice.parent?.subscription_details?.subscription as string | undefined) ?? null;
}

function date(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 16);
}
