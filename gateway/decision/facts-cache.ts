import { LRUCache } from 'lru-cache';
import type { KeyFacts, Keystore } from '../../keystore/keystore.ts';
import { inTime } from './in-time.ts';
import { Chains, type Key } from './key.ts';
import { Recent } from './recent.ts';

/** How long facts are used while the change feed cannot be read: with it away, nobody would tell us of a revocation. */
const UNFED_MS = 1000;
/**
 * How often a key in use is read again without being asked to, as others count against its quota too. What they count with the
 * same key is told with our own writes; with the other keys of its rotation chain it is not.
 */
const REFRESH_MS = 3_600_000;
const REFRESH_CHAIN_MS = 60_000;
/** Until what others counted is in the ledger, and no write of our own is in the way. */
const SOON_MS = 10_000;
/** How long a keystore that is away is left alone before it is tried again. */
const RETRY_MS = 250;
/** How long an answer about a key that is known, or not, is waited for before the keystore counts as away. */
const KNOWN_WAIT_MS = 100;
const UNKNOWN_WAIT_MS = 1000;
/** How long it is remembered that there is no key of an id. */
const ABSENT_MS = 2000;
const MAX_ABSENT = 20_000;

type Reading = { promise: Promise<Key | undefined>; outdated: boolean };

/**
 * What the keystore says of keys, remembered by key id until the change feed says otherwise. A notice that arrives while
 * a key is being read makes that read count for nothing: it is done again.
 */
export class FactsCache {
  readonly #keystore: Pick<Keystore, 'findKeyFacts' | 'changes'>;
  readonly #now: () => number;
  readonly #onRead: (key: Key, usageWrite: number) => boolean;
  readonly #usageWrite: () => number;
  readonly #entries: Recent<string, Key>;
  readonly #chains: Chains;
  readonly #graceMs: number;
  /** Until when the keystore is not asked, after it failed. */
  #awayUntil = 0;
  #failure: unknown;
  readonly #absent = new LRUCache<string, true>({ max: MAX_ABSENT, ttl: ABSENT_MS });
  readonly #reading = new Map<string, Reading>();
  #unsubscribe: (() => void) | undefined;
  /** Decisions on what was last known of a key, as the keystore was away. */
  stale = 0;

  /**
   * @param options.graceMs how long known keys go on working while the keystore is away: its outage is not the customer's
   * @param options.usageWrite the write of usage that is under way, or else the next one
   * @param options.onRead called with each key read, and with that write as it was when the read began. Answers whether what the
   *   key says of its use is exact; otherwise it is read again before long
   */
  constructor(options: {
    keystore: Pick<Keystore, 'findKeyFacts' | 'changes'>;
    capacity: number;
    graceMs: number;
    now: () => number;
    usageWrite: () => number;
    onRead: (key: Key, usageWrite: number) => boolean;
  }) {
    this.#keystore = options.keystore;
    this.#now = options.now;
    this.#graceMs = options.graceMs;
    this.#usageWrite = options.usageWrite;
    this.#onRead = options.onRead;
    this.#entries = new Recent(options.capacity);
    this.#chains = new Chains(options.capacity);
  }

  /** Follows the change feed. Nothing may be read before. */
  async start(): Promise<void> {
    this.#unsubscribe = await this.#keystore.changes.subscribe((change) => {
      if (change === 'everything') {
        this.#entries.clear();
        this.#absent.clear();
        for (const reading of this.#reading.values()) reading.outdated = true;
        return;
      }
      for (const id of change) {
        this.#forget(id);
        this.#absent.delete(id);
        const reading = this.#reading.get(id);
        if (reading) reading.outdated = true;
      }
    });
  }

  stop(): void {
    this.#unsubscribe?.();
  }

  /** A key that is at hand, whatever it is worth. Whoever keeps it asks {@link isGood} each time. */
  find(id: string): Key | undefined {
    const key = this.#entries.get(id);
    if (key !== undefined) key.turn = this.#entries.turns;
    return key;
  }

  /** Whether what is known of a key may be relied on now. Looks nothing up, as long as the key is used now and then. */
  isGood(key: Key, now = this.#now()): boolean {
    if (key.over) return false;
    if (key.turn !== this.#entries.turns && this.find(key.id) !== key) return false;
    if (!this.#keystore.changes.healthy && now - key.readAt > UNFED_MS) {
      if (now >= this.#awayUntil || !this.isInGrace(now)) return false;
      this.stale++;
      return true;
    }
    if (now >= key.renewAt * 1000) {
      key.renewAt = secondOf(now + REFRESH_CHAIN_MS);
      void this.load(key.id).catch(() => {});
    }
    return true;
  }

  /** Has a key that is at hand read again before long, if it is used then. */
  renewSoon(id: string): void {
    const key = this.#entries.get(id);
    if (key !== undefined) key.renewAt = Math.min(key.renewAt, secondOf(this.#now() + SOON_MS));
  }

  /** The facts of a key, if they are at hand and may be relied on now. */
  fresh(id: string): Key | undefined {
    const key = this.find(id);
    return key !== undefined && this.isGood(key) ? key : undefined;
  }

  /**
   * The facts of a key, read from the keystore unless they are at hand; `undefined` when there is no such key. When the
   * keystore is away, failing or silent, what was last known of the key, as long as the grace lasts.
   *
   * @throws whatever the keystore throws, or that it does not answer, when nothing is known of the key
   */
  async load(id: string): Promise<Key | undefined> {
    if (this.#absent.has(id)) return undefined;
    const known = this.#entries.get(id);
    const now = this.#now();
    const usable = known !== undefined && this.isInGrace(now);
    if (now < this.#awayUntil && !this.#keystore.changes.healthy) {
      if (!usable) throw this.#failure;
      this.stale++;
      return known;
    }
    try {
      return await inTime(this.#readOnce(id), usable ? KNOWN_WAIT_MS : UNKNOWN_WAIT_MS);
    } catch (error) {
      this.#failure = error;
      this.#awayUntil = this.#now() + RETRY_MS;
      // The entry is looked up again: a notice may have removed it, and then it is known to be out of date.
      const current = this.#entries.get(id);
      if (!usable || current === undefined) throw error;
      this.stale++;
      return current;
    }
  }

  /** Whether what is known may still be used although nobody tells what has changed since. */
  isInGrace(now: number): boolean {
    return now - this.#keystore.changes.asOf < this.#graceMs;
  }

  #readOnce(id: string): Promise<Key | undefined> {
    const underWay = this.#reading.get(id);
    if (underWay) return underWay.promise;
    const reading: Reading = { promise: Promise.resolve(undefined), outdated: false };
    this.#reading.set(id, reading);
    reading.promise = this.#read(id, reading).finally(() => this.#reading.delete(id));
    return reading.promise;
  }

  async #read(id: string, reading: Reading): Promise<Key | undefined> {
    let facts: KeyFacts | undefined;
    let write: number;
    do {
      reading.outdated = false;
      write = this.#usageWrite();
      facts = await this.#keystore.findKeyFacts(id);
    } while (reading.outdated);
    const readAt = this.#now();
    const before = this.#forget(id);
    if (facts === undefined) {
      this.#absent.set(id, true);
      return undefined;
    }
    const key = this.#chains.keyOf(facts, before, readAt);
    const inChain = key.rootId !== id || key.replacedBy !== null;
    const renewAfter = !this.#onRead(key, write) ? SOON_MS : inChain ? REFRESH_CHAIN_MS : REFRESH_MS;
    key.renewAt = secondOf(readAt + renewAfter);
    this.#entries.set(id, key);
    key.turn = this.#entries.turns;
    return key;
  }

  #forget(id: string): Key | undefined {
    const key = this.#entries.get(id);
    if (key === undefined) return undefined;
    key.over = true;
    this.#entries.delete(id);
    return key;
  }
}

function secondOf(ms: number): number {
  return Math.ceil(ms / 1000);
}
