import express, { type Router } from 'express';
import { urlHost } from '../../shared/config.ts';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import { outcomeOf, sentenceOf, type Why, type WhyRefusal, why } from '../../shared/why.ts';
import { answerStatus } from '../answer-status.ts';
import type { Billing } from '../context.ts';
import { overrideText } from '../pages.ts';
import { consoleUrl, queryText, sendConsolePage, shortTime } from './page.ts';
import { looksLikeKey, noSuchKey } from './search.ts';

/**
 * `GET /console/why?id=`: what would become of a request now and why, by key id or by the id of a request that was refused.
 * `POST /console/why {asked}` takes a whole key too, which must be in no address.
 */
export function whyPages(billing: Billing): Router {
  const router = express.Router();
  const { config, keystore, plans } = billing;

  router.get('/why', async (request, response) => {
    const id = queryText(request, 'id');
    if (id === undefined) {
      sendConsolePage(response, 'why', { asked: '', why: null });
      return;
    }
    const gatewayUrl = `http://${urlHost(config.internalHost)}:${config.internalPort}`;
    const answered = await why(keystore, { id, gatewayUrl, plans, now: Date.now() });
    const problem = answered ? undefined : nothingKnown();
    if (problem) answerStatus(response, problem);
    sendConsolePage(response, 'why', {
      asked: id,
      problem: problem?.toProblem(response.locals.requestId),
      gatewayUrl,
      why: answered && shown(answered),
    });
  });
  router.post('/why', async (request, response) => {
    const asked = String(request.body?.asked ?? '')
      .trim()
      .slice(0, 200);
    const id = looksLikeKey(asked) ? await idOf(asked) : asked;
    if (id !== undefined) {
      response.redirect(303, consoleUrl('/console/why', { id: id || undefined }));
      return;
    }
    const problem = noSuchKey(asked);
    answerStatus(response, problem);
    sendConsolePage(response, 'why', {
      asked: '',
      problem: problem.toProblem(response.locals.requestId),
      why: null,
    });
  });
  router.all('/why', onlyBy('GET', 'POST'));
  return router;

  /** A proxy in front may give requests ids that are as long as a key. */
  async function idOf(asked: string): Promise<string | undefined> {
    return (await keystore.authenticateKey(asked))?.id ?? (await keystore.findRefusal(asked))?.requestId;
  }
}

function nothingKnown(): ProblemError {
  return new ProblemError('not_found', 'Nothing is known by this id.', {
    remedy:
      'It is neither a key here nor the request id of a refusal that is still kept: of each key the last 20 of 7 days, and of a flood only its beginning.',
  });
}

function shown({ request, key, verdict, from, refusals }: Why) {
  return {
    key: key && {
      id: key.id,
      lastFour: key.lastFour,
      planId: key.planId,
      email: key.email,
      suspended: key.suspendedAt && [`${shortTime(key.suspendedAt)} UTC`, key.suspendedNote ?? ''],
      override: key.override && overrideText(key.override),
    },
    request: request && row(request),
    verdict,
    alone: from === 'keystore' && verdict !== null,
    refusals: refusals.map(row),
  };
}

function row(refusal: WhyRefusal) {
  const { at, requestId, method, host, path, address } = refusal;
  return {
    at: shortTime(at),
    requestId,
    asked: `${method} ${host}${path}`,
    address,
    outcome: outcomeOf(refusal),
    why: sentenceOf(refusal),
  };
}
