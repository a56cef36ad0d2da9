import type { Window } from '../../shared/plans.ts';
import { callWith } from './gateway-call.ts';
import { reachLimit } from './reach-limit.ts';
import { answerText } from './request.ts';
import { ok, type Rehearsal, type Step, seconds, skipped, wrong } from './step.ts';

/** A limit of more requests is not tried out: they all reach the seller's API. */
const MOST = 1000;

export const limit: Step = {
  id: 'limit',
  title: 'The limit holds',
  needed: false,
  plan(rehearsal) {
    const window = smallest(rehearsal);
    return window
      ? `Call until ${text(window)} are used up.`
      : 'Nothing: the plan has no limit that is small enough.';
  },
  async run(rehearsal, bought) {
    const window = smallest(rehearsal);
    if (!window) return skipped(`The plan has no limit of ${MOST} requests or fewer.`);
    const started = performance.now();
    // A burst may fall into two windows.
    const { admitted, refused } = await reachLimit(() => callWith(rehearsal, bought), window.requests * 2);
    const took = performance.now() - started;
    if (!refused) {
      if (took > window.seconds * 1000)
        return skipped(`${admitted} calls took ${seconds(took)}: too slow for a limit of ${text(window)}.`);
      return wrong(
        `${admitted} calls in ${seconds(took)} were let through, at ${text(window)}.`,
        'Several gateways need REDIS_URL to count together; and they need the plan file of billing.',
      );
    }
    const retryAfter = Number(refused.headers.get('retry-after'));
    if (refused.status !== 429 || !(retryAfter >= 1)) {
      return wrong(
        `After ${admitted} calls came ${answerText(refused)}, not 429 with Retry-After.`,
        'What comes from your API: see its log. Otherwise the README explains each code, under "Errors".',
      );
    }
    return ok(
      `${admitted} calls were let through, then came ${answerText(refused)}, Retry-After: ${retryAfter} s.`,
    );
  },
};

function smallest({ goods }: Pick<Rehearsal, 'goods'>): Window | undefined {
  return goods.first.plan.limits
    .filter(({ requests }) => requests <= MOST)
    .toSorted((a, b) => a.requests - b.requests)[0];
}

const text = ({ requests, name }: Window) => `${requests} requests a ${name}`;
