import type { Mode } from '../shared/keys.ts';
import type { IncomeTable } from './schema.ts';
import { inOneStep, type Step, type Store } from './store.ts';
import { isOlderLook, type SyncOutcome } from './sync.ts';

const DAY_MS = 86_400_000;

/** What of a payment was for one price, in the currency's smallest unit; `planId` is `null` where it stands for no plan. */
export type IncomePart = { priceId: string; planId: string | null; amount: number; givenBack: number };

/** A payment as Stripe showed it. Times in milliseconds; `fetchedAt` is when the fetch began. */
export type IncomeSnapshot = {
  /** Stripe's id of the invoice; of a one-time purchase without one, of its payment intent. */
  id: string;
  subscriptionId: string | null;
  stripeCustomerId: string | null;
  currency: string;
  paidAt: number;
  parts: readonly IncomePart[];
  fetchedAt: number;
};

/** What a plan brought in on a day (days since the epoch, UTC), of which `givenBack` was given back at any time since. */
export type IncomeDay = {
  day: number;
  currency: string;
  planId: string;
  amount: number;
  givenBack: number;
  payments: number;
};

/**
 * Writes what a payment brought in, and brings the sums of its day in line. A part whose price has left the plan catalogue
 * stays with the plan that it was written for; one that never stood for a plan is not written.
 *
 * @returns `not_ours`: nothing of it was for a plan
 */
export async function syncIncome(
  store: Store,
  input: { mode: Mode; income: IncomeSnapshot },
): Promise<{ outcome: SyncOutcome | 'not_ours' }> {
  const { mode, income } = input;
  return inOneStep(store, async ({ trx, now }) => {
    const before = await trx.selectFrom('income').selectAll().where('id', '=', income.id).execute();
    const written = Math.max(...before.map((row) => row.fetched_at));
    if (before.length > 0 && isOlderLook(written, income.fetchedAt, now)) return { outcome: 'stale' };
    const after = income.parts.flatMap((part): IncomeTable[] => {
      const planId = part.planId ?? before.find((row) => row.price_id === part.priceId)?.plan_id;
      if (planId === undefined || part.amount === 0) return [];
      return [
        {
          id: income.id,
          price_id: part.priceId,
          plan_id: planId,
          mode,
          subscription_id: income.subscriptionId,
          stripe_customer_id: income.stripeCustomerId,
          currency: income.currency,
          amount: part.amount,
          given_back: part.givenBack,
          paid_at: income.paidAt,
          fetched_at: income.fetchedAt,
        },
      ];
    });
    if (after.length === 0) return { outcome: 'not_ours' };
    const others = before.filter((row) => !after.some((each) => each.price_id === row.price_id));
    for (const row of after) {
      await trx
        .insertInto('income')
        .values(row)
        .onConflict((conflict) => conflict.columns(['id', 'price_id']).doUpdateSet(row))
        .execute();
    }
    const [was, is] = [sumsOf(before), sumsOf([...after, ...others])];
    if (JSON.stringify(was) === JSON.stringify(is)) return { outcome: 'unchanged' };
    await addToDays(trx, was, -1);
    await addToDays(trx, is, 1);
    return { outcome: 'updated' };
  });
}

/** What is written of a payment, by price; empty when nothing is. */
export async function findIncome(store: Store, id: string): Promise<(IncomePart & { planId: string })[]> {
  return store.db
    .selectFrom('income')
    .select(['price_id as priceId', 'plan_id as planId', 'amount', 'given_back as givenBack'])
    .where('id', '=', id)
    .orderBy('price_id')
    .execute();
}

/** Which of these payments nothing is written of. */
export async function unknownIncome(store: Store, ids: readonly string[]): Promise<string[]> {
  if (ids.length === 0) return [];
  const rows = await store.db
    .selectFrom('income')
    .select('id')
    .where('id', 'in', [...ids])
    .execute();
  const known = new Set(rows.map(({ id }) => id));
  return ids.filter((id) => !known.has(id));
}

/** What each plan brought in by day and currency, from a day to another, both included; days without any are left out. */
export async function incomeByDay(
  store: Store,
  input: { firstDay: number; lastDay: number },
): Promise<IncomeDay[]> {
  return store.db
    .selectFrom('income_days')
    .select(['day', 'currency', 'plan_id as planId', 'amount', 'given_back as givenBack', 'payments'])
    .where('day', '>=', input.firstDay)
    .where('day', '<=', input.lastDay)
    .where('payments', '>', 0)
    .orderBy('day')
    .orderBy('currency')
    .orderBy('plan_id')
    .execute();
}

/** A payment adds to the sums of each plan once, however many prices of the plan it was for. */
function sumsOf(rows: readonly IncomeTable[]): IncomeDay[] {
  const sums = new Map<string, IncomeDay>();
  for (const { plan_id: planId, currency, paid_at, amount, given_back } of rows) {
    const day = Math.floor(paid_at / DAY_MS);
    const place = `${day} ${currency} ${planId}`;
    const sum = sums.get(place) ?? { day, currency, planId, amount: 0, givenBack: 0, payments: 1 };
    sum.amount += amount;
    sum.givenBack += given_back;
    sums.set(place, sum);
  }
  return [...sums.entries()].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, sum]) => sum);
}

async function addToDays(trx: Step['trx'], sums: readonly IncomeDay[], sign: 1 | -1): Promise<void> {
  for (const { day, currency, planId, amount, givenBack, payments } of sums) {
    await trx
      .insertInto('income_days')
      .values({
        day,
        currency,
        plan_id: planId,
        amount: sign * amount,
        given_back: sign * givenBack,
        payments: sign * payments,
      })
      .onConflict((conflict) =>
        conflict.columns(['day', 'currency', 'plan_id']).doUpdateSet(({ eb, ref }) => ({
          amount: eb('income_days.amount', '+', ref('excluded.amount')),
          given_back: eb('income_days.given_back', '+', ref('excluded.given_back')),
          payments: eb('income_days.payments', '+', ref('excluded.payments')),
        })),
      )
      .execute();
  }
}
