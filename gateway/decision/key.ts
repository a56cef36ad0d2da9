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
  /** Windows of requests that have begun, at most one of each length: the one, where there is one. */
  requests: Running | readonly Running[];
  /** Windows of messages on WebSockets. */
  messages: Running | readonly Running[];
  /** Where its quota stands; `null`: it was not asked about. */
  tally: Tally | null;
  /** In which write of usage it was last: what the ledger says is known to hold it, or not to, only in later ones. */
  writtenIn: number;
};

const NONE: readonly never[] = [];

export function newChain(rootId: string): Chain {
  return { rootId, requests: NONE, messages: NONE, tally: null, writtenIn: 0 };
}

/** A key as this process has it in memory: what the keystore says of it, and what it has used since. */
export type Key = KeyFacts & {
  chain: Chain;
  /** What it was last counted in; `null`: nothing yet. */
  count: Count | null;
  /** When the keystore said so, milliseconds since the epoch. */
  readonly readAt: number;
  /** When it is to be asked again, if the key is used then. In whole seconds since the epoch, which need no place of their own. */
  renewAt: number;
  /** It was forgotten, or read again: whoever keeps it has to find it anew. */
  over: boolean;
  /** When it was last found among those in memory, as {@link Recent.turns}. */
  turn: number;
};

/** The chains of the keys in memory. */
export class Chains {
  readonly #chains: Recent<string, Chain>;
  /** Names that many keys share. */
  readonly #names = new Map<string, string>();

  /** @param capacity chains remembered without any of their keys */
  constructor(capacity: number) {
    this.#chains = new Recent(capacity);
  }

  /**
   * Puts a key with its chain.
   *
   * @param before the same key as it was in memory until now, if it was
   * @param readAt milliseconds since the epoch
   */
  keyOf(facts: KeyFacts, before: Key | undefined, readAt: number): Key {
    const { id } = facts;
    // Most are their own root, and of nothing that is the same there should be two.
    const rootId = facts.rootId === id ? id : facts.rootId;
    let chain = this.#chains.get(rootId);
    if (chain === undefined) {
      chain = before?.rootId === rootId ? before.chain : newChain(rootId);
      this.#chains.set(rootId, chain);
    }
    // In one piece, with what each decision looks at in front and next to each other: with a million keys, going to another
    // place in memory is most of what a decision costs, and V8 puts what is spread into an object, or added to it, elsewhere.
    return {
      over: false,
      turn: 0,
      renewAt: 0,
      tag: facts.tag,
      chain,
      count: null,
      mode: facts.mode === 'live' ? 'live' : 'test',
      planId: this.#shared(facts.planId),
      quantity: facts.quantity,
      override: facts.override,
      firstUsedAt: facts.firstUsedAt,
      revokedAt: facts.revokedAt,
      expiresAt: facts.expiresAt,
      subscription: facts.subscription,
      suspendedAt: facts.suspendedAt,
      disputedSince: facts.disputedSince,
      allowedAddresses: facts.allowedAddresses,
      id,
      rootId,
      readAt,
      prefix: this.#shared(facts.prefix),
      hash: facts.hash,
      lastFour: facts.lastFour,
      customerId: facts.customerId,
      entitlements: facts.entitlements.length === 0 ? NONE : facts.entitlements,
      createdAt: facts.createdAt,
      revokedReason: facts.revokedReason,
      replacedBy: facts.replacedBy,
      usedThisMonth: facts.usedThisMonth,
      usedInAll: facts.usedInAll,
      monthStartHour: facts.monthStartHour,
      readInHour: facts.readInHour,
      usedThisHour: facts.usedThisHour,
    };
  }

  #shared(name: string): string {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    this.#names.set(name, name);
    return name;
  }
}
