import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

/** A challenge: 32 random bytes, base64url. Anything else is not answered. */
const CHALLENGE_PATTERN = /^[0-9A-Za-z_-]{43}$/;

/** What proves itself: a service, at the address it takes for its own. */
export type Instance = { service: 'billing' | 'gateway'; publicUrl: string; serverSecret: string };

/**
 * What `GET /health?challenge=...` answers with, to show that a public address leads to this installation and no other: only
 * who has the server secret can make it. Its key is for this purpose alone (HKDF), so that anybody may ask for as many as they
 * like and learns nothing of use elsewhere.
 *
 * @returns the proof, base64url; `undefined` where there was no challenge
 */
export function instanceProof(challenge: unknown, instance: Instance): string | undefined {
  if (typeof challenge !== 'string' || !CHALLENGE_PATTERN.test(challenge)) return undefined;
  const { service, publicUrl, serverSecret } = instance;
  const key = Buffer.from(hkdfSync('sha256', serverSecret, '', 'tollgate instance proof v1', 32));
  return createHmac('sha256', key).update(`${service}\n${publicUrl}\n${challenge}`).digest('base64url');
}

/** Whether `proof` answers `challenge` for this instance. */
export function provesInstance(proof: unknown, challenge: string, instance: Instance): boolean {
  const wanted = instanceProof(challenge, instance);
  if (typeof proof !== 'string' || wanted === undefined) return false;
  const [given, expected] = [Buffer.from(proof), Buffer.from(wanted)];
  return given.length === expected.length && timingSafeEqual(given, expected);
}
