import { NOT_FROM_UPSTREAM } from '../answers/client-headers.ts';
import { HeaderNames } from '../listener/header-names.ts';
import { CR, endOf, LF, plainNumber, SPACE, VISIBLE, ZERO } from './characters.ts';
import { type LineReader, readLines, type Verdict } from './header-lines.ts';

/** The head of an answer that is understood completely here. */
export type PlainResponse = {
  status: number;
  /** The status line and the header lines that go on to the client, as they came, each with its CRLF. */
  lines: string;
  /** Whether `Date` is among them. */
  dated: boolean;
  /** Bytes of body to come. */
  length: number;
  /** How long the connection may be kept after it, in milliseconds; 0: not at all. */
  keepMs: number;
};

/** The head of an answer has to be in so many bytes. */
export const MAX_ANSWER_HEAD = 16 * 1024;

const VERSION = 'HTTP/1.1 ';
const STATUS = VERSION.length;
const REASON = STATUS + 4;
const BLANK = 32;
/** Digits of a length: what a number holds exactly. */
const LENGTH_DIGITS = 15;

/** Less than the 5 s that common servers keep an idle connection: whoever closes first loses no request to the race. */
const KEEP_MS = 4000;
/** Taken off what a server promises, for the way there and back. */
const KEEP_MARGIN_MS = 2000;
const MAX_KEEP_MS = 600_000;
const TIMEOUT = /^timeout=(\d{1,6})(?:, ?max=\d{1,9})?$/;

/** They change what the message or the connection is. */
const NOT_PLAIN = ['expect', 'upgrade', 'trailer', 'proxy-connection', 'transfer-encoding'];
const OF_INTEREST = new HeaderNames([...NOT_FROM_UPSTREAM, ...NOT_PLAIN, 'content-length', 'date']);

/** The header lines of one answer. */
class ResponseLines implements LineReader {
  dated = false;
  length = -1;
  keepMs = KEEP_MS;
  closes = false;

  reset(): void {
    this.dated = false;
    this.length = -1;
    this.keepMs = KEEP_MS;
    this.closes = false;
  }

  onLine(name: string, value: string): Verdict {
    switch (name) {
      case 'content-length':
        if (this.length >= 0) return 'not_plain';
        this.length = plainNumber(value, LENGTH_DIGITS);
        return this.length < 0 ? 'not_plain' : 'stays';
      case 'date':
        this.dated = true;
        return 'stays';
      case 'connection': {
        const option = value.toLowerCase();
        if (option === 'close') this.closes = true;
        else if (option !== 'keep-alive') return 'not_plain';
        return 'taken';
      }
      case 'keep-alive': {
        const timeout = TIMEOUT.exec(value)?.[1];
        if (timeout === undefined) return 'not_plain';
        this.keepMs = Math.min(Number(timeout) * 1000 - KEEP_MARGIN_MS, MAX_KEEP_MS);
        return 'taken';
      }
    }
    if (NOT_PLAIN.includes(name)) return 'not_plain';
    return NOT_FROM_UPSTREAM.has(name) ? 'taken' : 'stays';
  }
}

/** One for all: a head is read in one go. */
const LINES = new ResponseLines();

/**
 * Reads the head of an answer: a final status and either one `Content-Length` or a status that has no body.
 *
 * @param bytes with an empty line somewhere after the status line
 * @param text the same, as latin1
 * @return `null` when it is anything else
 */
export function readPlainResponse(bytes: Uint8Array, text: string): PlainResponse | null {
  const status = text.startsWith(VERSION) ? statusAt(bytes, STATUS) : 0;
  if (status < 200 || status > 599 || bytes[REASON - 1] !== BLANK) return null;
  const end = endOf(bytes, REASON, VISIBLE | SPACE);
  if (bytes[end] !== CR || bytes[end + 1] !== LF) return null;
  if (end === REASON || bytes[REASON] === BLANK || bytes[end - 1] === BLANK) return null;
  LINES.reset();
  const lines = readLines(bytes, text, 0, end + 2, OF_INTEREST, LINES);
  if (lines === null) return null;
  let { length } = LINES;
  if (status === 204 || status === 304) {
    // A length here is about a body that is not sent, and servers have been seen to send it nevertheless.
    if (length >= 0) return null;
    length = 0;
  } else if (length < 0) return null;
  const { dated, closes, keepMs } = LINES;
  return { status, lines, dated, length, keepMs: closes ? 0 : Math.max(0, keepMs) };
}

/** Three digits as a number; 0: they are not. */
function statusAt(bytes: Uint8Array, at: number): number {
  let status = 0;
  for (let i = at; i < at + 3; i++) {
    const digit = (bytes[i] as number) - ZERO;
    if (!(digit >= 0 && digit <= 9)) return 0;
    status = status * 10 + digit;
  }
  return status;
}
