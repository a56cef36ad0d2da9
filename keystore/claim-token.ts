import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { deriveKey } from './key-hash.ts';
import type { PurchaseTable } from './schema.ts';
import { openSeal, seal, sealKey } from './seal.ts';

/**
 * A new claim token: what a program shows to learn what became of the purchase it began, and to claim its key. 256 bits, of
 * which the keystore has a hash, and until the key is claimed the checkout session's id sealed under them.
 */
export function newClaimToken(): string {
  return tokenOf(randomBytes(32));
}

/** The claim token that a repeated request is answered with again. Without the server's secret it cannot be told from a random one. */
export function claimTokenFor(serverSecret: string, idempotencyKey: string): string {
  return tokenOf(deriveKey(serverSecret, 'claim token', idempotencyKey));
}

function tokenOf(bytes: Buffer): string {
  return `tgc_${bytes.toString('base64url')}`;
}

/** What a purchase keeps of the token it was begun with. */
export function claimColumns(
  serverSecret: string,
  input: { purchaseId: string; sessionId: string; claimToken: string },
): Pick<PurchaseTable, 'claim_hash' | 'session_sealed'> {
  const { purchaseId, sessionId, claimToken } = input;
  return {
    claim_hash: hashOf(claimToken),
    session_sealed: seal(sessionId, sealKey(serverSecret, 'session id', claimToken), purchaseId),
  };
}

/** Compared with where there is no purchase, so that this takes as long. */
const NO_HASH = '0'.repeat(64);

/** Whether a purchase was begun with this token. */
export function isClaimToken(purchase: PurchaseTable | undefined, claimToken: string): boolean {
  const expected = purchase?.claim_hash ?? NO_HASH;
  return timingSafeEqual(Buffer.from(hashOf(claimToken)), Buffer.from(expected));
}

/**
 * The id of the checkout session that a purchase was begun with; `null` once it is destroyed.
 *
 * @throws Error when it was sealed under another token
 */
export function openSessionId(
  serverSecret: string,
  purchase: PurchaseTable,
  claimToken: string,
): string | null {
  if (purchase.session_sealed === null) return null;
  return openSeal(purchase.session_sealed, sealKey(serverSecret, 'session id', claimToken), purchase.id);
}

/** The token is random and long, so a plain hash is enough. */
function hashOf(claimToken: string): string {
  return createHash('sha256').update(claimToken).digest('hex');
}
