import express, { type Response, type Router } from 'express';
import type { PurchaseRecord } from '../../keystore/keystore.ts';
import { moneyText } from '../../shared/currency.ts';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import { answerStatus } from '../answer-status.ts';
import type { Billing } from '../context.ts';
import { consoleUrl, type PageCursor, pageCursor, queryText, sendConsolePage, shortTime } from './page.ts';
import { answerSearch, searchedFor } from './search.ts';

const PAGE = 50;
const STATUSES = ['pending', 'paid', 'provisioned', 'failed', 'canceled'] as const;
const TONES = {
  pending: 'warning',
  paid: 'warning',
  provisioned: 'good',
  failed: 'bad',
  canceled: 'bad',
} as const;

/**
 * `GET /console/purchases?q=&status=&before=`: what was bought, newest first; `POST /console/purchases {q, status}` leads
 * there, and from a whole key to its page; `GET /console/purchases/:id`: one.
 */
export function purchasePages({ keystore }: Billing): Router {
  const router = express.Router();

  router.get('/purchases', async (request, response) => {
    const given = queryText(request, 'status');
    const status = STATUSES.find((each) => each === given);
    if (given !== undefined && status === undefined)
      throw new ProblemError('invalid_request', `status is one of ${STATUSES.join(', ')}.`);
    await showPurchases(response, { q: searchedFor(request), status }, pageCursor(request));
  });
  router.post('/purchases', async (request, response) => {
    const list = { path: '/console/purchases', fields: ['q', 'status'] };
    const problem = await answerSearch(keystore, request, response, list);
    if (problem) await showPurchases(response, { q: undefined, status: undefined }, undefined, problem);
  });
  router.all('/purchases', onlyBy('GET', 'POST'));

  router.get('/purchases/:id', async (request, response) => {
    const purchase = await keystore.findPurchaseRecord(request.params.id);
    if (!purchase) throw new ProblemError('not_found', 'There is no purchase with this id.');
    sendConsolePage(response, 'purchase', { purchase, ...purchaseRow(purchase) });
  });
  router.all('/purchases/:id', onlyBy('GET'));
  return router;

  async function showPurchases(
    response: Response,
    asked: { q: string | undefined; status: PurchaseRecord['status'] | undefined },
    before: PageCursor | undefined,
    problem?: ProblemError,
  ): Promise<void> {
    const { q, status } = asked;
    const found = await keystore.browsePurchases({
      limit: PAGE + 1,
      ...(q && { matching: q }),
      ...(status && { status }),
      ...(before && { before: { createdAt: before.at, id: before.id } }),
    });
    const page = found.slice(0, PAGE);
    const last = page.at(-1);
    if (problem) answerStatus(response, problem);
    sendConsolePage(response, 'purchases', {
      asked,
      problem: problem?.toProblem(response.locals.requestId),
      statuses: STATUSES,
      purchases: page.map(purchaseRow),
      filtered: q !== undefined || status !== undefined,
      later: before !== undefined,
      first: consoleUrl('/console/purchases', asked),
      next:
        found.length > PAGE && last
          ? consoleUrl('/console/purchases', { ...asked, before: `${last.createdAt}.${last.id}` })
          : null,
    });
  }
}

/** What a table says of a purchase. */
export function purchaseRow(purchase: PurchaseRecord) {
  const { id, status, planId, email, keyId, amountTotal, currency, createdAt, provisionedAt } = purchase;
  return {
    id,
    status,
    tone: TONES[status],
    plan: planId ?? '',
    email: email ?? '',
    keyId,
    amount: amountTotal === null || currency === null ? '' : moneyText(amountTotal, currency),
    created: shortTime(createdAt),
    provisioned: provisionedAt === null ? null : shortTime(provisionedAt),
  };
}
