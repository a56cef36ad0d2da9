import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { deriveKey } from './key-hash.ts';

const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;

/**
 * Seals a key's plaintext until its buyer claims it: AES-256-GCM under a key derived from the server's secret and the
 * checkout session's id. Neither is in the database, so the database alone, or with one of the two, opens nothing.
 *
 * @param boundTo what the seal belongs to (purchase and key id); it opens for nothing else
 * @returns nonce, ciphertext and authentication tag in one
 */
export function seal(
  plaintext: string,
  serverSecret: string,
  sessionId: string,
  boundTo: string,
): Uint8Array {
  const nonce = randomBytes(NONCE_LENGTH);
  const cipher = createCipheriv('aes-256-gcm', deriveKey(serverSecret, 'reveal', sessionId), nonce);
  cipher.setAAD(Buffer.from(boundTo));
  return Buffer.concat([nonce, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
}

/**
 * Opens what {@link seal} made.
 *
 * @throws Error when secret, session id or binding differ, or the seal was changed
 */
export function openSeal(
  sealed: Uint8Array,
  serverSecret: string,
  sessionId: string,
  boundTo: string,
): string {
  const bytes = Buffer.from(sealed);
  const decipher = createDecipheriv(
    'aes-256-gcm',
    deriveKey(serverSecret, 'reveal', sessionId),
    bytes.subarray(0, NONCE_LENGTH),
  );
  decipher.setAAD(Buffer.from(boundTo));
  decipher.setAuthTag(bytes.subarray(-TAG_LENGTH));
  return Buffer.concat([
    decipher.update(bytes.subarray(NONCE_LENGTH, -TAG_LENGTH)),
    decipher.final(),
  ]).toString('utf8');
}
