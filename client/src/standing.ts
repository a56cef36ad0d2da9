import { type ClockRecord, isGenuine, TOLERANCE_S } from './clock.ts';
import { ShapeError } from './shape.ts';
import { findSigningKey, type PublishedKeys, type SigningKeys } from './signing-keys.ts';
import { type Claims, isSignedBy, type ReadToken, readToken } from './token.ts';

/** Where a licence on this device stands. `active` and `grace` are entitled, nothing else is. */
export type EntitlementCode =
  /** The token is genuine, for this product and device, and not over. */
  | 'active'
  /** The token is over, and nobody could be asked since: goes on until `graceUntil`. */
  | 'grace'
  /** Grace is over too. */
  | 'expired'
  /** The server said that the licence has ended, and what it had given out before is over. `ended` says why. */
  | 'ended'
  /** This machine's clock is behind a time seen before, or what was kept of that was edited. */
  | 'clock_moved_back'
  /** The token was changed, or is none. */
  | 'token_invalid'
  /** The token is another device's. */
  | 'wrong_device'
  /** The token is another product's. */
  | 'wrong_product'
  /** The seller has taken back the key that signed the token. */
  | 'signing_key_revoked'
  /** The key that signed the token is not known here, so the token cannot be checked before there is a network. */
  | 'signing_key_unknown'
  /** There is a key, and no token for this device. `ended` says why, where the server refused one. */
  | 'not_activated'
  /** There is no key; the features are those of the free plan. */
  | 'demo'
  /** There is no key, and the free plan's features are not known here. */
  | 'no_licence';

/** That the server refused to go on, and why. */
export type Ended = {
  code: string;
  detail: string;
  remedy: string | null;
  /** Milliseconds since the epoch. */
  at: number;
};

/** What a token is judged by. Times are milliseconds since the epoch. */
export type Evidence = {
  token: string;
  tokenReceivedAt: number;
  clock: ClockRecord | null;
  ended: Ended | null;
  product: string;
  deviceId: string;
  pinned: SigningKeys | null;
  published: PublishedKeys | null;
  /** This machine's clock. */
  now: number;
};

/** `claims` are those of a genuine token, also when it does not count (any more); `null`: there is no such token. */
export type Standing = {
  code: Exclude<EntitlementCode, 'not_activated' | 'demo' | 'no_licence'>;
  claims: Claims | null;
  /** The time now, as far as it is known: the machine's clock, put right. Seconds since the epoch. */
  now: number;
};

/** What a token is worth here and now. The only rule; it asks nobody. */
export function standingOf(evidence: Evidence): Standing {
  const { token, clock, ended, product, deviceId, pinned, published, tokenReceivedAt } = evidence;
  const local = Math.floor(evidence.now / 1000);
  let read: ReadToken;
  try {
    read = readToken(token);
  } catch (error) {
    if (error instanceof ShapeError) return { code: 'token_invalid', claims: null, now: local };
    throw error;
  }
  const key = findSigningKey(read.keyId, pinned, published, tokenReceivedAt);
  if (key.found === null) {
    return { code: key.revoked ? 'signing_key_revoked' : 'signing_key_unknown', claims: null, now: local };
  }
  if (!isSignedBy(read, key.found)) return { code: 'token_invalid', claims: null, now: local };
  const { claims } = read;
  if (claims.product !== product) return { code: 'wrong_product', claims, now: local };
  if (claims.device.id !== deviceId) return { code: 'wrong_device', claims, now: local };
  if (clock === null || !isGenuine(clock, { token, deviceId })) {
    return { code: 'clock_moved_back', claims, now: local };
  }
  const now = local + clock.offset;
  if (now < Math.max(clock.latest, claims.issuedAt) - TOLERANCE_S) {
    return { code: 'clock_moved_back', claims, now };
  }
  return { code: inTime(claims, ended, now), claims, now };
}

/** Grace is for who cannot ask. Whoever was told that it has ended has asked. */
function inTime(claims: Claims, ended: Ended | null, now: number): 'active' | 'grace' | 'expired' | 'ended' {
  if (now < claims.expiresAt) return 'active';
  if (ended !== null) return 'ended';
  return now < claims.graceUntil ? 'grace' : 'expired';
}
