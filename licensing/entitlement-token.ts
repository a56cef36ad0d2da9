import { createPublicKey, type KeyObject, randomUUID } from 'node:crypto';
import { calculateJwkThumbprint, exportJWK, type JWK, SignJWT } from 'jose';
import type { Device } from '../keystore/keystore.ts';
import type { SigningKeys } from '../shared/signing-keys.ts';
import type { Licence } from './licence.ts';

/** RFC 9864 section 2.2: the fully specified name of what RFC 8037 calls `EdDSA`. */
const ALGORITHM = 'Ed25519';

/**
 * How long a token is good for when the paid period is about to end, or has ended, and the next one is not known yet,
 * milliseconds: Stripe's news of a renewal may take a while. It eats into the grace; the second is for plans without one.
 */
const RENEWAL_MS = 3_600_000;
const SHORTEST_MS = 300_000;
/** A token ends after it begins. */
const MOMENT_MS = 1000;

/** Times are milliseconds since the epoch, in whole seconds. */
export type TokenTimes = {
  issuedAt: number;
  expiresAt: number;
  /** Until when a program that cannot reach us goes on; never before `expiresAt`. */
  graceUntil: number;
};

/** A token with what a program has to know to use it. */
export type IssuedToken = TokenTimes & { token: string };

/**
 * How long a token is good for: as long as the plan says, but not past what is paid for. Only where that may be followed by a
 * period whose renewal is still unknown, it goes past that, by no more than the plan's grace or {@link SHORTEST_MS}.
 */
export function tokenTimes(
  { terms, until, renews }: Pick<Licence, 'terms' | 'until' | 'renews'>,
  now: number,
): TokenTimes {
  const issuedAt = seconds(now);
  const paid = until === null ? Number.POSITIVE_INFINITY : seconds(until);
  const least = renews
    ? Math.max(issuedAt + SHORTEST_MS, Math.min(issuedAt + RENEWAL_MS, paid + terms.offlineGraceMs))
    : issuedAt + MOMENT_MS;
  const expiresAt = Math.min(issuedAt + terms.tokenTtlMs, Math.max(paid, least));
  const graceUntil = Math.max(expiresAt, Math.min(expiresAt, paid) + terms.offlineGraceMs);
  return { issuedAt, expiresAt, graceUntil };
}

/** Makes entitlement tokens: JWTs (RFC 7519) signed with Ed25519 (RFC 8037), for programs to check without us. */
export class EntitlementTokens {
  readonly #signing: KeyObject;
  readonly #kid: string;
  readonly #issuer: string;
  readonly #product: string;
  /** The public keys, as `/.well-known/jwks.json` has them (RFC 7517). */
  readonly jwks: { keys: JWK[] };

  private constructor(options: {
    signing: KeyObject;
    jwks: { keys: JWK[] };
    issuer: string;
    product: string;
  }) {
    this.#signing = options.signing;
    this.jwks = options.jwks;
    this.#kid = options.jwks.keys[0]?.kid as string;
    this.#issuer = options.issuer;
    this.#product = options.product;
  }

  /** @param product whom the tokens are for: the prefix of the seller's keys */
  static async with(keys: SigningKeys, issuer: string, product: string): Promise<EntitlementTokens> {
    const jwks = { keys: await Promise.all(keys.verifying.map(publicJwk)) };
    return new EntitlementTokens({ signing: keys.signing, jwks, issuer, product });
  }

  async issue(licence: Licence, device: Device, now: number): Promise<IssuedToken> {
    const { key, plan, features } = licence;
    const times = tokenTimes(licence, now);
    const token = await new SignJWT({
      mode: key.mode,
      plan: plan.id,
      plan_name: plan.name,
      features,
      device: { id: device.id, name: device.name },
      grace_until: times.graceUntil / 1000,
    })
      .setProtectedHeader({ alg: ALGORITHM, typ: 'entitlement+jwt', kid: this.#kid })
      .setIssuer(this.#issuer)
      .setAudience(this.#product)
      .setSubject(key.id)
      .setJti(randomUUID())
      .setIssuedAt(times.issuedAt / 1000)
      .setExpirationTime(times.expiresAt / 1000)
      .sign(this.#signing);
    return { ...times, token };
  }
}

/** A public key as a JWK, named by its thumbprint (RFC 7638). */
async function publicJwk(key: KeyObject): Promise<JWK> {
  const jwk = await exportJWK(key.type === 'private' ? createPublicKey(key) : key);
  return { ...jwk, kid: await calculateJwkThumbprint(jwk), use: 'sig', alg: ALGORITHM };
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}
