import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import type { KeyFacts, Keystore } from '../../keystore/keystore.ts';
import { type Mode, type ParsedKey, parseKey } from '../../shared/keys.ts';
import type { Logger } from '../../shared/log.ts';
import type { BadKeys } from './bad-keys.ts';
import { type Refused, refused } from './decision.ts';
import { DigestMap } from './digest-map.ts';
import type { FactsCache } from './facts-cache.ts';
import type { FirstUses } from './first-uses.ts';
import { type HashQueue, HashQueueFull } from './hash-queue.ts';
import { inTime } from './in-time.ts';
import type { Key } from './key.ts';
import { Recent } from './recent.ts';

/** Longer than any key; not worth hashing. */
const MAX_PRESENTED = 128;
const MAX_WRONG = 50_000;
const WRONG_MS = 10_000;
/** Unknown keys looked at in a second of addresses that have sent too many wrong ones. */
const MAX_LOOKS = 200;
/** How long each beyond that waits first, and how many may wait at a time. */
const HOLD_MS = 1000;
const MAX_HELD = 1000;
/** How long it is waited for what the keystore's mode is, milliseconds. */
const MODE_WAIT_MS = 1000;
/** An outage is one line in a while, not one for each request. */
const FAILURE_LOG_MS = 5000;

type Options = {
  keystore: Pick<Keystore, 'hasher' | 'mode' | 'upgradeKeyHash'>;
  facts: FactsCache;
  queue: HashQueue;
  badKeys: BadKeys;
  firstUses: Pick<FirstUses, 'note'>;
  /** Verified keys remembered. */
  capacity: number;
  log: Logger;
};

/**
 * Tells whose key was presented. A key that was verified once is remembered by the SHA-256 of what was presented, so
 * that from then on it costs a hash and two look-ups; its plaintext is kept nowhere.
 */
export class Identify {
  readonly #options: Options;
  /** By the digest of what was presented: the key as it was when that was last used, to be found anew where that is over. */
  readonly #verified: Recent<string, Key>;
  /** Presented keys whose secret was wrong though its tag was right: once in 65,536 guesses, and not twice. */
  readonly #wrong = new LRUCache<string, true>({ max: MAX_WRONG, ttl: WRONG_MS });
  readonly #verifying = new Map<string, Promise<boolean>>();
  #held = 0;
  #second = 0;
  #looks = 0;
  #mode: Mode | null = null;
  #loggedAt = 0;
  /** Requests whose key was remembered, and those whose key was not. */
  hits = 0;
  misses = 0;

  constructor(options: Options) {
    this.#options = options;
    this.#verified = new Recent(options.capacity, () => new DigestMap<Key>());
  }

  /** The mode of the keystore, once it is known. */
  get mode(): Mode | null {
    return this.#mode;
  }

  /**
   * The facts of the key that was presented, or why there are none. A promise only when something has to be waited for.
   *
   * @param address the client's, which pays for wrong keys
   * @param now milliseconds since the epoch
   */
  identify(presented: string, address: string, now: number): Key | Refused | Promise<Key | Refused> {
    const digest = presented.length <= MAX_PRESENTED ? hash('sha256', presented, 'latin1') : '';
    const known = digest === '' ? undefined : this.#verified.get(digest);
    if (known !== undefined) {
      const key = this.#asOf(known, digest, now);
      if (key !== undefined && key.firstUsedAt !== null) {
        this.hits++;
        return key;
      }
    }
    this.misses++;
    if (known === undefined && this.#options.badKeys.waitSeconds(address) > 0 && this.#isFlood()) {
      return this.#hold().then(() =>
        this.#look(presented, digest, known, address).catch((error: unknown) => this.#ours(error)),
      );
    }
    if (known === undefined && parseKey(presented) === undefined) return this.#malformed(address);
    return this.#look(presented, digest, known, address).catch((error: unknown) => this.#ours(error));
  }

  /** A key that was verified as it is known now, if that is at hand and may be relied on. */
  #asOf(known: Key, digest: string, now?: number): Key | undefined {
    const { facts } = this.#options;
    if (facts.isGood(known, now)) return known;
    const key = facts.find(known.id);
    if (key === undefined || key === known || key.tag !== known.tag || !facts.isGood(key, now))
      return undefined;
    this.#verified.set(digest, key);
    return key;
  }

  /** Whether addresses that have sent too many wrong keys send unknown ones faster than they may be looked at. */
  #isFlood(): boolean {
    const second = Math.trunc(performance.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#looks = 0;
    }
    return ++this.#looks > MAX_LOOKS && this.#held < MAX_HELD;
  }

  /**
   * Makes an unknown key wait. So a flood is no faster than its connections are many, and a good key in the midst of it works,
   * late, once.
   */
  async #hold(): Promise<void> {
    this.#held++;
    await sleep(HOLD_MS, undefined, { ref: false });
    this.#held--;
  }

  /** A key that is not at hand: remembered but out of date or not noted as used yet, or never seen. */
  async #look(
    presented: string,
    digest: string,
    known: Key | undefined,
    address: string,
  ): Promise<Key | Refused> {
    if (known !== undefined) {
      const key = this.#asOf(known, digest) ?? (await this.#options.facts.load(known.id));
      if (key !== undefined && key.tag === known.tag) {
        this.#verified.set(digest, key);
        return this.#inUse(key, known, digest);
      }
      this.#verified.delete(digest);
    }
    const parsed = parseKey(presented);
    if (parsed === undefined) return this.#malformed(address);
    return this.#verify(parsed, digest, address);
  }

  async #verify(parsed: ParsedKey, digest: string, address: string): Promise<Key | Refused> {
    const { keystore, facts } = this.#options;
    // A keystore that is away shows here, at once.
    const stored = facts.fresh(parsed.id) ?? (await facts.load(parsed.id));
    this.#mode ??= await inTime(keystore.mode(), MODE_WAIT_MS);
    if (this.#mode !== null && parsed.mode !== this.#mode) return wrongMode(parsed.mode, this.#mode);
    const possible =
      stored !== undefined &&
      // The checksum covers the prefix but anyone can compute it: another prefix would be the same key in ever new spellings.
      stored.prefix === parsed.prefix &&
      stored.mode === parsed.mode &&
      !this.#wrong.has(digest) &&
      keystore.hasher.tagMatches(parsed.secret, stored.tag);
    if (!possible || !(await this.#verifyOnce(parsed, stored, digest))) {
      return this.#bad(address, 'No key like this was ever issued here.');
    }
    this.#verified.set(digest, stored);
    // The wait for Argon2 may have been long; what counts is how the key stands now.
    return this.#inUse(facts.fresh(parsed.id) ?? (await facts.load(parsed.id)) ?? stored, stored, digest);
  }

  /**
   * Sees to it that the keystore knows of the first use of a key before anything comes of that use.
   *
   * @param verified the key as it was when what has this digest was verified
   */
  async #inUse(key: Key, verified: Key, digest: string): Promise<Key> {
    if (key.firstUsedAt !== null) return key;
    await this.#options.firstUses.note(key);
    if (key.firstUsedAt === null) return key;
    // Read again: either a replacement of the unused key found this note, or its revocation is found here.
    const read = await this.#options.facts.load(key.id);
    if (read === undefined) return key;
    if (read.tag === verified.tag) this.#verified.set(digest, read);
    return read;
  }

  /** However many requests present the same key at once, one Argon2 run answers them. */
  #verifyOnce(parsed: ParsedKey, stored: KeyFacts, digest: string): Promise<boolean> {
    const underWay = this.#verifying.get(digest);
    if (underWay) return underWay;
    const { keystore, queue } = this.#options;
    const verifying = queue
      .run(() => keystore.hasher.verify(parsed.secret, stored.hash))
      .then((matches) => {
        if (!matches) this.#wrong.set(digest, true);
        else if (keystore.hasher.isOutdated(stored.hash)) this.#upgrade(parsed, stored);
        return matches;
      })
      .finally(() => this.#verifying.delete(digest));
    this.#verifying.set(digest, verifying);
    return verifying;
  }

  /** The cost of hashing was changed since this key was made. */
  #upgrade(parsed: ParsedKey, stored: KeyFacts): void {
    const { keystore, queue, log } = this.#options;
    queue.whenIdle(async () => {
      try {
        const { hash: to } = await keystore.hasher.hash(parsed.secret);
        await keystore.upgradeKeyHash({ id: stored.id, from: stored.hash, to });
      } catch (error) {
        log.warn({ err: error, keyId: stored.id }, 'The hash of a key could not be renewed');
      }
    });
  }

  /**
   * A wrong key, or one too many of them. Only keys that are refused anyway come here: a good key is never turned away
   * for what its neighbours behind the same address send.
   */
  #bad(address: string, detail: string): Refused {
    const wait = this.#options.badKeys.waitSeconds(address);
    if (wait > 0) return refused('too_many_bad_keys', { retryAfterSeconds: wait });
    this.#options.badKeys.count(address);
    return refused('invalid_key', { detail });
  }

  #malformed(address: string): Refused {
    return this.#bad(address, 'What was sent is not a whole key: its form or checksum is wrong.');
  }

  /** Whatever failed here is ours: the customer's key may well be good. */
  #ours(error: unknown): Refused {
    if (error instanceof HashQueueFull) return refused('overloaded', { retryAfterSeconds: 2 });
    const now = Date.now();
    if (now - this.#loggedAt > FAILURE_LOG_MS) {
      this.#loggedAt = now;
      this.#options.log.error({ err: error }, 'Keys cannot be looked up: the keystore failed');
    }
    return refused('keystore_unavailable', { retryAfterSeconds: 1 });
  }
}

/** A key of the other mode, named (test keys cost nothing and must open nothing). */
export function wrongMode(key: Mode, here: Mode): Refused {
  return refused('wrong_mode', {
    detail: `This is a ${key} key, and this is the ${here} API.`,
    extensions: { key_mode: key, api_mode: here },
  });
}
