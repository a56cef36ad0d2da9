import express, { type Router } from 'express';
import type { PurchaseRecord } from '../../keystore/keystore.ts';
import { moneyText } from '../../shared/currency.ts';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import type { Billing } from '../context.ts';
import { consoleUrl, pageCursor, queryText, sendConsolePage, shortTime } from './page.ts';

const PAGE = 50;
const STATUSES = ['pending', 'paid', 'provisioned', 'failed', 'canceled'] as const;
const TONES = {
  pending: 'warning',
  paid: 'warning',
  provisioned: 'good',
  failed: 'bad',
  canceled: 'bad',
} as const;

/** `GET /console/purchases?q=&status=&before=`: what was bought, newest first; `GET /console/purchases/:id`: one. */
export function purchasePages({ keystore }: Billing): Router {
  const router = express.Router();

  router.get('/purchases', async (request, response) => {
    const given = queryText(request, 'status');
    const status = STATUSES.find((each) => each === given);
    if (given !== undefined && status === undefined)
      throw new ProblemError('invalid_request', `status is one of ${STATUSES.join(', ')}.`);
    const q = queryText(request, 'q');
    const before = pageCursor(request);
    const found = await keystore.browsePurchases({
      limit: PAGE + 1,
      ...(q && { matching: q }),
      ...(status && { status }),
      ...(before && { before: { createdAt: before.at, id: before.id } }),
    });
    const page = found.slice(0, PAGE);
    const last = page.at(-1);
    const asked = { q, status };
    sendConsolePage(response, 'purchases', {
      asked,
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
  });
  router.all('/purchases', onlyBy('GET'));

  router.get('/purchases/:id', async (request, response) => {
    const purchase = await keystore.findPurchaseRecord(request.params.id);
    if (!purchase) throw new ProblemError('not_found', 'There is no purchase with this id.');
    sendConsolePage(response, 'purchase', { purchase, ...purchaseRow(purchase) });
  });
  router.all('/purchases/:id', onlyBy('GET'));
  return router;
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
