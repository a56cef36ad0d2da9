import { setTimeout as pause } from 'node:timers/promises';
import express, { type Router } from 'express';
import { COUNTED, type EventTypeRecord, MAIL_TYPE } from '../../keystore/keystore.ts';
import { onlyBy } from '../../shared/methods.ts';
import type { Billing } from '../context.ts';
import { outcomeOf, type Result, type Verdict } from '../preflight/preflight.ts';
import type { ReadinessRun } from '../preflight/readiness.ts';
import { EVENT_KINDS, type EventKind, isHandled } from '../stripe-events.ts';
import { TEST_EVENT_TYPE } from '../stripe-webhook.ts';
import { consoleUrl, operatorOf, sendConsolePage, shortTime } from './page.ts';

/** How long the form waits for its checks, milliseconds; then the page says that they are under way. */
const WAIT_MS = 10_000;
const LOOK_AGAIN_S = 3;

/** Where each check stands on the page. */
export const GROUPS: readonly { title: string; checks: readonly string[] }[] = [
  { title: 'This installation', checks: ['configuration', 'secrets', 'keystore', 'backup', 'plans'] },
  {
    title: 'Stripe',
    checks: ['clock', 'prices', 'webhook-endpoint', 'portal', 'payment-links', 'canceled-customers'],
  },
  { title: 'As the world sees it', checks: ['public-urls', 'signature', 'upstream'] },
  { title: 'What people have to see to', checks: ['policies', 'attestations'] },
];

/**
 * `GET /console/readiness`: what the last preflight found, and how events arrive; it asks nobody over a network.
 * `POST /console/readiness` makes a preflight.
 */
export function readinessPages(billing: Billing): Router {
  const router = express.Router();
  const { config, keystore, readiness, stopConditions, log } = billing;

  router.get('/readiness', async (_request, response) => {
    const { last, underWay } = readiness;
    if (underWay) response.set('Refresh', String(LOOK_AGAIN_S));
    sendConsolePage(response, 'readiness', {
      mode: config.stripe?.mode,
      production: config.production,
      underWay: underWay && { by: underWay.by, at: shortTime(underWay.at) },
      run: last && shown(last, billing),
      ...eventRows(await keystore.eventTypes()),
    });
  });
  router.post('/readiness', async (_request, response) => {
    const checks = Promise.all([readiness.check(operatorOf(response).name), stopConditions?.look()]);
    checks.catch((error) => log.error({ err: error }, 'Preflight did not get to its end'));
    await Promise.race([checks, pause(WAIT_MS, undefined, { ref: false })]);
    response.redirect(303, '/console/readiness');
  });
  router.all('/readiness', onlyBy('GET', 'POST'));
  return router;
}

const MARKS: Readonly<Record<Verdict, { sign: string; word: string; tone: string }>> = {
  ok: { sign: '✓', word: 'ok', tone: 'good' },
  warning: { sign: '!', word: 'warning', tone: 'warning' },
  stop: { sign: '✗', word: 'stop', tone: 'bad' },
  skipped: { sign: '–', word: 'skipped', tone: 'none' },
};

function shown({ results, by, at }: ReadinessRun, billing: Billing) {
  const count = (verdict: Verdict) => results.filter((result) => result.verdict === verdict).length;
  return {
    by,
    at: shortTime(at),
    go: outcomeOf(results) === 'go',
    stops: count('stop'),
    warnings: count('warning'),
    next: nextStep(results, billing),
    groups: GROUPS.map(({ title, checks }) => ({
      title,
      checks: checks.flatMap((id) => results.filter((result) => result.id === id).map(checkRow)),
    })),
  };
}

function checkRow({ id, title, verdict, detail, remedy }: Result) {
  return { id, title, detail, remedy: verdict === 'ok' ? undefined : remedy, ...MARKS[verdict] };
}

/** The one thing to do now: of what stands in the way the first, then of what could be better; then what comes after preflight. */
function nextStep(results: readonly Result[], { config, plans, mode }: Billing) {
  for (const verdict of ['stop', 'warning'] as const) {
    const first = results.find((result) => result.verdict === verdict);
    if (first)
      return { lead: `Next, for “${first.title}”:`, text: first.remedy ?? first.detail, command: null };
  }
  if (mode === 'test') {
    return {
      lead: 'Next: rehearse a purchase.',
      text: 'It buys, uses, cancels and gives back, the way a buyer would.',
      command: 'npm run rehearsal -- --mode test --execute',
    };
  }
  const onSale = plans.plans.find(({ hidden }) => !hidden);
  return {
    lead: 'Next: let people buy.',
    text: `Show them ${config.publicBillingUrl}/billing/plans, or share a payment link:`,
    command: `npm run payment-link -- --plan ${onSale?.id ?? '<id>'}`,
  };
}

const HOW: Readonly<Record<EventKind, string>> = {
  session: 'looks at the checkout: paid, it makes a key',
  subscription: 'looks at the subscription: its keys follow it',
  invoice: 'looks at its subscription: renewal, or grace',
  charge: 'looks at the payment: given back in full, access ends',
  refund: 'looks at its payment',
  dispute: 'looks at its payment: keys are suspended, and end if it is lost',
  customer: 'looks at the customer: e-mail address, or deleted',
  entitlements: 'looks at what the customer is entitled to',
  event: 'looks at the event that it names',
};

/** Every type that something is done about, seen or not, and every other that arrives. */
function eventRows(seen: readonly EventTypeRecord[]) {
  const handled = Object.entries(EVENT_KINDS).map(([type, kind]) => ({
    ...typeRow(type, seen),
    how: HOW[kind],
  }));
  const others = seen
    .filter(({ type }) => !Object.hasOwn(EVENT_KINDS, type))
    .map(({ type }) => ({ ...typeRow(type, seen), how: howElse(type) }));
  return {
    handled: [...handled, ...others.filter(({ how }) => how !== null)],
    unhandled: others.filter(({ how }) => how === null),
  };
}

/** What is done about a type that Stripe's events in full do not have; `null`: nothing. */
function howElse(type: string): string | null {
  if (type.startsWith(MAIL_TYPE)) return 'sends the mail';
  if (type === TEST_EVENT_TYPE) return "keeps it: a preflight's own, to see that it arrives";
  return isHandled(type) ? 'the same, told by a thin event' : null;
}

function typeRow(type: string, seen: readonly EventTypeRecord[]) {
  const known = seen.find((each) => each.type === type);
  return {
    type,
    events: consoleUrl('/console/events', { type }),
    last: known ? shortTime(known.lastReceivedAt) : null,
    recent: countText(known?.recent ?? 0),
    failed: known?.failed ? countText(known.failed) : null,
    failures: consoleUrl('/console/events', { status: 'failed', type }),
  };
}

function countText(count: number): string {
  return `${count.toLocaleString('en')}${count >= COUNTED ? ' or more' : ''}`;
}
