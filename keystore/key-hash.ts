import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import * as argon2 from '@node-rs/argon2';

/** Argon2id cost: memory in KiB, number of passes, lanes. */
export type KeyHashCost = { memoryKib: number; passes: number; lanes: number };

/** What is kept of a key's secret: an Argon2id PHC string and a 16-bit tag. */
export type HashedSecret = { hash: string; tag: number };

/** Hashes and checks the secrets of keys. */
export class KeyHasher {
  readonly #tagKey: Buffer;
  readonly #options: { memoryCost: number; timeCost: number; parallelism: number };

  constructor(serverSecret: string, cost: KeyHashCost) {
    this.#tagKey = deriveKey(serverSecret, 'key tag');
    this.#options = {
      memoryCost: cost.memoryKib,
      timeCost: cost.passes,
      parallelism: cost.lanes,
    };
  }

  /** About 1 ms of one core at the default cost. */
  async hash(secret: string): Promise<HashedSecret> {
    return { hash: await argon2.hash(secret, this.#options), tag: this.#tag(secret) };
  }

  /**
   * Whether the tag admits this secret. A wrong secret for a known key id passes once in 65,536 times only, so that
   * guessing costs the guesser a request and this machine no Argon2 run.
   */
  tagMatches(secret: string, tag: number): boolean {
    const presented = Buffer.alloc(2);
    presented.writeUInt16BE(this.#tag(secret));
    const stored = Buffer.alloc(2);
    stored.writeUInt16BE(tag);
    return timingSafeEqual(presented, stored);
  }

  /** Whether the secret is the hashed one. About 1 ms of one core at the default cost. Does not look at the tag. */
  async verify(secret: string, hash: string): Promise<boolean> {
    return argon2.verify(hash, secret);
  }

  /** Whether the hash was made at another cost than today's, and should be renewed at its next use. */
  isOutdated(hash: string): boolean {
    const made = argon2.parseOptions(hash);
    const { memoryCost, timeCost, parallelism } = this.#options;
    return made.memoryCost !== memoryCost || made.timeCost !== timeCost || made.parallelism !== parallelism;
  }

  #tag(secret: string): number {
    return createHmac('sha256', this.#tagKey).update(secret).digest().readUInt16BE(0);
  }
}

/** A 256-bit key of its own for each purpose (HKDF-SHA-256, RFC 5869). */
export function deriveKey(serverSecret: string, purpose: string, salt = ''): Buffer {
  return Buffer.from(hkdfSync('sha256', serverSecret, salt, `tollgate ${purpose} v1`, 32));
}

/** What a keystore keeps to tell whether it belongs to a server secret. Tells nothing of the secret. */
export function secretCheck(serverSecret: string): string {
  return createHmac('sha256', deriveKey(serverSecret, 'secret check')).digest('hex');
}
