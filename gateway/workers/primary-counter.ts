import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../shared/log.ts';
import { CounterCalls } from '../decision/counter-calls.ts';
import type { CounterServer, Settle, Spend } from '../decision/counter-server.ts';
import type { CounterCall } from './messages.ts';

/**
 * How long an answer is waited for once the call is sent. The primary is on the same machine and does little else: what keeps
 * it from answering is a machine that is too busy, and then a late answer is better than a limit that is not kept.
 */
const LIMIT_MS = 500;
const START_MS = 1000;

/** The primary, which counts for all workers. */
export class PrimaryCounter implements CounterServer {
  readonly name = 'primary';
  readonly #calls: CounterCalls<CounterCall>;
  readonly #ask: (calls: readonly CounterCall[]) => Promise<readonly (readonly number[])[]>;

  /** @param ask has the primary answer calls, in their order */
  constructor(ask: (calls: readonly CounterCall[]) => Promise<readonly (readonly number[])[]>, log: Logger) {
    this.#ask = ask;
    this.#calls = new CounterCalls({
      server: 'The primary process',
      limitMs: LIMIT_MS,
      send: ask,
      onAway: () => void this.#awaitReturn(),
      log,
    });
  }

  get up(): boolean {
    return this.#calls.up;
  }

  async start(): Promise<void> {
    await Promise.race([this.#awaitReturn(), sleep(START_MS, undefined, { ref: false })]);
  }

  spend(call: Spend): Promise<readonly number[]> {
    return this.#calls.call({ what: 'spend', ...call });
  }

  settle(call: Settle): Promise<readonly number[]> {
    return this.#calls.call({ what: 'settle', ...call });
  }

  close(): void {
    this.#calls.close();
  }

  /** Nothing that is sent to it gets lost: it is back when it answers, and asking once is enough. */
  async #awaitReturn(): Promise<void> {
    try {
      await this.#ask([]);
      this.#calls.back();
    } catch (error) {
      this.#calls.fault = (error as Error).message;
    }
  }
}
