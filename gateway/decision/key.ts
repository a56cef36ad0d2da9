import type { KeyFacts } from '../../keystore/keystore.ts';
import type { Running } from './limits.ts';
import type { Tally } from './quota.ts';
import { Recent } from './recent.ts';
import type { Count } from './usage-recorder.ts';

/**
 * What a rotation chain, a key with those that it was rotated from and to, has used of what it may use, as far as this
 * process knows. It hangs on the keys themselves: with a million of them in memory, finding it in a map for each window,
 * the quota and the usage cost several times as much as all the rest of a decision.
 */
export type Chain = {
  readonly rootId: string;
  /** Windows of requests that have begun, at most one of each length. */
  requests: Running[];
  /** Windows of messages on WebSockets. */
  messages: Running[];
  /** Where its quota stands; `null`: it was not asked about. */
  tally: Tally | null;
};

/** A key as this process has it in memory: what the keystore says of it, and what it has used since. */
export type Key = KeyFacts & {
  chain: Chain;
  /** What it was last counted in; `null`: nothing yet. */
  count: Count | null;
};

/** The chains of the keys in memory. */
export class Chains {
  readonly #chains: Recent<string, Chain>;

  /** @param capacity chains remembered without any of their keys */
  constructor(capacity: number) {
    this.#chains = new Recent(capacity);
  }

  /**
   * Puts a key with its chain.
   *
   * @param before the same key as it was in memory until now, if it was
   */
  keyOf(facts: KeyFacts, before: Key | undefined): Key {
    const { rootId } = facts;
    let chain = this.#chains.get(rootId);
    if (chain === undefined) {
      chain = before?.rootId === rootId ? before.chain : { rootId, requests: [], messages: [], tally: null };
      this.#chains.set(rootId, chain);
    }
    return { ...facts, chain, count: null };
  }
}
