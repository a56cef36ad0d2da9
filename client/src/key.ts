import { TollgateError } from './error.ts';
import type { Mode } from './shape.ts';

const FORM = /^([a-z][a-z0-9]{0,9})_(live|test)_([0-9A-Za-z]{12})[0-9A-Za-z]{32}([0-9A-Za-z]{6})$/;
const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** What a key says of itself: `<product>_<mode>_<id><secret><checksum>`. */
export type KeyParts = { product: string; mode: Mode; id: string };

/**
 * Takes a key apart.
 *
 * @throws TollgateError `key_malformed` when it is not a whole key; the message does not repeat it
 */
export function readKey(key: string): KeyParts {
  const [, product, mode, id, sum] = FORM.exec(key) ?? [];
  if (product === undefined || id === undefined || checksum(key.slice(0, -6)) !== sum) {
    throw new TollgateError(
      'key_malformed',
      'That is not a whole key.',
      'Copy all of it, from its first letter to its last: it looks like tg_live_... and is 60 characters or so long.',
    );
  }
  return { product, mode: mode as Mode, id };
}

/** The product that a key from the server is for, as a name of a folder. Also of a key that is of no form known here. */
export function productOf(key: string): string {
  return /^([a-z][a-z0-9]{0,9})_/.exec(key)?.[1] ?? 'unknown';
}

/** A key as it may be shown: enough to recognise it by, of no use to anybody. */
export function maskKey(key: string): string {
  const { product, mode, id } = readKey(key);
  return `${product}_${mode}_${id}...${key.slice(-4)}`;
}

/** CRC-32 (IEEE 802.3) in six base62 characters. Node 20 has none. */
function checksum(body: string): string {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(body, 'latin1')) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  let sum = '';
  for (let rest = (crc ^ 0xffffffff) >>> 0; rest > 0; rest = Math.floor(rest / 62)) {
    sum = (BASE62[rest % 62] as string) + sum;
  }
  return sum.padStart(6, '0');
}
