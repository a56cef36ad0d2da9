import { createPublicKey, type KeyObject } from 'node:crypto';
import { list, shape } from './shape.ts';

/** A public signing key as the seller's server publishes it (RFC 8037). */
export type PublicJwk = { kty: string; crv?: string; x?: string; kid?: string; use?: string; alg?: string };

/** Signing keys by their id (`kid`). */
export type SigningKeys = ReadonlyMap<string, KeyObject>;

/** The key set that a server publishes, and when it was asked. */
export type PublishedKeys = { keys: SigningKeys; fetchedAt: number };

/**
 * Reads a JWK set (RFC 7517). Keys that are not for Ed25519 signatures are passed over, as the RFC asks.
 *
 * @throws ShapeError when it is no key set
 */
export function readKeySet(value: unknown): SigningKeys {
  const keys = new Map<string, KeyObject>();
  for (const each of list(shape(value, 'the key set'), 'keys')) {
    const { kty, crv, x, kid, use } = shape(each, 'a key');
    if (kty !== 'OKP' || crv !== 'Ed25519' || typeof x !== 'string' || typeof kid !== 'string') continue;
    if ((use !== undefined && use !== 'sig') || keys.has(kid)) continue;
    try {
      keys.set(kid, createPublicKey({ key: { kty, crv, x }, format: 'jwk' }));
    } catch {
      // Of the right kind and not a key: as if it were not there.
    }
  }
  return keys;
}

/** What is known of the key that signed a token. */
export type KeyFinding =
  | { found: KeyObject }
  /** It is not among those that the server publishes now, or the program does not trust it. */
  | { found: null; revoked: true }
  /** The set that would tell is not here. */
  | { found: null; revoked: false };

/**
 * Looks for a signing key. A key counts while the program trusts it and the server publishes it: a pinned key that is gone
 * from a key set fetched after the token came was taken back.
 *
 * @param pinned what the program trusts, whatever the server publishes; `null`: what the server publishes
 * @param tokenReceivedAt milliseconds since the epoch
 */
export function findSigningKey(
  kid: string,
  pinned: SigningKeys | null,
  published: PublishedKeys | null,
  tokenReceivedAt: number,
): KeyFinding {
  const fresh = published !== null && published.fetchedAt >= tokenReceivedAt;
  if (fresh && !published.keys.has(kid)) return { found: null, revoked: true };
  const key = pinned === null ? published?.keys.get(kid) : pinned.get(kid);
  return key === undefined ? { found: null, revoked: false } : { found: key };
}
