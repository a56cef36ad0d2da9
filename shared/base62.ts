import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
/** The largest multiple of 62 that fits a byte: bytes from here on would favour the first characters. */
const UNBIASED = 248;

/**
 * Random base62 text from the operating system's CSPRNG, without modulo bias (5.95 bits a character).
 *
 * @param length number of characters
 */
export function randomBase62(length: number): string {
  let text = '';
  while (text.length < length) {
    for (const byte of randomBytes(Math.ceil((length - text.length) * 1.1) + 4)) {
      if (byte < UNBIASED && text.length < length) text += ALPHABET[byte % 62];
    }
  }
  return text;
}

/** Base62 text made from bytes: the same bytes give the same text. Not for secrets, as it favours some characters slightly. */
export function base62FromBytes(bytes: Uint8Array, length: number): string {
  return Array.from(bytes.subarray(0, length), (byte) => ALPHABET[byte % 62]).join('');
}

/**
 * A non-negative integer in base62, padded on the left with `0`.
 *
 * @throws RangeError when the number needs more than `width` characters
 */
export function encodeBase62(value: number, width: number): string {
  let text = '';
  for (let rest = value; rest > 0; rest = Math.floor(rest / 62)) text = ALPHABET[rest % 62] + text;
  if (text.length > width) throw new RangeError(`${value} needs more than ${width} base62 characters`);
  return text.padStart(width, '0');
}
