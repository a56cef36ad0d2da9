import type { Window } from '../../shared/plans.ts';
import { type AskedWindow, CallFailed, type CounterServer, CounterServerAway } from './counter-server.ts';
import type { Chain } from './key.ts';
import {
  MemoryWindows,
  type Running,
  stateOf,
  type WindowState,
  type Windows,
  type WindowsSpent,
} from './limits.ts';

/** What a gateway does about limits while the server that counts for all is away. */
export type WithoutServer = 'local' | 'closed';

/** Limits cannot be decided: the server that counts is away, and the seller wants no request to pass meanwhile. */
export class LimitsUnavailable extends Error {
  constructor(cause: CounterServerAway) {
    super(cause.message, { cause });
    this.name = 'LimitsUnavailable';
  }
}

/** By how much a window that a node knows of ends earlier for it than for the server, milliseconds. */
const MARGIN_MS = 50;

const NONE: readonly string[] = [];

/**
 * {@link Windows} that several gateways share, counted by one server for all: exact, in one round trip for any number of windows.
 *
 * Each node keeps beside it how it last saw each window. While the server is away, `local` counts on from there, so of a window
 * that n nodes share no more than n times what was left of it is admitted; when it is back, what was counted meanwhile, and
 * given back, is added, once. To a server that came back empty a node says what it knows.
 */
export class SharedWindows implements Windows {
  readonly #of: 'requests' | 'messages';
  readonly #server: CounterServer;
  readonly #without: WithoutServer;
  readonly #local: MemoryWindows;
  /** Decisions made by the server, by this node alone, and not at all. */
  readonly decided = { shared: 0, local: 0, unavailable: 0 };

  constructor(of: 'requests' | 'messages', server: CounterServer, without: WithoutServer) {
    this.#of = of;
    this.#server = server;
    this.#without = without;
    this.#local = new MemoryWindows(of);
  }

  /** @throws LimitsUnavailable as a rejection, when the server is away and nothing may pass meanwhile */
  spend(
    chain: Chain,
    limits: readonly Window[],
    cost: number,
    needed: number,
    now: number,
  ): WindowsSpent | Promise<WindowsSpent> {
    if (limits.length === 0) return { windows: [], violated: NONE, retryAfterSeconds: 0 };
    return this.#spend(chain, limits, cost, needed, now);
  }

  async #spend(
    chain: Chain,
    limits: readonly Window[],
    cost: number,
    needed: number,
    now: number,
  ): Promise<WindowsSpent> {
    const sent = this.#server.up;
    try {
      const answer = await this.#ask(chain, limits, cost, needed, now);
      this.decided.shared++;
      return spent(limits, answer, needed, now);
    } catch (error) {
      if (!(error instanceof CounterServerAway)) throw error;
      return this.#withoutServer(error, chain, limits, cost, needed, now, sent);
    }
  }

  async look(chain: Chain, limits: readonly Window[], now: number): Promise<WindowState[]> {
    return this.foresee(chain, limits, now).catch(() => this.#local.look(chain, limits, now));
  }

  /** @throws LimitsUnavailable as a rejection, when the server is away and nothing may pass meanwhile */
  async foresee(chain: Chain, limits: readonly Window[], now: number): Promise<WindowState[]> {
    if (limits.length === 0) return [];
    try {
      const answer = await this.#ask(chain, limits, 0, 0, now);
      return statesOf(limits, answer, 1, now);
    } catch (error) {
      if (!(error instanceof CounterServerAway)) throw error;
      if (this.#without === 'closed') throw new LimitsUnavailable(error);
      return this.#local.look(chain, limits, now);
    }
  }

  async settle(
    chain: Chain,
    limits: readonly Window[],
    difference: number,
    countedAt: number,
    now: number,
  ): Promise<WindowState[]> {
    if (limits.length === 0) return [];
    const sent = this.#server.up;
    try {
      const answer = await this.#server.settle({
        of: this.#of,
        rootId: chain.rootId,
        difference,
        agoMs: Math.max(0, now - countedAt),
        lengthsMs: limits.map(({ seconds }) => seconds * 1000),
      });
      this.#learn(chain, limits, answer, 0, now);
      return statesOf(limits, answer, 0, now);
    } catch (error) {
      const before = limits.map(({ seconds }) => this.#local.running(chain, seconds, now)?.used ?? 0);
      const windows = this.#local.settle(chain, limits, difference, countedAt, now);
      const owed = limits.map(({ seconds }, i) => {
        const running = this.#local.running(chain, seconds, now);
        return owedTo(running, (running?.used ?? 0) - (before[i] as number));
      });
      whenNotCounted(error, sent, () => owe(owed));
      return windows;
    }
  }

  async #ask(
    chain: Chain,
    limits: readonly Window[],
    cost: number,
    needed: number,
    now: number,
  ): Promise<readonly number[]> {
    const owed: Owed[] = [];
    const windows = limits.map(({ requests, seconds }): AskedWindow => {
      const running = this.#local.running(chain, seconds, now);
      const left = running === undefined ? 0 : running.endsAt - now - MARGIN_MS;
      if (running === undefined || left <= 0) return [requests, seconds * 1000, 0, 0, 0];
      const { used, unsent } = running;
      // Counted at most once: whether a call that is not answered was carried out cannot be told.
      if (this.#server.up && unsent !== 0) {
        owed.push(owedTo(running, unsent));
        running.unsent = 0;
      }
      return [requests, seconds * 1000, used, unsent, left];
    });
    try {
      const answer = await this.#server.spend({ of: this.#of, rootId: chain.rootId, cost, needed, windows });
      this.#learn(chain, limits, answer, 1, now);
      return answer;
    } catch (error) {
      whenNotCounted(error, true, () => owe(owed));
      throw error;
    }
  }

  #withoutServer(
    away: CounterServerAway,
    chain: Chain,
    limits: readonly Window[],
    cost: number,
    needed: number,
    now: number,
    sent: boolean,
  ): WindowsSpent {
    if (this.#without === 'closed') {
      this.decided.unavailable++;
      throw new LimitsUnavailable(away);
    }
    this.decided.local++;
    const result = this.#local.spend(chain, limits, cost, needed, now);
    if (result.violated.length === 0) {
      const owed = limits.map(({ seconds }) => owedTo(this.#local.running(chain, seconds, now), cost));
      whenNotCounted(away, sent, () => owe(owed));
    }
    return result;
  }

  /** Remembers how the windows stand, from an answer that says so from an index on. */
  #learn(
    chain: Chain,
    limits: readonly Window[],
    answer: readonly number[],
    from: number,
    now: number,
  ): void {
    for (const [i, { seconds }] of limits.entries()) {
      const used = answer[from + 2 * i] as number;
      const ends = answer[from + 2 * i + 1] as number;
      if (ends > 0) this.#local.learn(chain, seconds, used, now + ends, now);
    }
  }
}

/** What belongs into the shared count of a window, beyond what is to be sent already, as long as it has not begun again. */
type Owed = readonly [running: Running | undefined, times: number, difference: number];

function owedTo(running: Running | undefined, difference: number): Owed {
  return [running, running?.times ?? 0, difference];
}

function owe(owed: readonly Owed[]): void {
  for (const [running, times, difference] of owed) if (running?.times === times) running.unsent += difference;
}

/** What was sent may have been counted there already, unless it is known to have been refused. */
function whenNotCounted(error: unknown, sent: boolean, then: () => void): void {
  if (!sent) then();
  else if (error instanceof CallFailed) error.whenRefused(then);
}

function statesOf(
  limits: readonly Window[],
  answer: readonly number[],
  from: number,
  now: number,
): WindowState[] {
  return limits.map((limit, i) => {
    const ends = answer[from + 2 * i + 1] as number;
    return stateOf(
      limit,
      ends < 0 ? undefined : { used: answer[from + 2 * i] as number, endsAt: now + ends },
      now,
    );
  });
}

function spent(
  limits: readonly Window[],
  answer: readonly number[],
  needed: number,
  now: number,
): WindowsSpent {
  const windows = statesOf(limits, answer, 1, now);
  if (answer[0] === 1) return { windows, violated: NONE, retryAfterSeconds: 0 };
  const violated: string[] = [];
  let retryAfterSeconds = 0;
  for (const [i, { name, requests }] of limits.entries()) {
    if ((answer[1 + 2 * i] as number) + needed <= requests) continue;
    violated.push(name);
    retryAfterSeconds = Math.max(retryAfterSeconds, (windows[i] as WindowState).resetSeconds);
  }
  return { windows, violated, retryAfterSeconds };
}
