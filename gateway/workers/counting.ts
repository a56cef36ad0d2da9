import type { Window } from '../../shared/plans.ts';
import { DECISION_MS, type Settle, type Spend } from '../decision/counter-server.ts';
import { type Chain, newChain } from '../decision/key.ts';
import { MemoryWindows, SHORT_SECONDS } from '../decision/limits.ts';
import type { CounterCall } from './messages.ts';

/**
 * Counts windows for all workers, in the memory of the primary, as a gateway that is alone counts its own. Windows are forgotten
 * when they have ended, and chains when no window can hang on them alone any more.
 */
export class Counting {
  readonly #windows = { requests: new MemoryWindows('requests'), messages: new MemoryWindows('messages') };
  readonly #chains = new ChainsInUse();

  /** @param now milliseconds since the epoch */
  answer(call: CounterCall, now: number): readonly number[] {
    return call.what === 'spend' ? this.#spend(call, now) : this.#settle(call, now);
  }

  /** Chains remembered. */
  get size(): number {
    return this.#chains.size;
  }

  #spend({ of, rootId, cost, needed, windows: asked }: Spend, now: number): readonly number[] {
    const windows = this.#windows[of];
    const chain = this.#chains.get(rootId, now);
    const limits: Window[] = [];
    for (const [requests, lengthMs, used, unsent, leftMs] of asked) {
      const seconds = lengthMs / 1000;
      limits.push({ name: '', requests, seconds });
      const running = windows.running(chain, seconds, now);
      if (running !== undefined) running.used = Math.max(0, running.used + unsent);
      else if (used > 0 && leftMs > 0) windows.learn(chain, seconds, used, now + leftMs, now);
    }
    const looks = cost === 0 && needed === 0;
    const counted = looks || windows.spend(chain, limits, cost, needed, now).violated.length === 0;
    return [counted ? 1 : 0, ...this.#standing(of, chain, limits, now)];
  }

  #settle({ of, rootId, difference, agoMs, lengthsMs }: Settle, now: number): readonly number[] {
    const chain = this.#chains.get(rootId, now);
    const limits = lengthsMs.map((lengthMs) => ({ name: '', requests: 0, seconds: lengthMs / 1000 }));
    this.#windows[of].settle(chain, limits, difference, now - agoMs + DECISION_MS, now);
    return this.#standing(of, chain, limits, now);
  }

  #standing(of: Spend['of'], chain: Chain, limits: readonly Window[], now: number): number[] {
    return limits.flatMap(({ seconds }) => {
      const running = this.#windows[of].running(chain, seconds, now);
      return running === undefined ? [0, -1] : [running.used, running.endsAt - now];
    });
  }
}

/**
 * The chains that were asked about lately. Short windows hang on nothing else, so none is forgotten before they have ended;
 * longer ones outlast it. Two halves, of which the older is dropped as a whole: no timer, no search.
 */
class ChainsInUse {
  #newer = new Map<string, Chain>();
  #older = new Map<string, Chain>();
  #turnAt = 0;

  get size(): number {
    return this.#newer.size + this.#older.size;
  }

  get(rootId: string, now: number): Chain {
    this.#turn(now);
    let chain = this.#newer.get(rootId);
    if (chain === undefined) {
      chain = this.#older.get(rootId) ?? newChain(rootId);
      this.#older.delete(rootId);
      this.#newer.set(rootId, chain);
    }
    return chain;
  }

  #turn(now: number): void {
    const lengthMs = SHORT_SECONDS * 1000;
    // Also when the clock was set back.
    if (now < this.#turnAt && this.#turnAt - now <= lengthMs) return;
    this.#older = now - this.#turnAt >= lengthMs ? new Map() : this.#newer;
    this.#newer = new Map();
    this.#turnAt = now + lengthMs;
  }
}
