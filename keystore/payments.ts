import { type AccessRules, type PaymentStanding, paymentVerdict } from '../shared/access.ts';
import type { Mode } from '../shared/keys.ts';
import { revokeInStep } from './keys.ts';
import type { PaymentTable } from './schema.ts';
import { inOneStep, type Step, type Store } from './store.ts';
import { isOlderLook, type SyncOutcome } from './sync.ts';

/** A payment as Stripe showed it. Times in milliseconds; `fetchedAt` is when the fetch began. */
export type PaymentSnapshot = PaymentStanding & {
  chargeId: string;
  paymentIntentId: string | null;
  /** Of the subscription whose invoice it paid; `null` for a one-time purchase. */
  subscriptionId: string | null;
  disputedSince: number | null;
  fetchedAt: number;
};

/** The rules on access of a plan. */
export type RulesOf = (planId: string) => AccessRules;

/** What a payment is known to have come to; `undefined` when nothing ever happened to it. */
export async function findPayment(
  store: Store,
  chargeId: string,
): Promise<(PaymentStanding & Pick<PaymentSnapshot, 'disputedSince'>) | undefined> {
  return store.db
    .selectFrom('payments')
    .select([
      'refunded_at as refundedAt',
      'paid_until as paidUntil',
      'dispute',
      'disputed_since as disputedSince',
    ])
    .where('charge_id', '=', chargeId)
    .executeTakeFirst();
}

/** Charges with a dispute or an inquiry that had not come to an end when they were last looked at. */
export async function undecidedPayments(store: Store): Promise<string[]> {
  const rows = await store.db
    .selectFrom('payments')
    .select('charge_id')
    .where('dispute', 'in', ['inquiry', 'open'])
    .execute();
  return rows.map((row) => row.charge_id);
}

/**
 * Writes what happened to a payment, and what that means for the keys it bought: revoked, suspended, or let go on. It is
 * kept even where no key is known yet, because a refund may arrive before the purchase does.
 *
 * @returns `keys`: those it bought
 */
export async function syncPayment(
  store: Store,
  input: { mode: Mode; payment: PaymentSnapshot; rulesOf: RulesOf; actor: string },
): Promise<{ outcome: SyncOutcome; keys: string[]; ended: boolean }> {
  const { payment, mode, actor, rulesOf } = input;
  return inOneStep(store, async (step) => {
    const { trx, now } = step;
    const existing = await trx
      .selectFrom('payments')
      .selectAll()
      .where('charge_id', '=', payment.chargeId)
      .executeTakeFirst();
    if (existing && isOlderLook(existing.fetched_at, payment.fetchedAt, now))
      return { outcome: 'stale', keys: [], ended: false };
    const row: PaymentTable = {
      charge_id: payment.chargeId,
      mode,
      payment_intent_id: payment.paymentIntentId,
      subscription_id: payment.subscriptionId,
      refunded_at: payment.refundedAt,
      paid_until: payment.paidUntil,
      dispute: payment.dispute,
      disputed_since: payment.disputedSince,
      fetched_at: payment.fetchedAt,
      created_at: existing?.created_at ?? now,
      updated_at: now,
    };
    await trx
      .insertInto('payments')
      .values(row)
      .onConflict((conflict) => conflict.column('charge_id').doUpdateSet(row))
      .execute();
    const keys = await keysBoughtBy(step, row);
    for (const key of keys) await applyPayments(step, key, rulesOf, actor);
    const watched = ['refunded_at', 'dispute', 'disputed_since', 'paid_until'] as const;
    const changed = watched.some((column) => existing?.[column] !== row[column]);
    return {
      outcome: changed ? 'updated' : 'unchanged',
      keys: keys.map((key) => key.id),
      ended: keys.some((key) => isFinal(paymentVerdict(payment, rulesOf(key.plan_id)))),
    };
  });
}

type BoughtKey = {
  id: string;
  plan_id: string;
  subscription_id: string | null;
  payment_intent_id: string | null;
  disputed_since: number | null;
  revoked_at: number | null;
};

/** Brings one key in line with all that happened to the payments behind it. Nothing here undoes a revocation. */
export async function applyPayments(
  step: Step,
  key: BoughtKey,
  rulesOf: RulesOf,
  actor: string,
): Promise<void> {
  const { trx } = step;
  if (key.revoked_at !== null) return;
  const payments = await paymentsFor(step, key);
  const rules = rulesOf(key.plan_id);
  const verdicts = payments.map((payment) => paymentVerdict(standingOf(payment), rules));
  const final = verdicts.find(isFinal);
  if (final) {
    await revokeInStep(step, { id: key.id, reason: final, actor });
    return;
  }
  const open = payments.filter((payment) => payment.dispute === 'open');
  const since =
    open.length > 0 ? Math.min(...open.map((payment) => payment.disputed_since ?? step.now)) : null;
  if (since === key.disputed_since) return;
  await trx.updateTable('keys').set({ disputed_since: since }).where('id', '=', key.id).execute();
  await step.audit({ actor, action: since === null ? 'key.dispute_closed' : 'key.disputed', keyId: key.id });
  await step.changed([key.id]);
}

function isFinal(verdict: ReturnType<typeof paymentVerdict>): verdict is 'refunded' | 'disputed' {
  return verdict === 'refunded' || verdict === 'disputed';
}

/** Forgets payments that belong to nothing here: those of other products in the same Stripe account. */
export async function forgetPayments({ trx }: Step, before: number): Promise<void> {
  await trx
    .deleteFrom('payments')
    .where('updated_at', '<', before)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('purchases')
            .select('purchases.id')
            .where(({ or, eb }) =>
              or([
                eb('purchases.payment_intent_id', '=', eb.ref('payments.payment_intent_id')),
                eb('purchases.subscription_id', '=', eb.ref('payments.subscription_id')),
              ]),
            ),
        ),
      ),
    )
    .execute();
}

function standingOf(row: PaymentTable): PaymentStanding {
  return { refundedAt: row.refunded_at, paidUntil: row.paid_until, dispute: row.dispute };
}

function paymentsFor({ trx }: Step, key: BoughtKey): Promise<PaymentTable[]> {
  const { subscription_id: subscription, payment_intent_id: intent } = key;
  if (subscription === null && intent === null) return Promise.resolve([]);
  return trx
    .selectFrom('payments')
    .selectAll()
    .where(({ or, eb }) =>
      or([
        ...(subscription === null ? [] : [eb('subscription_id', '=', subscription)]),
        ...(intent === null ? [] : [eb('payment_intent_id', '=', intent)]),
      ]),
    )
    .execute();
}

/** The keys a payment bought, with all their replacements. */
async function keysBoughtBy({ trx }: Step, payment: PaymentTable): Promise<BoughtKey[]> {
  const { subscription_id: subscription, payment_intent_id: intent } = payment;
  const keys = trx
    .selectFrom('keys')
    .leftJoin('purchases', 'purchases.key_id', 'keys.root_id')
    .leftJoin('subscriptions', 'subscriptions.id', 'keys.subscription_id')
    .select(({ fn }) => [
      'keys.id',
      fn.coalesce('subscriptions.plan_id', 'keys.plan_id').as('plan_id'),
      'keys.subscription_id',
      'purchases.payment_intent_id',
      'keys.disputed_since',
      'keys.revoked_at',
    ]);
  // Two questions, since each has an index of its own and both in one have none.
  const bySubscription =
    subscription === null ? [] : await keys.where('keys.subscription_id', '=', subscription).execute();
  const byIntent =
    intent === null
      ? []
      : await keys
          .where('keys.root_id', 'in', (eb) =>
            eb.selectFrom('purchases').select('key_id').where('payment_intent_id', '=', intent),
          )
          .execute();
  return [...new Map([...bySubscription, ...byIntent].map((key) => [key.id, key])).values()];
}
