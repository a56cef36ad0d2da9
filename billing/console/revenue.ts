import express, { type Request, type Router } from 'express';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import type { Billing } from '../context.ts';
import { csvLine } from './csv.ts';
import { INCOME_RANGES, type IncomeRange, incomeOver } from './income.ts';
import { queryText, sendConsolePage } from './page.ts';

const COLUMNS = ['period', 'plan', 'currency', 'gross', 'given_back', 'net', 'payments'];

/** `GET /console/revenue?range=`: what each plan brought in; `GET /console/revenue.csv?range=`: by day or month. */
export function revenuePages(billing: Billing): Router {
  const router = express.Router();

  router.get('/revenue', async (request, response) => {
    const { lines: _lines, ...income } = await incomeOver(billing, rangeOf(request), Date.now());
    sendConsolePage(response, 'revenue', { ranges: INCOME_RANGES, ...income });
  });
  router.all('/revenue', onlyBy('GET'));

  router.get('/revenue.csv', async (request, response) => {
    const { lines } = await incomeOver(billing, rangeOf(request), Date.now());
    response.type('text/csv').attachment('revenue.csv');
    response.send([COLUMNS, ...lines].map(csvLine).join(''));
  });
  router.all('/revenue.csv', onlyBy('GET'));
  return router;
}

function rangeOf(request: Request): IncomeRange {
  const given = queryText(request, 'range') ?? 'month';
  const range = INCOME_RANGES.find(({ id }) => id === given);
  if (!range) {
    const ids = INCOME_RANGES.map(({ id }) => id).join(', ');
    throw new ProblemError('invalid_request', `range is one of ${ids}.`);
  }
  return range.id;
}
