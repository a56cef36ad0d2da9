import { randomBytes } from 'node:crypto';

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** `length` base62 characters from the system's CSPRNG, without modulo bias. */
export function base62(length: number): string {
  let out = '';
  while (out.length < length) {
    for (const byte of randomBytes(length)) {
      if (byte < 248 && out.length < length) out += alphabet[byte % 62];
    }
  }
  return out;
}

/** An id in Stripe's manner: `newId('cus')` gives `cus_` and 24 characters. */
export function newId(prefix: string): string {
  return `${prefix}_${base62(24)}`;
}

/** A Checkout Session id: `cs_test_a1` and 56 characters, which is longer than a Stripe id usually is. */
export function newSessionId(): string {
  return `cs_test_a1${base62(56)}`;
}
