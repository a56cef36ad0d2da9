import { randomFillSync } from 'node:crypto';

const SANE_REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,127}$/;

/**
 * The id of a request: the one it came with, where that is believed, or a new one.
 *
 * @param received `X-Request-ID`; empty: there was none
 */
export function requestIdOf(received: string, believed: boolean): string {
  return believed && SANE_REQUEST_ID.test(received) ? received : newId();
}

const AT_ONCE = 128;
const BYTES = 16;
const LENGTH = 36;
const HEX = Buffer.from('0123456789abcdef', 'latin1');
/** Where the two digits of each byte stand (RFC 9562 section 4). */
const PLACES = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const random = Buffer.allocUnsafe(AT_ONCE * BYTES);
const text = Buffer.alloc(AT_ONCE * LENGTH, '-');
let made = '';
let used = AT_ONCE;

/**
 * A random UUID (RFC 9562 section 5.4). Made in advance and each in one piece: Node's `randomUUID` returns a string of
 * twenty pieces, which every head that it is written into has to put together again.
 */
function newId(): string {
  if (used === AT_ONCE) {
    makeIds();
    used = 0;
  }
  const at = used++ * LENGTH;
  return made.slice(at, at + LENGTH);
}

function makeIds(): void {
  randomFillSync(random);
  for (let id = 0; id < AT_ONCE; id++) {
    for (let i = 0; i < BYTES; i++) {
      let byte = random[id * BYTES + i] as number;
      if (i === 6) byte = (byte & 0x0f) | 0x40;
      else if (i === 8) byte = (byte & 0x3f) | 0x80;
      const at = id * LENGTH + (PLACES[i] as number);
      text[at] = HEX[byte >> 4] as number;
      text[at + 1] = HEX[byte & 15] as number;
    }
  }
  made = text.toString('latin1');
}
