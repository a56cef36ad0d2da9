import type { HeaderNames } from '../listener/header-names.ts';

/** What becomes of a header line of interest: it stays in the text, it is taken out, or the message is not for the lane. */
export type Verdict = 'stays' | 'taken' | 'not_plain';

/** Says what becomes of lines of interest, and reads what they say. */
export type LineReader = {
  /** @param lower the name in lower case */
  onLine(lower: string, name: string, value: string): Verdict;
};

/** RFC 9110 section 5.6.2, without the underscore: with it, a name is that of another header to some servers. */
const NAME = 1;
const SPACE = 2;
const VISIBLE = 4;
const KIND = new Uint8Array(256);
for (let byte = 0x21; byte < 0x7f; byte++) KIND[byte] = VISIBLE;
KIND[0x20] = SPACE;
for (const character of "!#$%&'*+-.^`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
  KIND[character.charCodeAt(0)] = VISIBLE | NAME;

const CR = 13;
const LF = 10;
const COLON = 58;
const MAX_LINES = 100;

/**
 * Reads the header lines of a message: each a name, a colon, one space, and a value of visible ASCII with spaces only
 * within. Lines of no interest are not taken apart at all.
 *
 * @param bytes with an empty line somewhere at or after `from`, which is the beginning of the first line
 * @param text the same, as latin1
 * @return the lines that stay, each with its CRLF; `null` when one of them is not for the lane, or there is none at all
 */
export function readLines(
  bytes: Uint8Array,
  text: string,
  from: number,
  names: HeaderNames,
  reader: LineReader,
): string | null {
  let staying = '';
  let begin = from;
  let at = from;
  let lines = 0;
  while (bytes[at] !== CR) {
    const name = at;
    while (((KIND[bytes[at] as number] as number) & NAME) !== 0) at++;
    const colon = at;
    if (colon === name || bytes[colon] !== COLON || bytes[colon + 1] !== 0x20) return null;
    const value = colon + 2;
    at = value;
    while (((KIND[bytes[at] as number] as number) & (VISIBLE | SPACE)) !== 0) at++;
    const end = at;
    if (bytes[end] !== CR || bytes[end + 1] !== LF) return null;
    if (end === value || bytes[value] === 0x20 || bytes[end - 1] === 0x20) return null;
    if (++lines > MAX_LINES) return null;
    at = end + 2;
    if (!names.mayHave(colon - name, bytes[name] as number)) continue;
    const spelt = text.slice(name, colon);
    const verdict = reader.onLine(spelt.toLowerCase(), spelt, text.slice(value, end));
    if (verdict === 'not_plain') return null;
    if (verdict === 'stays') continue;
    if (begin < name) staying += text.slice(begin, name);
    begin = at;
  }
  if (bytes[at + 1] !== LF || lines === 0) return null;
  return begin < at ? staying + text.slice(begin, at) : staying;
}
