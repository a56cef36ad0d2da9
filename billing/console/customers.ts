import express, { type Response, type Router } from 'express';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import { answerStatus } from '../answer-status.ts';
import type { Billing } from '../context.ts';
import { keyRow } from './keys.ts';
import { consoleUrl, type PageCursor, pageCursor, sendConsolePage, shortTime } from './page.ts';
import { purchaseRow } from './purchases.ts';
import { answerSearch, searchedFor } from './search.ts';

const PAGE = 50;

/**
 * `GET /console/customers?q=&before=`: who bought, newest first; `POST /console/customers {q}` leads there, and from a whole
 * key to its page; `GET /console/customers/:id`: one, with all that is theirs.
 */
export function customerPages(billing: Billing): Router {
  const router = express.Router();
  const { keystore } = billing;

  router.get('/customers', async (request, response) => {
    await showCustomers(response, searchedFor(request), pageCursor(request));
  });
  router.post('/customers', async (request, response) => {
    const list = { path: '/console/customers', fields: ['q'] };
    const problem = await answerSearch(keystore, request, response, list);
    if (problem) await showCustomers(response, undefined, undefined, problem);
  });
  router.all('/customers', onlyBy('GET', 'POST'));

  router.get('/customers/:id', async (request, response) => {
    const { id } = request.params;
    const customer = await keystore.findCustomerRecord(id);
    if (!customer) throw new ProblemError('not_found', 'There is no customer with this id.');
    const [subscriptions, keys, purchases] = await Promise.all([
      keystore.subscriptionsOf(id),
      keystore.browseKeys({ matching: id, limit: PAGE }),
      keystore.browsePurchases({ matching: id, limit: PAGE }),
    ]);
    sendConsolePage(response, 'customer', {
      customer: { ...customer, created: shortTime(customer.createdAt) },
      subscriptions: subscriptions.map(({ currentPeriodEnd, ...subscription }) => ({
        ...subscription,
        paidUntil: currentPeriodEnd === null ? '' : shortTime(currentPeriodEnd),
      })),
      keys: keys.keys.map((key) => keyRow(billing, key)),
      moreKeys: keys.next && consoleUrl('/console/keys', { q: id }),
      purchases: purchases.map(purchaseRow),
    });
  });
  router.all('/customers/:id', onlyBy('GET'));
  return router;

  async function showCustomers(
    response: Response,
    q: string | undefined,
    before: PageCursor | undefined,
    problem?: ProblemError,
  ): Promise<void> {
    const found = await keystore.browseCustomers({
      limit: PAGE + 1,
      ...(q && { matching: q }),
      ...(before && { before: { createdAt: before.at, id: before.id } }),
    });
    const page = found.slice(0, PAGE);
    const last = page.at(-1);
    if (problem) answerStatus(response, problem);
    sendConsolePage(response, 'customers', {
      q: q ?? '',
      problem: problem?.toProblem(response.locals.requestId),
      customers: page.map((customer) => ({ ...customer, created: shortTime(customer.createdAt) })),
      later: before !== undefined,
      first: consoleUrl('/console/customers', { q }),
      next:
        found.length > PAGE && last
          ? consoleUrl('/console/customers', { q, before: `${last.createdAt}.${last.id}` })
          : null,
    });
  }
}
