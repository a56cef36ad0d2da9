import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { deriveKey } from './key-hash.ts';

const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;

/**
 * The key of a seal, derived from the server's secret and an opener, which the keystore has only as a hash. So the database
 * alone, or with one of the two, opens nothing. The exception is a second factor, which a server has to open by itself: its
 * opener is the user's name, and the server's secret is what protects it.
 *
 * @param sealed what is sealed: a key's plaintext opens by the checkout session's id, that id by the claim token of the
 *   program that began the purchase
 */
export function sealKey(
  serverSecret: string,
  sealed: 'reveal' | 'session id' | 'totp',
  opener: string,
): Buffer {
  return deriveKey(serverSecret, sealed, opener);
}

/**
 * Seals a text by AES-256-GCM.
 *
 * @param boundTo what the seal belongs to; it opens for nothing else
 * @returns nonce, ciphertext and authentication tag in one
 */
export function seal(plaintext: string, key: Buffer, boundTo: string): Uint8Array {
  const nonce = randomBytes(NONCE_LENGTH);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(Buffer.from(boundTo));
  return Buffer.concat([nonce, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
}

/**
 * Opens what {@link seal} made.
 *
 * @throws Error when key or binding differ, or the seal was changed
 */
export function openSeal(sealed: Uint8Array, key: Buffer, boundTo: string): string {
  const bytes = Buffer.from(sealed);
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_LENGTH));
  decipher.setAAD(Buffer.from(boundTo));
  decipher.setAuthTag(bytes.subarray(-TAG_LENGTH));
  return Buffer.concat([
    decipher.update(bytes.subarray(NONCE_LENGTH, -TAG_LENGTH)),
    decipher.final(),
  ]).toString('utf8');
}
