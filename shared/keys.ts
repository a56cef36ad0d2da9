import { crc32 } from 'node:zlib';
import { encodeBase62, randomBase62 } from './base62.ts';

/** Live keys cost real money; test keys never do. The two never mix. */
export type Mode = 'live' | 'test';

/** What a seller may choose as `KEY_PREFIX`: lower case, so that the prefix cannot be taken for key material. */
export const KEY_PREFIX_PATTERN = /^[a-z][a-z0-9]{0,9}$/;

const ID_LENGTH = 12;
const SECRET_LENGTH = 32;
const CHECKSUM_LENGTH = 6;
const MAX_LENGTH = 10 + 1 + 4 + 1 + ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH;
const KEY_PATTERN = /^([a-z][a-z0-9]{0,9})_(live|test)_([0-9A-Za-z]{12})([0-9A-Za-z]{32})([0-9A-Za-z]{6})$/;

export type ParsedKey = {
  prefix: string;
  mode: Mode;
  /** 12 base62 characters; public; the key's primary key in the keystore. */
  id: string;
  /** 32 base62 characters (190 bits). */
  secret: string;
};

export type MintedKey = ParsedKey & {
  /** The whole credential, as its buyer sees it once. */
  plaintext: string;
  /** The last four characters of the plaintext (part of the checksum), to recognise a key by. */
  lastFour: string;
};

/** A new key: `<prefix>_<mode>_<id><secret><checksum>`. */
export function mintKey(prefix: string, mode: Mode): MintedKey {
  const id = randomBase62(ID_LENGTH);
  const secret = randomBase62(SECRET_LENGTH);
  const body = `${prefix}_${mode}_${id}${secret}`;
  const plaintext = body + checksum(body);
  return { prefix, mode, id, secret, plaintext, lastFour: plaintext.slice(-4) };
}

/**
 * Takes a presented credential apart. `undefined` when it cannot be a key: wrong shape or wrong checksum, which spares
 * a look-up for typos and made-up keys. Says nothing on whether the key exists.
 */
export function parseKey(presented: string): ParsedKey | undefined {
  if (presented.length > MAX_LENGTH) return undefined;
  const match = KEY_PATTERN.exec(presented);
  if (!match) return undefined;
  const [, prefix, mode, id, secret, sum] = match as unknown as [
    string,
    string,
    Mode,
    string,
    string,
    string,
  ];
  // Not a secret comparison: the checksum can be computed by anyone from the text itself.
  if (checksum(presented.slice(0, -CHECKSUM_LENGTH)) !== sum) return undefined;
  return { prefix, mode, id, secret };
}

/** CRC-32 in six base62 characters, as GitHub's token format has it. */
function checksum(body: string): string {
  return encodeBase62(crc32(body), CHECKSUM_LENGTH);
}
