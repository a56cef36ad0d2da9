import type { IncomePart, IncomeSnapshot } from '../keystore/keystore.ts';
import { moneyText } from '../shared/currency.ts';
import type { Drift, ReconcileOptions } from './reconcile.ts';
import type { SettleContext } from './settle.ts';
import { incomeFrom } from './settle-income.ts';
import { listPaid, type Paid } from './stripe-history.ts';
import {
  type IncomeLook,
  lookAtIncomeOfCharge,
  lookAtIncomeOfSession,
  lookAtInvoice,
} from './stripe-income.ts';

/** Tries again while Stripe does not answer. */
type Patiently = <T>(look: () => Promise<T>) => Promise<T>;

/**
 * Writes, or would write, what was paid and is not known here, and what was given back since.
 *
 * @param touched charges of which something was given back or disputed
 */
export async function* incomeDrift(
  context: SettleContext,
  { since, dryRun, signal }: ReconcileOptions,
  touched: readonly string[],
  patiently: Patiently,
): AsyncGenerator<Drift> {
  const { keystore, mode, plans, stripe } = context;
  const seen = new Set<string>();
  const compared = (look: () => Promise<IncomeLook | null>) =>
    patiently(async () => {
      signal?.throwIfAborted();
      const income = await incomeFrom(context, await look());
      if (!income || seen.has(income.id)) return null;
      const drift = await takeOver(context, income, dryRun);
      seen.add(income.id);
      return drift;
    });
  for (const charge of touched) {
    const drift = await compared(() => lookAtIncomeOfCharge(stripe, charge));
    if (drift) yield drift;
  }
  const isOurs = (priceId: string) => typeof plans.planForPrice(priceId, mode) !== 'string';
  for await (const page of listPaid(stripe, since, isOurs)) {
    for (const id of await keystore.unknownIncome(page.map(({ incomeId }) => incomeId))) {
      const paid = page.find(({ incomeId }) => incomeId === id) as Paid;
      const drift = await compared(() => lookAtPaid(context, paid));
      if (drift) yield drift;
    }
  }
}

async function lookAtPaid({ stripe }: SettleContext, { kind, id }: Paid): Promise<IncomeLook | null> {
  if (kind === 'session') return lookAtIncomeOfSession(stripe, id);
  return (await lookAtInvoice(stripe, id))?.income() ?? null;
}

async function takeOver(
  context: SettleContext,
  income: IncomeSnapshot,
  dryRun: boolean,
): Promise<Drift | null> {
  const { keystore, mode } = context;
  const known = await keystore.findIncome(income.id);
  const parts = income.parts.filter(
    ({ priceId, planId }) => planId !== null || known.some((part) => part.priceId === priceId),
  );
  const [here, atStripe] = [known, parts].map((each) => moneyOf(each, income.currency)) as [string, string];
  if (parts.length === 0 || here === atStripe) return null;
  if (!dryRun) await keystore.syncIncome({ mode, income });
  return {
    what: 'income',
    id: income.id,
    here,
    atStripe,
    action: dryRun ? 'take over' : 'taken over',
    open: false,
  };
}

/** What was paid for plans, and what was given back of it, in words. */
function moneyOf(parts: readonly IncomePart[], currency: string): string {
  const sum = (of: (part: IncomePart) => number) => parts.reduce((total, part) => total + of(part), 0);
  const [paid, givenBack] = [sum(({ amount }) => amount), sum((part) => part.givenBack)];
  if (paid === 0) return 'unknown';
  const text = `paid ${moneyText(paid, currency)}`;
  return givenBack === 0 ? text : `${text}, given back ${moneyText(givenBack, currency)}`;
}
