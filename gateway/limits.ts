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
  windows: WindowState[];
  /** Names of the windows that have too little left. Empty: the request was counted in all of them. */
  violated: readonly string[];
  /** Seconds until every violated window has renewed; 0 when none was. */
  retryAfterSeconds: number;
};

/** Counters of fixed windows, per rotation chain. A promise only where they are kept elsewhere. Times in milliseconds. */
export type Windows = {
  /**
   * Counts `cost` requests in every window, or nothing in any when one of them has less than `needed` left. Nothing is
   * needed: nothing is refused.
   *
   * @param rootId the rotation chain
   */
  spend(
    rootId: string,
    limits: readonly Window[],
    cost: number,
    needed: number,
    now: number,
  ): WindowsSpent | Promise<WindowsSpent>;
  /** Where a key stands, without counting anything. */
  look(rootId: string, limits: readonly Window[], now: number): WindowState[] | Promise<WindowState[]>;
  /**
   * Counts what a request turned out to cost beyond what was counted at `countedAt`, or gives back what it cost less. A
   * window may go below zero. What is given back comes only out of windows that it was counted in.
   */
  settle(
    rootId: string,
    limits: readonly Window[],
    difference: number,
    countedAt: number,
    now: number,
  ): WindowState[] | Promise<WindowState[]>;
};

const NONE: readonly string[] = [];

/** How long a request may have waited for its decision: what looks older was asked with a clock that was set back. */
const LATE_MS = 60_000;

/**
 * {@link Windows} in memory. There is one counter for each length of window, whatever the plan: so a change of plan keeps
 * what was counted and applies the new limit to it, at once.
 *
 * Measured against a limiter that answers by promise and has a timer for each key and window: a quarter of the time with
 * 10,000 keys, and a third of the time and of the memory with 1,000,000.
 */
export class MemoryWindows implements Windows {
  readonly #counters = new Map<number, Counter>();
  /** The windows that the key in hand has in each of its limits. Used again and again, so that no request makes a list. */
  readonly #found: (Running | undefined)[] = [];
  #latest = 0;

  spend(
    rootId: string,
    limits: readonly Window[],
    cost: number,
    needed: number,
    askedAt: number,
  ): WindowsSpent {
    const now = this.#clock(askedAt);
    const found = this.#found;
    for (let i = 0; i < limits.length; i++) {
      const limit = limits[i] as Window;
      const running = this.#counter(limit.seconds).running(rootId, now);
      if (needed > 0 && (running?.used ?? 0) + needed > limit.requests)
        return this.#refuse(rootId, limits, needed, now);
      found[i] = running;
    }
    const windows: WindowState[] = [];
    for (let i = 0; i < limits.length; i++) {
      const limit = limits[i] as Window;
      const running = found[i] ?? this.#counter(limit.seconds).begin(rootId, now);
      running.used += cost;
      windows.push(stateOf(limit, running, now));
    }
    return { windows, violated: NONE, retryAfterSeconds: 0 };
  }

  look(rootId: string, limits: readonly Window[], askedAt: number): WindowState[] {
    const now = this.#clock(askedAt);
    return limits.map((limit) => stateOf(limit, this.#counter(limit.seconds).running(rootId, now), now));
  }

  settle(
    rootId: string,
    limits: readonly Window[],
    difference: number,
    countedAt: number,
    askedAt: number,
  ): WindowState[] {
    const now = this.#clock(askedAt);
    for (const limit of limits) {
      const counter = this.#counter(limit.seconds);
      const running = counter.running(rootId, now);
      if (difference > 0) (running ?? counter.begin(rootId, now)).used += difference;
      else if (running !== undefined && running.endsAt - limit.seconds * 1000 <= countedAt) {
        running.used = Math.max(0, running.used + difference);
      }
    }
    return this.look(rootId, limits, now);
  }

  /** Requests that waited come with an earlier time than those they let pass: they belong to the windows of now. */
  #clock(askedAt: number): number {
    if (askedAt > this.#latest || askedAt < this.#latest - LATE_MS) this.#latest = askedAt;
    return this.#latest;
  }

  /** Windows remembered, of all keys. */
  get size(): number {
    let size = 0;
    for (const counter of this.#counters.values()) size += counter.size;
    return size;
  }

  #refuse(rootId: string, limits: readonly Window[], needed: number, now: number): WindowsSpent {
    const windows = this.look(rootId, limits, now);
    const violated: string[] = [];
    let retryAfterSeconds = 0;
    for (const [i, limit] of limits.entries()) {
      if (this.#used(rootId, limit, now) + needed <= limit.requests) continue;
      violated.push(limit.name);
      retryAfterSeconds = Math.max(retryAfterSeconds, (windows[i] as WindowState).resetSeconds);
    }
    return { windows, violated, retryAfterSeconds };
  }

  #used(rootId: string, limit: Window, now: number): number {
    return this.#counter(limit.seconds).running(rootId, now)?.used ?? 0;
  }

  #counter(seconds: number): Counter {
    let counter = this.#counters.get(seconds);
    if (counter === undefined) {
      counter = new Counter(seconds * 1000);
      this.#counters.set(seconds, counter);
    }
    return counter;
  }
}

/** A window of one key that has begun. */
type Running = { used: number; endsAt: number };

/**
 * All windows of one length. What has ended is forgotten in bulk: windows are kept in two halves by when they began, and
 * once every window of the older half has ended that half is dropped as a whole. No timer, no search.
 */
class Counter {
  readonly #lengthMs: number;
  #newer = new Map<string, Running>();
  #older = new Map<string, Running>();
  #turnAt = 0;

  constructor(lengthMs: number) {
    this.#lengthMs = lengthMs;
  }

  get size(): number {
    return this.#newer.size + this.#older.size;
  }

  /** The window of a key that runs now. */
  running(rootId: string, now: number): Running | undefined {
    // Also when the clock was set back: then no window may last longer than its length from now.
    if (now >= this.#turnAt || this.#turnAt - now > this.#lengthMs) this.#turn(now);
    const found = this.#newer.get(rootId) ?? this.#older.get(rootId);
    return found !== undefined && found.endsAt > now && found.endsAt - now <= this.#lengthMs
      ? found
      : undefined;
  }

  /** Begins a window for a key that has none. */
  begin(rootId: string, now: number): Running {
    const running = { used: 0, endsAt: now + this.#lengthMs };
    this.#newer.set(rootId, running);
    return running;
  }

  #turn(now: number): void {
    const idle = now - this.#turnAt >= this.#lengthMs;
    this.#older = idle ? new Map() : this.#newer;
    this.#newer = new Map();
    this.#turnAt = now + this.#lengthMs;
  }
}

function stateOf(limit: Window, running: Running | undefined, now: number): WindowState {
  const { name, requests, seconds } = limit;
  if (running === undefined) {
    return { name, limit: requests, remaining: requests, resetSeconds: seconds, windowSeconds: seconds };
  }
  return {
    name,
    limit: requests,
    remaining: Math.max(0, requests - running.used),
    resetSeconds: Math.max(1, Math.ceil((running.endsAt - now) / 1000)),
    windowSeconds: seconds,
  };
}
