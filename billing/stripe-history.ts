import type Stripe from 'stripe';
import type { ReceivedEvent } from '../keystore/keystore.ts';
import { pages } from './stripe-client.ts';
import { EVENT_KINDS } from './stripe-events.ts';
import { priceOfLine } from './stripe-income.ts';
import { idOf } from './stripe-look.ts';
import { readEvent } from './stripe-webhook.ts';

/** Stripe takes so many types in one question. */
const TYPES_AT_ONCE = 20;

/** The ids of checkouts that were completed, of those opened since a moment (milliseconds), a page at a time. */
export async function* listSessions(stripe: Stripe, since: number): AsyncGenerator<string[]> {
  const filter = { status: 'complete', created: { gte: Math.floor(since / 1000) }, limit: 100 } as const;
  for await (const page of pages((after) => stripe.checkout.sessions.list({ ...filter, ...after })))
    yield page.map((session) => session.id);
}

/** Something that was paid: what to look at, and the id that its income is kept under. */
export type Paid = { kind: 'invoice' | 'session'; id: string; incomeId: string };

/**
 * The invoices and one-time checkouts that were paid, of those made since a moment (milliseconds), a page at a time.
 *
 * @param isOurs whether a price stands for a plan: an account may have many invoices for other things
 */
export async function* listPaid(
  stripe: Stripe,
  since: number,
  isOurs: (priceId: string) => boolean,
): AsyncGenerator<Paid[]> {
  const filter = { created: { gte: Math.floor(since / 1000) }, limit: 100 };
  for await (const page of pages((after) => stripe.invoices.list({ ...filter, status: 'paid', ...after })))
    yield page.flatMap(({ id, amount_paid, lines }) => {
      const mayBeOurs = lines.has_more || lines.data.some((line) => isOurs(priceOfLine(line) ?? ''));
      return id && amount_paid > 0 && mayBeOurs ? [{ kind: 'invoice', id, incomeId: id }] : [];
    });
  const sessions = pages((after) =>
    stripe.checkout.sessions.list({ ...filter, status: 'complete', ...after }),
  );
  for await (const page of sessions)
    yield page.flatMap(({ id, invoice, payment_intent }) => {
      const intent = idOf(payment_intent);
      return intent && !invoice ? [{ kind: 'session', id, incomeId: intent }] : [];
    });
}

/**
 * The subscriptions that ended before a moment (milliseconds), newest first, a page at a time and so many pages at most. Those
 * canceled long ago were looked at often enough.
 */
export async function* listEndedSubscriptions(
  stripe: Stripe,
  before: number,
  pagesAtMost: number,
): AsyncGenerator<string[]> {
  let left = pagesAtMost;
  const list = pages((after) => stripe.subscriptions.list({ status: 'canceled', limit: 100, ...after }));
  for await (const page of list) {
    yield page.filter(({ ended_at }) => ended_at !== null && ended_at * 1000 < before).map(({ id }) => id);
    if (--left === 0) return;
  }
}

/** The events that something is done about, since a moment (milliseconds), a page at a time. Stripe keeps 30 days. */
export async function* listEvents(stripe: Stripe, since: number): AsyncGenerator<ReceivedEvent[]> {
  const types = Object.keys(EVENT_KINDS);
  const created = { gte: Math.floor(since / 1000) };
  for (let start = 0; start < types.length; start += TYPES_AT_ONCE) {
    const filter = { types: types.slice(start, start + TYPES_AT_ONCE), created, limit: 100 };
    for await (const page of pages((after) => stripe.events.list({ ...filter, ...after })))
      yield page.map((event) => readEvent(event));
  }
}
