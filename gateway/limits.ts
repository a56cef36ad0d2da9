import { RateLimiterMemory, type RateLimiterRes } from 'rate-limiter-flexible';
import type { Window } from '../shared/plans.ts';

/** Where a key stands in one of its windows. */
export type WindowState = {
  name: string;
  limit: number;
  remaining: number;
  /** Seconds until the window renews, rounded up. */
  resetSeconds: number;
  windowSeconds: number;
};

export type WindowsSpent = {
  rootId: string;
  windows: WindowState[];
  /** Names of the windows that had nothing left. Empty: the request was counted in all of them. */
  violated: string[];
  /** Seconds until every violated window has renewed; 0 when none was. */
  retryAfterSeconds: number;
  /** What was counted where, for {@link Windows.giveBack}. */
  counted: { limit: Window; endsAt: number }[];
};

/**
 * Counts requests in fixed windows, per rotation chain. There is one counter for each length of window, whatever the
 * plan: so a change of plan keeps what was counted and applies the new limit to it, at once. A counter's memory goes
 * with the end of its window.
 */
export class Windows {
  readonly #counters = new Map<number, RateLimiterMemory>();

  /**
   * Counts one request in every window, or in none when one of them has nothing left.
   *
   * @param rootId the rotation chain
   */
  async spend(rootId: string, limits: readonly Window[]): Promise<WindowsSpent> {
    // `consume` has counted when it returns; only its answer comes later. So all windows are taken at one moment, and
    // of any number of concurrent requests exactly the first `limit` find their window open.
    const taking = limits.map((limit) => this.#counter(limit.seconds).consume(rootId, 1));
    const spent: WindowsSpent = { rootId, windows: [], violated: [], retryAfterSeconds: 0, counted: [] };
    for (const [i, limit] of limits.entries()) {
      const { consumedPoints: consumed, msBeforeNext } = (await taking[i]) as RateLimiterRes;
      spent.windows.push(windowState(limit, consumed, msBeforeNext));
      spent.counted.push({ limit, endsAt: Date.now() + msBeforeNext });
      if (consumed > limit.requests) spent.violated.push(limit.name);
    }
    if (spent.violated.length > 0) {
      await this.giveBack(spent);
      const full = spent.windows.filter((window) => window.remaining === 0).map((window) => window.name);
      // A longer window may have looked full only while it held the others that were refused at the same moment.
      if (full.length > 0) spent.violated = full;
      for (const { name, resetSeconds } of spent.windows) {
        if (spent.violated.includes(name))
          spent.retryAfterSeconds = Math.max(spent.retryAfterSeconds, resetSeconds);
      }
    }
    return spent;
  }

  /** Takes a request back out of every window it was counted in just now. */
  async giveBack(spent: WindowsSpent): Promise<void> {
    for (const { limit, endsAt } of spent.counted) {
      // A window that has ended meanwhile holds nothing to give back, and the library would start it at -1.
      if (Date.now() < endsAt) void this.#counter(limit.seconds).reward(spent.rootId, 1);
    }
    // Where the key stands is told once all others of this moment that are refused have been given back, too.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    const limits = spent.counted.map(({ limit }) => limit);
    spent.counted = [];
    spent.windows = await this.look(spent.rootId, limits);
  }

  /** Where a key stands, without counting anything. */
  async look(rootId: string, limits: readonly Window[]): Promise<WindowState[]> {
    return Promise.all(
      limits.map(async (limit) => {
        const current = await this.#counter(limit.seconds).get(rootId);
        return current === null || current.msBeforeNext <= 0
          ? windowState(limit, 0, limit.seconds * 1000)
          : windowState(limit, current.consumedPoints, current.msBeforeNext);
      }),
    );
  }

  #counter(seconds: number): RateLimiterMemory {
    let counter = this.#counters.get(seconds);
    if (!counter) {
      // The limit is the plan's affair, not the counter's.
      counter = new RateLimiterMemory({
        points: Number.MAX_SAFE_INTEGER,
        duration: seconds,
        keyPrefix: '',
      });
      this.#counters.set(seconds, counter);
    }
    return counter;
  }
}

function windowState(limit: Window, consumed: number, msBeforeNext: number): WindowState {
  return {
    name: limit.name,
    limit: limit.requests,
    remaining: Math.max(0, limit.requests - consumed),
    resetSeconds: Math.max(1, Math.ceil(msBeforeNext / 1000)),
    windowSeconds: limit.seconds,
  };
}
