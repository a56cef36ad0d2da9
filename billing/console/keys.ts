import express, { type Request, type Response, type Router } from 'express';
import type { KeyCursor, KeyRecord } from '../../keystore/keystore.ts';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import { answerStatus } from '../answer-status.ts';
import type { Billing } from '../context.ts';
import { csvLine } from './csv.ts';
import { showKeyPage } from './key-page.ts';
import { type AskedState, accessNow, KEY_STATES, keysThatMayBe, STATE_TONES } from './key-states.ts';
import { consoleUrl, pageCursor, queryText, sendConsolePage, shortTime } from './page.ts';
import { answerSearch, searchedFor } from './search.ts';

const PAGE = 50;
/** Keys read at once for a file of all of them. */
const BATCH = 500;
const COLUMNS = [
  'key_id',
  'last_four',
  'state',
  'plan',
  'name',
  'email',
  'stripe_customer',
  'subscription',
  'used_this_month',
  'created_at',
  'expires_at',
  'revoked_at',
];

/**
 * `GET /console/keys?q=&plan=&state=&before=`: keys, newest first, of which `q` may be anything that names one;
 * `POST /console/keys {q, plan, state}` leads there, and from a whole key, which must be in no address, to its page;
 * `GET /console/keys.csv`: all of them; `GET /console/keys/:id`: one.
 */
export function keyRoutes(billing: Billing): Router {
  const router = express.Router();
  const { keystore, plans } = billing;

  router.get('/keys', async (request, response) => {
    await showKeys(response, filterOf(request), cursorOf(request));
  });
  router.post('/keys', async (request, response) => {
    const list = { path: '/console/keys', fields: ['q', 'plan', 'state'] };
    const problem = await answerSearch(keystore, request, response, list);
    if (problem) await showKeys(response, UNASKED, undefined, problem);
  });
  router.all('/keys', onlyBy('GET', 'POST'));

  router.get('/keys.csv', async (request, response) => {
    const asked = filterOf(request);
    response.type('text/csv').attachment('keys.csv');
    response.write(csvLine(COLUMNS));
    let before: KeyCursor | undefined;
    do {
      const { keys, next } = await browse(asked, BATCH, before);
      const lines = keys.map((key) => csvLine(cells(billing, key))).join('');
      if (response.destroyed) return;
      if (lines !== '' && !response.write(lines)) await drained(response);
      before = next ?? undefined;
    } while (before !== undefined && !response.destroyed);
    response.end();
  });
  router.all('/keys.csv', onlyBy('GET'));

  router.get('/keys/:id', async (request, response) => {
    await showKeyPage(billing, response, request.params.id);
  });
  return router;

  async function showKeys(
    response: Response,
    asked: Asked,
    before: KeyCursor | undefined,
    problem?: ProblemError,
  ): Promise<void> {
    const { keys, next } = await browse(asked, PAGE, before);
    if (problem) answerStatus(response, problem);
    sendConsolePage(response, 'keys', {
      asked,
      problem: problem?.toProblem(response.locals.requestId),
      plans: plans.plans.map(({ id }) => id),
      states: KEY_STATES,
      keys: keys.map((key) => keyRow(billing, key)),
      filtered: Object.values(asked).some((value) => value !== undefined),
      later: before !== undefined,
      first: consoleUrl('/console/keys', asked),
      next: next && consoleUrl('/console/keys', { ...asked, before: `${next.createdAt}.${next.id}` }),
      csv: consoleUrl('/console/keys.csv', asked),
    });
  }

  function browse(asked: Asked, limit: number, before: KeyCursor | undefined) {
    return keystore.browseKeys({
      limit,
      ...(asked.q && { matching: asked.q }),
      ...(asked.plan && { planId: asked.plan }),
      ...(asked.state && keysThatMayBe(asked.state, plans)),
      ...(before && { before }),
    });
  }
}

type Asked = { q: string | undefined; plan: string | undefined; state: AskedState | undefined };
const UNASKED: Asked = { q: undefined, plan: undefined, state: undefined };

function filterOf(request: Request): Asked {
  const state = queryText(request, 'state');
  const known = KEY_STATES.find((each) => each === state);
  if (state !== undefined && known === undefined)
    throw new ProblemError('invalid_request', `state is one of ${KEY_STATES.join(', ')}.`);
  return { q: searchedFor(request), plan: queryText(request, 'plan'), state: known };
}

function cursorOf(request: Request): KeyCursor | undefined {
  const cursor = pageCursor(request);
  return cursor && { createdAt: cursor.at, id: cursor.id };
}

/** What a table says of a key. */
export function keyRow({ plans }: Billing, key: KeyRecord) {
  const { state } = accessNow(key, plans);
  return {
    id: key.id,
    lastFour: key.lastFour,
    state,
    tone: STATE_TONES[state],
    plan: key.planId,
    whose: key.email ?? key.stripeCustomerId ?? '',
    name: key.name ?? '',
    used: key.usedThisMonth.toLocaleString('en'),
    created: shortTime(key.createdAt),
  };
}

function cells({ plans }: Billing, key: KeyRecord): (string | number | null)[] {
  const time = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());
  return [
    key.id,
    key.lastFour,
    accessNow(key, plans).state,
    key.planId,
    key.name,
    key.email,
    key.stripeCustomerId,
    key.subscriptionId,
    key.usedThisMonth,
    time(key.createdAt),
    time(key.expiresAt),
    time(key.revokedAt),
  ];
}

/** Until a client has taken what was written, or is gone. */
function drained(response: Response): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.once('drain', done);
    response.once('close', done);
  });
}
