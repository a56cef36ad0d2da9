import { type KeyObject, verify } from 'node:crypto';
import {
  count,
  type Features,
  features,
  LATEST_MS,
  MODES,
  type Mode,
  oneOf,
  ShapeError,
  shape,
  text,
  textOrNull,
} from './shape.ts';

/** A token is some hundred bytes; a plan may have many features. */
const MAX_LENGTH = 32 * 1024;
const SIGNATURE_BYTES = 64;

/** What the seller's server signed. Times are in seconds since the epoch. */
export type Claims = {
  /** Public address of the licence server. */
  issuer: string;
  product: string;
  keyId: string;
  tokenId: string;
  issuedAt: number;
  expiresAt: number;
  /** Until when a program without a network goes on; not before `expiresAt`. */
  graceUntil: number;
  mode: Mode;
  plan: string;
  planName: string;
  features: Features;
  device: { id: string; name: string | null };
};

/** A token taken apart. Nothing of it is to be believed before {@link isSignedBy} says so. */
export type ReadToken = { keyId: string; claims: Claims; signed: string; signature: Buffer };

/**
 * Takes an entitlement token apart: a JWT (RFC 7519) in compact form, `alg` `Ed25519` (RFC 9864) or `EdDSA` (RFC 8037),
 * `typ` `entitlement+jwt`.
 *
 * @throws ShapeError when it is anything else
 */
export function readToken(token: string): ReadToken {
  if (token.length > MAX_LENGTH) throw new ShapeError('the token is too long');
  const parts = token.split('.');
  const [head, payload, signature] = parts.map(bytes);
  if (parts.length !== 3 || !head || !payload || !signature)
    throw new ShapeError('the token has not three parts');
  const header = shape(json(head), 'the header');
  oneOf(header, 'alg', ['Ed25519', 'EdDSA']);
  oneOf(header, 'typ', ['entitlement+jwt']);
  // It would say what else has to be understood (RFC 7515 section 4.1.11), and we understand nothing else.
  if ('crit' in header) throw new ShapeError('the header has crit');
  if (signature.length !== SIGNATURE_BYTES) throw new ShapeError('the signature has a wrong length');
  return {
    keyId: text(header, 'kid'),
    claims: readClaims(json(payload)),
    signed: `${parts[0]}.${parts[1]}`,
    signature,
  };
}

/** Whether the holder of this key signed the token. */
export function isSignedBy({ signed, signature }: ReadToken, key: KeyObject): boolean {
  return verify(null, Buffer.from(signed), key, signature);
}

function readClaims(value: unknown): Claims {
  const claims = shape(value, 'the payload');
  const device = shape(claims.device, 'device');
  const read: Claims = {
    issuer: text(claims, 'iss'),
    product: text(claims, 'aud'),
    keyId: text(claims, 'sub'),
    tokenId: text(claims, 'jti'),
    issuedAt: count(claims, 'iat'),
    expiresAt: count(claims, 'exp'),
    graceUntil: count(claims, 'grace_until'),
    mode: oneOf(claims, 'mode', MODES),
    plan: text(claims, 'plan'),
    planName: text(claims, 'plan_name'),
    features: features(claims, 'features'),
    device: { id: text(device, 'id'), name: textOrNull(device, 'name') },
  };
  if (read.expiresAt < read.issuedAt) throw new ShapeError('exp is before iat');
  if (read.graceUntil > LATEST_MS / 1000) throw new ShapeError('grace_until is after the end of time');
  if (read.graceUntil < read.expiresAt) throw new ShapeError('grace_until is before exp');
  return read;
}

/** The one spelling of base64url without padding; Node alone would take others too. */
function bytes(part: string): Buffer {
  const decoded = Buffer.from(part, 'base64url');
  if (part === '' || decoded.toString('base64url') !== part) throw new ShapeError('a part is not base64url');
  return decoded;
}

function json(part: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(part));
  } catch {
    throw new ShapeError('a part is not JSON');
  }
}
