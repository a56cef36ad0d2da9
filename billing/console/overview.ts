import express, { type Router } from 'express';
import { PURCHASES_COUNTED } from '../../keystore/keystore.ts';
import { onlyBy } from '../../shared/methods.ts';
import { PROBLEM_STATUSES, type ProblemCode, ProblemError, problem } from '../../shared/problems.ts';
import type { Billing } from '../context.ts';
import { ActiveKeys } from './active-keys.ts';
import { barChart, countText } from './bar-chart.ts';
import { percentile, secondsText } from './latency.ts';
import { consoleUrl, queryText, sendConsolePage, shortTime } from './page.ts';
import {
  type Happened,
  happened,
  type Period,
  periodsOf,
  RANGES,
  type Range,
  startsOf,
} from './traffic-periods.ts';

const RANGE_NAMES = Object.keys(RANGES) as Range[];
const PERCENTILES = [
  { name: 'p50', part: 0.5, tone: 'half' },
  { name: 'p95', part: 0.95, tone: 'most' },
  { name: 'p99', part: 0.99, tone: 'slowest' },
] as const;

/** `GET /console?range=24h|48h|30d|90d|12m`: what happened to requests, and how keys, purchases and events stand. */
export function overviewPages(billing: Billing): Router {
  const router = express.Router();
  const { config, keystore, plans } = billing;
  const activeKeys = new ActiveKeys(keystore, plans);

  router.get('/', async (request, response) => {
    const range = rangeAsked(queryText(request, 'range'));
    const now = Date.now();
    const starts = startsOf(range, now);
    const since = starts[0] as number;
    const [traffic, keys, purchases, events, lastRefusals] = await Promise.all([
      keystore.traffic({ by: RANGES[range].by, since }),
      activeKeys.read(),
      keystore.countPurchases({ since }),
      keystore.inboxDepth(),
      keystore.lastRefusals(),
    ]);
    const all = happened(traffic);
    const periods = periodsOf(range, starts, traffic);
    const onSale = plans.plans.find(({ hidden, price }) => !hidden && price);
    sendConsolePage(response, 'overview', {
      ranges: RANGE_NAMES.map((name) => ({
        url: consoleUrl('/console', { range: name }),
        text: RANGES[name].text,
        isShown: name === range,
      })),
      span: RANGES[range].text,
      since: shortTime(since),
      figures: {
        ...requestFigures(all),
        ...latencyFigures(all),
        activeKeys: { count: countText(keys.count), at: shortTime(keys.at) },
        purchases: `${countText(purchases)}${purchases >= PURCHASES_COUNTED ? ' or more' : ''}`,
        failingEvents: countText(events.failed),
        waitingEvents: events.pending > 0 ? countText(events.pending) : null,
      },
      isQuiet: total(all) === 0,
      isNew: total(all) === 0 && keys.count === 0 && purchases === 0,
      plansUrl: `${config.publicBillingUrl}/billing/plans`,
      gatewayUrl: config.publicGatewayUrl,
      onSale: onSale?.id ?? '<id>',
      charts: { requests: requestChart(periods, range), latency: latencyChart(periods, range) },
      reasons: reasonsOf(all, lastRefusals),
    });
  });
  router.all('/', onlyBy('GET'));
  return router;
}

/** @throws ProblemError `invalid_request` */
function rangeAsked(given: string | undefined): Range {
  if (given === undefined) return '24h';
  const range = RANGE_NAMES.find((name) => name === given);
  if (!range) throw new ProblemError('invalid_request', `range is one of ${RANGE_NAMES.join(', ')}.`);
  return range;
}

/** Requests that were to reach the API. What the gateway answers itself is none of them. */
function total({ passed, refused, failed }: Happened): number {
  return passed + refused + failed;
}

function requestFigures(all: Happened) {
  const requests = total(all);
  return {
    requests: countText(requests),
    refused: percentText(all.refused, requests),
    refusedCount: countText(all.refused),
    failed: countText(all.failed),
    failedPart: percentText(all.failed, requests),
    answered: all.answered > 0 ? countText(all.answered) : null,
    tones: { refused: all.refused > 0 ? 'warning' : '', failed: all.failed > 0 ? 'bad' : '' },
  };
}

function latencyFigures({ answers }: Happened) {
  return {
    latency: PERCENTILES.map(({ name, part }) => {
      const seconds = percentile(answers, part);
      return { name, text: seconds === null ? '–' : secondsText(seconds) };
    }),
  };
}

function requestChart(periods: readonly Period[], range: Range) {
  const series = (name: string, of: 'passed' | 'refused' | 'failed') => ({
    name,
    tone: of,
    values: periods.map((period) => period[of]),
  });
  return barChart({
    title: `Requests by ${RANGES[range].by} over ${RANGES[range].text}`,
    periods,
    series: [series('passed on', 'passed'), series('refused', 'refused'), series('failed', 'failed')],
  });
}

function latencyChart(periods: readonly Period[], range: Range) {
  return barChart({
    title: `Time to the first byte by ${RANGES[range].by} over ${RANGES[range].text}`,
    periods,
    series: PERCENTILES.map(({ name, part, tone }) => ({
      name,
      tone,
      values: periods.map(({ answers }) => percentile(answers, part)),
    })),
    as: 'levels',
    text: secondsText,
    tickText: secondsText,
    leastStep: 0.001,
  });
}

/** What stands for answers of the API's own, which have no code of a problem. */
const BY_THE_API = 'by_the_api';

/** Why requests were refused or failed, the most frequent reason first, each with where to ask on. */
function reasonsOf({ codes, failed }: Happened, last: readonly { code: string; requestId: string }[]) {
  const withCode = [...codes].filter(([code]) => knownOf(code).tone === 'failed');
  const byTheApi = failed - withCode.reduce((sum, [, count]) => sum + count, 0);
  const counts: [code: string, count: number][] = [...codes];
  if (byTheApi > 0) counts.push([BY_THE_API, byTheApi]);
  const most = Math.max(1, ...counts.map(([, count]) => count));
  const sum = counts.reduce((all, [, count]) => all + count, 0);
  return counts
    .toSorted(([, a], [, b]) => b - a)
    .map(([code, count]) => {
      const requestId = last.find((refusal) => refusal.code === code)?.requestId;
      return {
        code,
        isCode: code !== BY_THE_API,
        ...knownOf(code),
        count: countText(count),
        part: percentText(count, sum),
        width: Math.max(1, Math.round((100 * count) / most)),
        last: requestId === undefined ? null : consoleUrl('/console/why', { id: requestId }),
      };
    });
}

/** What is known of a code; a gateway of another version may have written one that is not known here. */
function knownOf(code: string): { title: string; tone: 'refused' | 'failed' } {
  if (code === BY_THE_API) return { title: 'The API answered 5xx, or its answer broke off', tone: 'failed' };
  if (!Object.hasOwn(PROBLEM_STATUSES, code)) return { title: 'Another reason', tone: 'refused' };
  const { title, status } = problem(code as ProblemCode);
  return { title, tone: status >= 500 && code !== 'stopping' ? 'failed' : 'refused' };
}

/** `0.4 %`; never 0 where there is any, nor 100 where there is anything else. */
function percentText(count: number, of: number): string {
  if (of === 0 || count === 0) return '0 %';
  const percent = (100 * count) / of;
  if (percent < 0.1) return '< 0.1 %';
  if (percent > 99.9 && count < of) return '> 99.9 %';
  return `${percent < 10 ? Number(percent.toFixed(1)) : Math.round(percent)} %`;
}
