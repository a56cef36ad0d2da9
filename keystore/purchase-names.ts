import { base62FromBytes, randomBase62 } from '../shared/base62.ts';
import { claimTokenFor, newClaimToken } from './claim-token.ts';
import { deriveKey } from './key-hash.ts';
import type { Store } from './store.ts';

/** A new id for a purchase of our own making. */
export function newPurchaseId(): string {
  return `pur_${randomBase62(20)}`;
}

export function isPurchaseId(text: string): boolean {
  return /^pur_[0-9A-Za-z]{20}$/.test(text);
}

/**
 * The id of a purchase that is about to be opened, and a claim token for it. The same `Idempotency-Key` gives the same, so that
 * a repeated request is answered as the first one was; without the server's secret neither can be told from a random one.
 */
export function namePurchase(
  { serverSecret }: Store,
  idempotencyKey: string | null,
): { purchaseId: string; claimToken: string } {
  if (idempotencyKey === null) return { purchaseId: newPurchaseId(), claimToken: newClaimToken() };
  const bytes = deriveKey(serverSecret, 'purchase id', idempotencyKey);
  return {
    purchaseId: `pur_${base62FromBytes(bytes, 20)}`,
    claimToken: claimTokenFor(serverSecret, idempotencyKey),
  };
}
