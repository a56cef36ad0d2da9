import type Stripe from 'stripe';
import type { ReceivedEvent } from '../keystore/keystore.ts';
import { pages } from './stripe-client.ts';
import { EVENT_KINDS } from './stripe-events.ts';
import { readEvent } from './stripe-webhook.ts';

/** Stripe takes so many types in one question. */
const TYPES_AT_ONCE = 20;

/** The ids of checkouts that were completed, of those opened since a moment (milliseconds), a page at a time. */
export async function* listSessions(stripe: Stripe, since: number): AsyncGenerator<string[]> {
  const filter = { status: 'complete', created: { gte: Math.floor(since / 1000) }, limit: 100 } as const;
  for await (const page of pages((after) => stripe.checkout.sessions.list({ ...filter, ...after })))
    yield page.map((session) => session.id);
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
