import express, { type Router } from 'express';
import type { EventRecord } from '../../keystore/keystore.ts';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import type { Billing } from '../context.ts';
import { byOperator, consoleUrl, pageCursor, queryText, sendConsolePage, shortTime } from './page.ts';

const PAGE = 50;
const STATUSES = ['pending', 'processed', 'failed'] as const;

/**
 * `GET /console/events?status=&type=&before=`: what Stripe said, the newest first; `GET /console/events/:id`: one, with its
 * body; `POST /console/events/:id/replay` puts it back to work.
 */
export function eventRoutes({ keystore, worker, log }: Billing): Router {
  const router = express.Router();

  router.get('/events', async (request, response) => {
    const given = queryText(request, 'status');
    const status = STATUSES.find((each) => each === given);
    if (given !== undefined && status === undefined)
      throw new ProblemError('invalid_request', `status is one of ${STATUSES.join(', ')}.`);
    const type = queryText(request, 'type');
    const before = pageCursor(request);
    const events = await keystore.listEvents({
      limit: PAGE + 1,
      ...(status && { status }),
      ...(type && { type }),
      ...(before && { before: { receivedAt: before.at, id: before.id } }),
    });
    const page = events.slice(0, PAGE);
    const last = page.at(-1);
    const asked = { status, type };
    sendConsolePage(response, 'events', {
      asked,
      statuses: STATUSES,
      events: page.map(row),
      filtered: status !== undefined || type !== undefined,
      later: before !== undefined,
      first: consoleUrl('/console/events', asked),
      next:
        events.length > PAGE && last
          ? consoleUrl('/console/events', { ...asked, before: `${last.receivedAt}.${last.id}` })
          : null,
    });
  });
  router.all('/events', onlyBy('GET'));

  router.get('/events/:id', async (request, response) => {
    const event = await keystore.findEvent(request.params.id);
    if (!event) throw new ProblemError('not_found', 'There is no event with this id in the inbox.');
    sendConsolePage(response, 'event', {
      event: row(event),
      nextAttempt: event.status === 'pending' ? shortTime(event.nextAttemptAt) : null,
      payload: indented(event.payload),
    });
  });
  router.all('/events/:id', onlyBy('GET'));

  router.post('/events/:id/replay', async (request, response) => {
    const { id } = request.params;
    const outcome = await keystore.replayEvent({ id, ...byOperator(request, response) });
    if (outcome === 'not_found')
      throw new ProblemError('not_found', 'There is no event with this id in the inbox.');
    log.info({ event: id, outcome }, 'Event replayed in the console');
    worker.wake();
    response.redirect(303, `/console/events/${encodeURIComponent(id)}`);
  });
  router.all('/events/:id/replay', onlyBy('POST'));
  return router;
}

const TONES = { pending: 'warning', processed: 'good', failed: 'bad' } as const;

function row({ id, type, status, outcome, attempts, error, receivedAt, createdAt }: EventRecord) {
  return {
    id,
    type,
    status,
    tone: TONES[status],
    outcome: outcome ?? '',
    attempts,
    error: error ?? '',
    received: shortTime(receivedAt),
    made: shortTime(createdAt),
  };
}

function indented(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
