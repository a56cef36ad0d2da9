/** What a byte may be part of, in a table: one look says it. */
export const NAME = 1;
export const SPACE = 2;
export const VISIBLE = 4;
export const TARGET = 8;

export const CR = 13;
export const LF = 10;

/** For each byte, all that it may be part of. */
export const KIND = new Uint8Array(256);

function are(kind: number, characters: string): void {
  for (const character of characters) {
    const code = character.charCodeAt(0);
    KIND[code] = (KIND[code] as number) | kind;
  }
}

const ALPHANUMERIC = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
are(SPACE, ' ');
for (let code = 0x21; code < 0x7f; code++) are(VISIBLE, String.fromCharCode(code));
// RFC 9110 section 5.6.2, without the underscore: with it, a name is that of another header to some servers.
are(NAME, `${ALPHANUMERIC}!#$%&'*+-.^\`|~`);
// RFC 3986 section 3.3 and 3.4: what a path and a query are made of.
are(TARGET, `${ALPHANUMERIC}_-.~!$&'()*+,;=:@%/?`);

export const ZERO = 48;

/** A whole number of so many digits at the most, written in the one way there is; -1: it is none. */
export function plainNumber(text: string, digits: number): number {
  const { length } = text;
  if (length === 0 || length > digits || (length > 1 && text.charCodeAt(0) === ZERO)) return -1;
  let number = 0;
  for (let i = 0; i < length; i++) {
    const digit = text.charCodeAt(i) - ZERO;
    if (!(digit >= 0 && digit <= 9)) return -1;
    number = number * 10 + digit;
  }
  return number;
}

/** Where characters of a kind end. @param at where they begin */
export function endOf(bytes: Uint8Array, at: number, kind: number): number {
  let end = at;
  while (((KIND[bytes[end] as number] as number) & kind) !== 0) end++;
  return end;
}
