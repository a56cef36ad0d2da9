import type { Window } from '../../shared/plans.ts';
import type { Chain } from './key.ts';

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
   * @param chain whose they are
   */
  spend(
    chain: Chain,
    limits: readonly Window[],
    cost: number,
    needed: number,
    now: number,
  ): WindowsSpent | Promise<WindowsSpent>;
  /** Where a key stands, without counting anything. */
  look(chain: Chain, limits: readonly Window[], now: number): WindowState[] | Promise<WindowState[]>;
  /** The same, failing where {@link spend} would fail now. */
  foresee(chain: Chain, limits: readonly Window[], now: number): WindowState[] | Promise<WindowState[]>;
  /**
   * Counts what a request turned out to cost beyond what was counted at `countedAt`, or gives back what it cost less. A
   * window may go below zero. What is given back comes only out of windows that it was counted in.
   */
  settle(
    chain: Chain,
    limits: readonly Window[],
    difference: number,
    countedAt: number,
    now: number,
  ): WindowState[] | Promise<WindowState[]>;
};

const NONE: readonly string[] = [];

/** How long a request may have waited for its decision: what looks older was asked with a clock that was set back. */
const LATE_MS = 60_000;

/** Windows up to this length are forgotten with their chain: it cannot be forgotten while they run, unless it is idle. */
export const SHORT_SECONDS = 60;

/**
 * {@link Windows} in memory. There is one window of each length, whatever the plan: so a change of plan keeps what was
 * counted and applies the new limit to it, at once.
 *
 * They hang on the chain, so that a request finds them without looking anything up. Long ones are kept beside it, too, and
 * outlast a chain that is forgotten because there are more keys than this process remembers.
 */
export class MemoryWindows implements Windows {
  readonly #of: 'requests' | 'messages';
  readonly #long = new Map<number, LongWindows>();
  /** The windows that the chain in hand has of each limit. Used again and again, so that no request makes a list. */
  readonly #found: (Running | undefined)[] = [];
  #latest = 0;

  /** @param of which windows of a chain these are */
  constructor(of: 'requests' | 'messages' = 'requests') {
    this.#of = of;
  }

  spend(
    chain: Chain,
    limits: readonly Window[],
    cost: number,
    needed: number,
    askedAt: number,
  ): WindowsSpent {
    const now = this.#clock(askedAt);
    const found = this.#found;
    for (let i = 0; i < limits.length; i++) {
      const limit = limits[i] as Window;
      const running = this.#running(chain, limit.seconds, now);
      if (needed > 0 && (running?.used ?? 0) + needed > limit.requests)
        return this.#refuse(chain, limits, needed, now);
      found[i] = running;
    }
    // As long as it is going to be: one that grows takes room for 17.
    const windows = new Array<WindowState>(limits.length);
    for (let i = 0; i < limits.length; i++) {
      const limit = limits[i] as Window;
      const running = found[i] ?? this.#begin(chain, limit.seconds, now);
      running.used += cost;
      windows[i] = stateOf(limit, running, now);
    }
    return { windows, violated: NONE, retryAfterSeconds: 0 };
  }

  look(chain: Chain, limits: readonly Window[], askedAt: number): WindowState[] {
    const now = this.#clock(askedAt);
    return limits.map((limit) => stateOf(limit, this.#running(chain, limit.seconds, now), now));
  }

  foresee(chain: Chain, limits: readonly Window[], askedAt: number): WindowState[] {
    return this.look(chain, limits, askedAt);
  }

  settle(
    chain: Chain,
    limits: readonly Window[],
    difference: number,
    countedAt: number,
    askedAt: number,
  ): WindowState[] {
    const now = this.#clock(askedAt);
    for (const { seconds } of limits) {
      const running = this.#running(chain, seconds, now);
      if (difference > 0) (running ?? this.#begin(chain, seconds, now)).used += difference;
      else if (running !== undefined && running.endsAt - seconds * 1000 <= countedAt) {
        running.used = Math.max(0, running.used + difference);
      }
    }
    return this.look(chain, limits, now);
  }

  /** Requests that waited come with an earlier time than those they let pass: they belong to the windows of now. */
  #clock(askedAt: number): number {
    if (askedAt > this.#latest || askedAt < this.#latest - LATE_MS) this.#latest = askedAt;
    return this.#latest;
  }

  /** The window of this length that runs for a chain. */
  running(chain: Chain, seconds: number, askedAt: number): Running | undefined {
    return this.#running(chain, seconds, this.#clock(askedAt));
  }

  /** Takes over how a window stands that is counted elsewhere. */
  learn(chain: Chain, seconds: number, used: number, endsAt: number, askedAt: number): void {
    const now = this.#clock(askedAt);
    const running = this.#running(chain, seconds, now) ?? this.#begin(chain, seconds, now);
    running.used = Math.max(0, used + running.unsent);
    running.endsAt = Math.min(endsAt, now + seconds * 1000);
  }

  /** Long windows remembered, of all chains. */
  get size(): number {
    let size = 0;
    for (const long of this.#long.values()) size += long.size;
    return size;
  }

  #refuse(chain: Chain, limits: readonly Window[], needed: number, now: number): WindowsSpent {
    const windows = this.look(chain, limits, now);
    const violated: string[] = [];
    let retryAfterSeconds = 0;
    for (const [i, limit] of limits.entries()) {
      if ((this.#running(chain, limit.seconds, now)?.used ?? 0) + needed <= limit.requests) continue;
      violated.push(limit.name);
      retryAfterSeconds = Math.max(retryAfterSeconds, (windows[i] as WindowState).resetSeconds);
    }
    return { windows, violated, retryAfterSeconds };
  }

  /** The window of a chain that runs now. */
  #running(chain: Chain, seconds: number, now: number): Running | undefined {
    const window = ofLength(chain[this.#of], seconds);
    if (window !== undefined && isRunning(window, now)) return window;
    if (seconds <= SHORT_SECONDS) return undefined;
    const kept = this.#longOf(seconds).get(chain.rootId, now);
    if (kept === undefined || !isRunning(kept, now)) return undefined;
    chain[this.#of] = withWindow(chain[this.#of], kept);
    return kept;
  }

  /** Begins a window for a chain of which none runs. */
  #begin(chain: Chain, seconds: number, now: number): Running {
    const endsAt = now + seconds * 1000;
    let begun = ofLength(chain[this.#of], seconds);
    if (begun === undefined) {
      begun = new Running(seconds, endsAt);
      chain[this.#of] = withWindow(chain[this.#of], begun);
    } else {
      // Used again, as those of a million keys that end each second would be a lot of garbage.
      begun.used = 0;
      begun.endsAt = endsAt;
      begun.unsent = 0;
      begun.times++;
    }
    if (seconds > SHORT_SECONDS) this.#longOf(seconds).set(chain.rootId, begun, now);
    return begun;
  }

  #longOf(seconds: number): LongWindows {
    let long = this.#long.get(seconds);
    if (long === undefined) {
      long = new LongWindows(seconds * 1000);
      this.#long.set(seconds, long);
    }
    return long;
  }
}

/** A window of one chain that has begun. */
export class Running {
  readonly seconds: number;
  used = 0;
  /** What was counted here, or given back, and belongs into the shared count as well, where there is one. */
  unsent = 0;
  /** How often it has begun. */
  times = 1;
  // In two small numbers, as V8 puts a large one elsewhere in memory: with a million keys, going there costs more than this.
  #endSecond = 0;
  #endMs = 0;

  constructor(seconds: number, endsAt: number) {
    this.seconds = seconds;
    this.endsAt = endsAt;
  }

  /** Milliseconds since the epoch. */
  get endsAt(): number {
    return this.#endSecond * 1000 + this.#endMs;
  }

  set endsAt(ms: number) {
    this.#endSecond = Math.floor(ms / 1000);
    this.#endMs = ms - this.#endSecond * 1000;
  }
}

function ofLength(windows: Chain['requests'], seconds: number): Running | undefined {
  if (windows instanceof Running) return windows.seconds === seconds ? windows : undefined;
  for (let i = 0; i < windows.length; i++) {
    const window = windows[i] as Running;
    if (window.seconds === seconds) return window;
  }
  return undefined;
}

/** With a window, and without the one of its length. */
function withWindow(windows: Chain['requests'], window: Running): Chain['requests'] {
  const all = windows instanceof Running ? [windows] : windows;
  const others = all.filter(({ seconds }) => seconds !== window.seconds);
  return others.length === 0 ? window : [...others, window];
}

/** Whether a window has not ended. When the clock was set back, none lasts longer than its length from now. */
function isRunning({ seconds, endsAt }: Running, now: number): boolean {
  return endsAt > now && endsAt - now <= seconds * 1000;
}

/**
 * All windows of one length. What has ended is forgotten in bulk: windows are kept in two halves by when they began, and
 * once every window of the older half has ended that half is dropped as a whole. No timer, no search.
 */
class LongWindows {
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

  get(rootId: string, now: number): Running | undefined {
    this.#turn(now);
    return this.#newer.get(rootId) ?? this.#older.get(rootId);
  }

  set(rootId: string, running: Running, now: number): void {
    this.#turn(now);
    this.#newer.set(rootId, running);
  }

  #turn(now: number): void {
    // Also when the clock was set back.
    if (now < this.#turnAt && this.#turnAt - now <= this.#lengthMs) return;
    const idle = now - this.#turnAt >= this.#lengthMs;
    this.#older = idle ? new Map() : this.#newer;
    this.#newer = new Map();
    this.#turnAt = now + this.#lengthMs;
  }
}

export function stateOf(
  limit: Window,
  running: Pick<Running, 'used' | 'endsAt'> | undefined,
  now: number,
): WindowState {
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
