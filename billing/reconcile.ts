import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { SubscriptionRecord } from '../keystore/keystore.ts';
import { ProblemError } from '../shared/problems.ts';
import { incomeDrift } from './reconcile-income.ts';
import { type SettleContext, settle } from './settle.ts';
import { settlePayment } from './settle-payment.ts';
import { writeSubscription } from './settle-subscription.ts';
import { planSold, snapshotOf } from './sold.ts';
import { listEvents, listSessions } from './stripe-history.ts';
import {
  lookAtAllSubscriptions,
  lookAtSession,
  lookAtSubscription,
  type SubscriptionLook,
} from './stripe-look.ts';
import { lookAtPayment, type PaymentLook, touchedCharges } from './stripe-payments.ts';

/** One thing that is not here as it is at Stripe. */
export type Drift = {
  what: 'purchase' | 'subscription' | 'payment' | 'income' | 'events';
  id: string;
  here: string;
  atStripe: string;
  /** What was done about it, or would be. */
  action: string;
  /** Whether a person has to act. */
  open: boolean;
};

export type ReconcileReport = {
  drift: Drift[];
  checked: { purchases: number; subscriptions: number; payments: number; events: number };
};

export type ReconcileOptions = {
  /**
   * How far back to look for purchases, unknown subscriptions, payments, refunds, disputes and events, milliseconds since
   * the epoch. Known subscriptions are compared at any age.
   */
  since: number;
  /** Only say what would be done. */
  dryRun: boolean;
  /** Ends the run at its next step. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (checked: ReconcileReport['checked']) => void;
};

/** Stripe lists events for 30 days. */
const EVENTS_KEPT_MS = 30 * 86_400_000;

/** How often a look is tried when Stripe does not answer, before the whole run is given up. */
const TRIES = 5;
const FIRST_PAUSE_MS = 1000;

const ENDED = new Set(['canceled', 'incomplete_expired']);

type Run = { context: SettleContext; options: ReconcileOptions; report: ReconcileReport };

/**
 * Compares what is here with what is at Stripe, and puts right what differs: paid checkouts without a key, every
 * subscription, refunds and disputes, what was paid, and events that never arrived. Goes the way of every event: look, settle, write.
 * Stripe's rate limits are kept by the client in `context`.
 *
 * @throws ProblemError `stripe_unavailable` when Stripe stays away, AbortError when told to end; what was repaired until
 *   then is
 */
export async function reconcile(context: SettleContext, options: ReconcileOptions): Promise<ReconcileReport> {
  const report = { drift: [], checked: { purchases: 0, subscriptions: 0, payments: 0, events: 0 } };
  const run: Run = { context, options, report };
  // First: a purchase that was given back must not get a key that works, not for a moment.
  await checkPayments(run);
  await checkPurchases(run);
  await checkSubscriptions(run);
  await checkIncome(run);
  await fetchEvents(run);
  return report;
}

function note(run: Run, drift: Drift): void {
  run.report.drift.push(drift);
}

function checked(run: Run, what: keyof ReconcileReport['checked'], count = 1): void {
  run.options.signal?.throwIfAborted();
  run.report.checked[what] += count;
  run.options.onProgress?.(run.report.checked);
}

/** Whoever has paid has a key. */
async function checkPurchases(run: Run): Promise<void> {
  const { context, options } = run;
  const { keystore, mode, plans, stripe } = context;
  for await (const page of listSessions(stripe, options.since)) {
    for (const sessionId of page) {
      checked(run, 'purchases');
      const before = await keystore.findPurchase(sessionId);
      if (before?.status === 'provisioned') continue;
      const here = before ? `${before.status}${before.failure ? `: ${before.failure}` : ''}` : 'unknown';
      if (options.dryRun) {
        const look = await patiently(() => lookAtSession(stripe, sessionId));
        const sold = look && planSold(plans, look.items, mode);
        if (look?.payment !== 'paid' || before?.failure === 'trial_used') continue;
        if (typeof sold === 'string' && !before) continue;
        note(run, {
          what: 'purchase',
          id: before?.id ?? 'new',
          here,
          atStripe: 'paid',
          action: typeof sold === 'string' ? 'map its price' : 'make its key',
          open: typeof sold === 'string',
        });
        continue;
      }
      const settled = await patiently(() => settle(context, sessionId, 'reconcile'));
      if (settled.outcome === 'provisioned') {
        const { id, keyId } = settled.purchase;
        note(run, {
          what: 'purchase',
          id,
          here,
          atStripe: 'paid',
          action: `made its key ${keyId}`,
          open: false,
        });
      } else if (settled.outcome === 'unknown_price' || settled.outcome === 'wrong_mode_price') {
        const action = `map ${settled.priceIds.join(', ')} and reconcile again`;
        note(run, { what: 'purchase', id: settled.purchase.id, here, atStripe: 'paid', action, open: true });
      }
    }
  }
}

/** Every subscription that is known here, or that sells a plan, is here as it is at Stripe. */
async function checkSubscriptions(run: Run): Promise<void> {
  const { keystore, stripe, mode } = run.context;
  const seen = new Set<string>();
  for await (const page of lookAtAllSubscriptions(stripe)) {
    for (const look of page) {
      seen.add(look.id);
      await checkSubscription(run, look, await keystore.findSubscription(look.id));
    }
  }
  let after = '';
  for (;;) {
    const page = await keystore.listSubscriptions({ after, limit: 100 });
    for (const known of page.filter(({ id }) => !seen.has(id))) {
      const look = await patiently(() => lookAtSubscription(stripe, known.id));
      if (look?.mode === mode) await checkSubscription(run, look, known);
      else
        note(run, {
          what: 'subscription',
          id: known.id,
          here: known.status,
          atStripe: 'not there',
          action: 'left as it is: is STRIPE_SECRET_KEY of the right account?',
          open: true,
        });
    }
    const last = page.at(-1);
    if (!last) return;
    after = last.id;
  }
}

async function checkSubscription(
  run: Run,
  look: SubscriptionLook,
  known: SubscriptionRecord | undefined,
): Promise<void> {
  const { context, options } = run;
  const sold = planSold(context.plans, look.items, context.mode);
  if (!known && (typeof sold === 'string' || look.createdAt < options.since)) return;
  checked(run, 'subscriptions');
  const differences = known ? differencesOf(known, look, run) : [];
  if (differences.length > 0 || !known?.hasKey) {
    const { outcome } = options.dryRun
      ? { outcome: 'updated' }
      : await patiently(() => writeSubscription(context, look, 'reconcile'));
    // Without a checkout nobody bought it here, and there is no key to bring up to date.
    if (differences.length > 0 || outcome === 'provisioned') {
      note(run, {
        what: 'subscription',
        id: look.id,
        here: known ? differences.map(({ name, here }) => `${name} ${here}`).join(', ') : 'unknown',
        atStripe: known
          ? differences.map(({ name, atStripe }) => `${name} ${atStripe}`).join(', ')
          : look.status,
        action: options.dryRun ? 'take over' : outcome === 'provisioned' ? 'made its key' : 'taken over',
        open: false,
      });
    }
  }
  const goesOn = !ENDED.has(look.status);
  if (typeof sold === 'string' && goesOn && known) {
    note(run, {
      what: 'subscription',
      id: look.id,
      here: `plan ${known.planId}`,
      atStripe: look.items.map((item) => item.priceId).join(', '),
      action: 'keeps its plan: the price is not in the plan catalogue, map it or move the customer',
      open: true,
    });
  }
  if (goesOn && known?.hasKey && !known.hasLivingKey) {
    note(run, {
      what: 'subscription',
      id: look.id,
      here: 'all keys revoked',
      atStripe: look.status,
      action: 'cancel it at Stripe, or make its customer a new key: it is still being paid',
      open: true,
    });
  }
}

/** What of a subscription differs, in words. */
function differencesOf(
  known: SubscriptionRecord,
  look: SubscriptionLook,
  { context }: Run,
): { name: string; here: string; atStripe: string }[] {
  const { fetchedAt: _looked, ...wanted } = snapshotOf(
    look,
    planSold(context.plans, look.items, context.mode),
    known,
  );
  const names = {
    status: 'status',
    planId: 'plan',
    priceId: 'price',
    quantity: 'quantity',
    currentPeriodEnd: 'period to',
    cancelAtPeriodEnd: 'cancels at the end',
    cancelAt: 'ends on',
    trialEnd: 'trial to',
    pastDueSince: 'owes since',
  } as const;
  const differing = (Object.keys(names) as (keyof typeof names)[]).filter((field) => {
    // Where Stripe does not tell since when, what was seen here stays.
    if (field === 'pastDueSince' && wanted.status === 'past_due' && wanted.pastDueSince === null)
      return false;
    return !isDeepStrictEqual(known[field], wanted[field]);
  });
  return differing.map((field) => ({
    name: names[field],
    here: text(field, known[field]),
    atStripe: text(field, wanted[field]),
  }));
}

const TIMES = new Set(['currentPeriodEnd', 'cancelAt', 'trialEnd', 'pastDueSince']);

function text(field: string, value: unknown): string {
  if (value === null) return 'none';
  return TIMES.has(field) ? new Date(value as number).toISOString().slice(0, 16) : String(value);
}

/** What was given back or disputed is known here. */
async function checkPayments(run: Run): Promise<void> {
  const { context, options } = run;
  const { keystore, stripe, mode } = context;
  const touched = await patiently(() => touchedCharges(stripe, Math.floor(options.since / 1000)));
  // What was disputed before that may have come to an end since; banks take months.
  const undecided = await keystore.undecidedPayments();
  for (const charge of new Set([...touched, ...undecided])) {
    checked(run, 'payments');
    const known = await keystore.findPayment(charge);
    const look = await patiently(() => lookAtPayment(stripe, charge));
    if (!look || look.mode !== mode || (look.untouched && !known)) continue;
    const { refundedAt, paidUntil, dispute, disputedSince } = look;
    if (known && isDeepStrictEqual({ ...known }, { refundedAt, paidUntil, dispute, disputedSince })) continue;
    if (!options.dryRun) await patiently(() => settlePayment(context, charge, 'reconcile'));
    // A partial refund that nobody had heard of changes nothing for anyone.
    if (!known && fate(look) === 'kept') continue;
    note(run, {
      what: 'payment',
      id: charge,
      here: known ? fate(known) : 'kept',
      atStripe: fate(look),
      action: options.dryRun ? 'take over' : 'taken over',
      open: false,
    });
  }
}

function fate({ refundedAt, dispute }: Pick<PaymentLook, 'refundedAt' | 'dispute'>): string {
  if (dispute === 'inquiry') return 'inquiry';
  if (dispute) return `dispute ${dispute}`;
  return refundedAt === null ? 'kept' : `refunded ${new Date(refundedAt).toISOString().slice(0, 10)}`;
}

/** What was paid, and what was given back of it, is known here. */
async function checkIncome(run: Run): Promise<void> {
  const { context, options } = run;
  const since = Math.floor(options.since / 1000);
  const touched = await patiently(() => touchedCharges(context.stripe, since));
  for await (const drift of incomeDrift(context, options, touched, patiently)) note(run, drift);
}

/** Events that never arrived go into the inbox, where they are worked on like any other. */
async function fetchEvents(run: Run): Promise<void> {
  const { context, options } = run;
  const { keystore, stripe, mode } = context;
  const missed = new Map<string, number>();
  const since = Math.max(options.since, Date.now() - EVENTS_KEPT_MS);
  for await (const page of listEvents(stripe, since)) {
    checked(run, 'events', page.length);
    const ours = page.filter((event) => event.mode === mode);
    const unknown = new Set(await keystore.unknownEvents(ours.map((event) => event.id)));
    for (const event of ours.filter(({ id }) => unknown.has(id))) {
      missed.set(event.type, (missed.get(event.type) ?? 0) + 1);
      if (!options.dryRun) await keystore.receiveEvent(event);
    }
  }
  for (const [type, count] of [...missed].sort()) {
    note(run, {
      what: 'events',
      id: type,
      here: 'never arrived',
      atStripe: `${count} sent`,
      action: options.dryRun ? 'fetch' : 'fetched into the inbox',
      open: false,
    });
  }
}

/** Tries again while Stripe does not answer: a long run outlives a short outage. */
async function patiently<T>(look: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await look();
    } catch (error) {
      const away = error instanceof ProblemError && error.code === 'stripe_unavailable';
      if (!away || attempt === TRIES) throw error;
    }
    await pause(FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.5 + Math.random() / 2));
  }
}
