import type { Logger } from '../../shared/log.ts';
import type { Allowed } from './decision.ts';
import type { Windows } from './limits.ts';
import type { Quotas } from './quota.ts';
import type { UnderWay } from './under-way.ts';
import type { UsageRecorder } from './usage-recorder.ts';

/** Everything that an admitted request is counted in. */
export type Counters = {
  windows: Windows;
  /** Messages on WebSockets. */
  messages: Windows;
  quotas: Quotas;
  usage: Pick<UsageRecorder, 'count' | 'settle'>;
  underWay: UnderWay;
  log: Logger;
};

/** What a request may cost at most: the largest limit that a plan can have. */
const MAX_COST = 1_000_000_000;
const COST = /^[0-9]{1,10}$/;
/** An upstream that does not say what its answers cost is one line in a while. */
const LOG_MS = 60_000;
let loggedAt = Number.NEGATIVE_INFINITY;

/**
 * Puts right what a request was counted as, once its answer says what it cost: in its windows, its quota and the ledger,
 * and in the state that its `RateLimit` headers tell. More is counted in the windows that run now; less is given back
 * only where it was counted. Counts once, however often it is called.
 *
 * Where the answer does not say (or there is none), the estimate stays: the work may have been done all the same.
 *
 * @param said the value of the header that the route's policy names; a whole number in decimal, up to 1,000,000,000
 * @param now milliseconds since the epoch
 */
export function settleCost(allowed: Allowed, said: string | undefined, now: number): void {
  if (allowed.settled) return;
  allowed.settled = true;
  const { key, plan, counters, countedAt } = allowed;
  // Spaces around a value are no part of it (RFC 9110 section 5.5).
  const value = said?.trim();
  const actual = value !== undefined && COST.test(value) ? Number(value) : Number.POSITIVE_INFINITY;
  if (actual > MAX_COST) {
    if (now - loggedAt < LOG_MS && now >= loggedAt) return;
    loggedAt = now;
    counters.log.warn(
      { keyId: key.id, estimate: allowed.cost },
      `The upstream's answer does not say what it cost (${said === undefined ? 'no header' : 'not a whole number up to 1,000,000,000'}); the estimate stays`,
    );
    return;
  }
  const difference = actual - allowed.cost;
  if (difference === 0) return;
  allowed.cost = actual;
  const windows = counters.windows.settle(key.chain, plan.limits, difference, countedAt, now);
  if (!(windows instanceof Promise)) allowed.windows = windows;
  counters.quotas.settle(key, plan, difference, countedAt, now);
  allowed.quota = counters.quotas.look(key, plan, now);
  counters.usage.settle(key, difference, countedAt);
}

/** The exchange of an admitted request is over, however it ended. Takes effect once, however often it is called. */
export function release(allowed: Allowed): void {
  if (!allowed.underWay) return;
  allowed.underWay = false;
  allowed.counters.underWay.leave(allowed.policy, allowed.key.rootId);
}

/**
 * Counts a message on a WebSocket. `false`, and nothing counted, when the plan's message budget has nothing left. A
 * promise only where counters are kept elsewhere.
 */
export function spendMessage(
  { key, plan, counters }: Pick<Allowed, 'key' | 'plan' | 'counters'>,
  now: number,
): boolean | Promise<boolean> {
  if (plan.messages.length === 0) return true;
  const spent = counters.messages.spend(key.chain, plan.messages, 1, 1, now);
  if (spent instanceof Promise) return spent.then(({ violated }) => violated.length === 0);
  return spent.violated.length === 0;
}
