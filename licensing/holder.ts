import { createHash } from 'node:crypto';
import type { Request } from 'express';
import { LRUCache } from 'lru-cache';
import type { KeyFacts, Keystore } from '../keystore/keystore.ts';
import { AddressLimit } from '../shared/address-limit.ts';
import { isAllowedFrom } from '../shared/address-ranges.ts';
import { type Mode, parseKey } from '../shared/keys.ts';
import { presentedKey } from '../shared/presented-key.ts';
import { ProblemError } from '../shared/problems.ts';

/** Wrong keys an address may send in a minute: each may cost an Argon2 run. */
const MISSES_A_MINUTE = 30;
/** Keys whose secret was found right are not hashed again for a while. */
const REMEMBERED = 10_000;
const REMEMBERED_MS = 600_000;
/** Keys that wait for an Argon2 run, some 2 ms of a core each; beyond that it would take seconds. */
const MAX_VERIFYING = 500;

type KeysOfKeystore = Pick<Keystore, 'authenticateKey' | 'findKeyFacts' | 'markKeysUsed'>;

/**
 * Tells whose key was presented. What it remembers is the SHA-256 of what was presented and the hash that it fitted, never
 * a key; how the key stands is read anew each time.
 */
export class Holders {
  readonly #keystore: KeysOfKeystore;
  readonly #right = new LRUCache<string, { id: string; hash: string }>({
    max: REMEMBERED,
    ttl: REMEMBERED_MS,
  });
  readonly #verifying = new Map<string, Promise<KeyFacts | undefined>>();
  readonly #misses = new AddressLimit(MISSES_A_MINUTE, 60);

  constructor(keystore: KeysOfKeystore) {
    this.#keystore = keystore;
  }

  /**
   * The facts of the key in a request's `key` field or headers.
   *
   * @throws ProblemError `missing_key`, `conflicting_credentials`, `wrong_mode`, `invalid_key`,
   *   `address_not_allowed`, `overloaded`, `too_many_requests`
   */
  async identify(request: Request, inBody: string | undefined, mode: Mode): Promise<KeyFacts> {
    const inHeader = presentedKey(request);
    if (inBody !== undefined && inHeader !== undefined && inBody !== inHeader)
      throw new ProblemError('conflicting_credentials');
    const presented = inBody ?? inHeader;
    if (presented === undefined) throw new ProblemError('missing_key');
    const parsed = parseKey(presented);
    if (parsed && parsed.mode !== mode)
      throw new ProblemError(
        'wrong_mode',
        `This is a ${parsed.mode} key, and this server is in ${mode} mode.`,
      );
    const facts = parsed && (await this.#factsOf(presented));
    if (facts) {
      if (!isAllowedFrom(facts, request.ip ?? '')) {
        const from = request.ip ?? 'an unknown address';
        throw new ProblemError('address_not_allowed', `This key may not be used from ${from}.`);
      }
      return facts;
    }
    await this.#misses.spend(request);
    throw new ProblemError(
      'invalid_key',
      parsed
        ? 'No key like this was ever issued here.'
        : 'What was sent is not a whole key: its form or checksum is wrong.',
    );
  }

  async #factsOf(presented: string): Promise<KeyFacts | undefined> {
    const digest = createHash('sha256').update(presented).digest('base64');
    const known = this.#right.get(digest);
    if (known) {
      const facts = await this.#keystore.findKeyFacts(known.id);
      if (facts?.hash === known.hash) return facts;
      this.#right.delete(digest);
    }
    let verifying = this.#verifying.get(digest);
    if (!verifying) {
      if (this.#verifying.size >= MAX_VERIFYING)
        throw new ProblemError('overloaded', 'Too many keys are being checked.', { retry_after: 1 });
      verifying = this.#authenticate(presented).finally(() => this.#verifying.delete(digest));
      this.#verifying.set(digest, verifying);
    }
    const facts = await verifying;
    if (facts) this.#right.set(digest, { id: facts.id, hash: facts.hash });
    return facts;
  }

  async #authenticate(presented: string): Promise<KeyFacts | undefined> {
    const facts = await this.#keystore.authenticateKey(presented);
    if (!facts || facts.firstUsedAt !== null) return facts;
    await this.#keystore.markKeysUsed([facts.id]);
    // Read again: either a replacement of the unused key found this note, or its revocation is found here.
    return this.#keystore.findKeyFacts(facts.id);
  }
}
