import type { HeaderNames } from '../listener/header-names.ts';
import { CR, endOf, LF, NAME, SPACE, VISIBLE } from './characters.ts';

/** What becomes of a header line of interest: it stays in the text, it is taken out, or the message is not plain. */
export type Verdict = 'stays' | 'taken' | 'not_plain';

/** Says what becomes of lines of interest, and reads what they say. */
export type LineReader = {
  /** @param name in lower case */
  onLine(name: string, value: string): Verdict;
};

const COLON = 58;
const MAX_LINES = 100;

/**
 * Reads the header lines of a message: each a name, a colon, one space, and a value of visible ASCII with spaces only
 * within. Lines of no interest are not taken apart at all.
 *
 * @param bytes with an empty line somewhere at or after `first`
 * @param text the same, as latin1
 * @param from where what stays begins: at the first line, or before it
 * @param first the beginning of the first line
 * @return what stays, the lines each with its CRLF; `null` when one of them is not plain, or there is none at all
 */
export function readLines(
  bytes: Uint8Array,
  text: string,
  from: number,
  first: number,
  names: HeaderNames,
  reader: LineReader,
): string | null {
  let staying = '';
  let begin = from;
  let at = first;
  let lines = 0;
  while (bytes[at] !== CR) {
    const name = at;
    const colon = endOf(bytes, name, NAME);
    if (colon === name || bytes[colon] !== COLON || bytes[colon + 1] !== 0x20) return null;
    const value = colon + 2;
    const end = endOf(bytes, value, VISIBLE | SPACE);
    if (bytes[end] !== CR || bytes[end + 1] !== LF) return null;
    if (end === value || bytes[value] === 0x20 || bytes[end - 1] === 0x20) return null;
    if (++lines > MAX_LINES) return null;
    at = end + 2;
    const lower = names.nameAt(bytes, text, name, colon);
    if (lower === null) continue;
    const verdict = reader.onLine(lower, text.slice(value, end));
    if (verdict === 'not_plain') return null;
    if (verdict === 'stays') continue;
    if (begin < name) staying += text.slice(begin, name);
    begin = at;
  }
  if (bytes[at + 1] !== LF || lines === 0) return null;
  return begin < at ? staying + text.slice(begin, at) : staying;
}
