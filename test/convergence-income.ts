import type Stripe from 'stripe';
import type { Keystore } from '../keystore/keystore.ts';
import { type AtStripe, chargesOf } from './convergence-model.ts';

/** What a payment brought in, from Stripe's objects alone; `shares`: which part of it was for which plan. */
type Expected = { paid: number; givenBack: number; shares: ReadonlyMap<string, number>; prices: number };

type Line = { price: string; amount: number };

/** Where the income that is written is not what Stripe's objects say was paid and given back. */
export async function compareIncome(keystore: Keystore, stripe: AtStripe): Promise<string[]> {
  const differences: string[] = [];
  const sums = new Map<string, { amount: number; givenBack: number }>();
  for (const [id, expected] of expectedIncome(stripe)) {
    const parts = await keystore.findIncome(id);
    for (const { planId, amount, givenBack } of parts) {
      const sum = sums.get(planId) ?? { amount: 0, givenBack: 0 };
      sums.set(planId, { amount: sum.amount + amount, givenBack: sum.givenBack + givenBack });
    }
    const wrong = wrongWith(parts, expected);
    if (wrong) {
      const { shares, ...terms } = expected;
      const model = JSON.stringify({ ...terms, shares: Object.fromEntries(shares) });
      differences.push(
        `The income of ${id}: ${wrong}\n  The model: ${model}\n  Here: ${JSON.stringify(parts)}`,
      );
    }
  }
  const days = await keystore.incomeByDay({ firstDay: 0, lastDay: 1_000_000 });
  for (const planId of new Set([...sums.keys(), ...days.map((day) => day.planId)])) {
    const ofPlan = days.filter((day) => day.planId === planId);
    const amount = ofPlan.reduce((sum, day) => sum + day.amount, 0);
    const givenBack = ofPlan.reduce((sum, day) => sum + day.givenBack, 0);
    const payments = sums.get(planId) ?? { amount: 0, givenBack: 0 };
    if (amount !== payments.amount || givenBack !== payments.givenBack)
      differences.push(
        `The days of ${planId} add up to ${amount} less ${givenBack}, its payments to ${payments.amount} less ${payments.givenBack}`,
      );
  }
  return differences;
}

function wrongWith(
  parts: readonly { planId: string; amount: number; givenBack: number }[],
  { paid, givenBack, shares, prices }: Expected,
): string | undefined {
  const [amounts, given] = [parts.map(({ amount }) => amount), parts.map((part) => part.givenBack)].map(
    (all) => all.reduce((sum, each) => sum + each, 0),
  ) as [number, number];
  const allOurs = shares.size === prices;
  if (allOurs && (amounts !== paid || given !== givenBack)) return 'not all of it is there';
  if (parts.length !== shares.size) return 'it is for other plans';
  for (const part of parts) {
    const share = shares.get(part.planId) ?? 0;
    // Whole cents only.
    if (Math.abs(part.amount - paid * share) >= 1 || Math.abs(part.givenBack - givenBack * share) >= 2)
      return `${part.planId} has another share`;
  }
  return undefined;
}

/** By invoice, or by the payment intent of a one-time checkout: all that was paid for something of ours. */
function expectedIncome(stripe: AtStripe): Map<string, Expected> {
  const expected = new Map<string, Expected>();
  const add = (id: string, paid: number, charges: readonly Stripe.Charge[], lines: readonly Line[]) => {
    const { shares, prices } = sharesOf(stripe, lines);
    const givenBack = charges.reduce((sum, charge) => sum + givenBackOf(stripe, charge), 0);
    if (paid > 0 && shares.size > 0) expected.set(id, { paid, givenBack, shares, prices });
  };
  for (const invoice of stripe.invoices) {
    if (invoice.status !== 'paid') continue;
    const lines = invoice.lines.data.map((line) => ({
      price: line.pricing?.price_details?.price as string,
      amount: line.amount - (line.discount_amounts ?? []).reduce((sum, { amount }) => sum + amount, 0),
    }));
    add(invoice.id as string, invoice.amount_paid, chargesOf(stripe, invoice), lines);
  }
  for (const session of stripe.sessions) {
    const intent = stripe.intents.find(({ id }) => id === session.payment_intent);
    if (session.mode !== 'payment' || session.invoice || intent?.status !== 'succeeded') continue;
    const charges = stripe.charges.filter((charge) => charge.payment_intent === intent.id);
    const lines = (stripe.lines.get(session.id) ?? []).map(({ price, total }) => ({ price, amount: total }));
    add(intent.id, intent.amount_received, charges, lines);
  }
  return expected;
}

/** Which part of what was charged for was for which plan; what is owed less for one price lowers all others alike. */
function sharesOf(
  { planOf }: AtStripe,
  lines: readonly Line[],
): { shares: Map<string, number>; prices: number } {
  const byPrice = [...Map.groupBy(lines, ({ price }) => price)]
    .map(([price, of]) => ({ price, amount: of.reduce((sum, { amount }) => sum + amount, 0) }))
    .filter(({ amount }) => amount > 0);
  const charged = byPrice.length > 0 ? byPrice : lines.slice(0, 1).map(({ price }) => ({ price, amount: 1 }));
  const total = charged.reduce((sum, { amount }) => sum + amount, 0);
  const ours = charged.filter(({ price }) => planOf.has(price));
  return {
    shares: new Map(ours.map(({ price, amount }) => [planOf.get(price) as string, amount / total])),
    prices: charged.length,
  };
}

function givenBackOf({ refunds, disputes }: AtStripe, charge: Stripe.Charge): number {
  const given = [
    ...refunds.filter(({ status }) => status === 'succeeded'),
    ...disputes.filter(({ status }) => status === 'lost'),
  ].filter((each) => each.charge === charge.id);
  return Math.min(
    charge.amount,
    given.reduce((sum, { amount }) => sum + amount, 0),
  );
}
