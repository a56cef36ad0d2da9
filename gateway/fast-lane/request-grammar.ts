import { endOf, plainNumber, TARGET } from '../links/characters.ts';
import { type LineReader, readLines, type Verdict } from '../links/header-lines.ts';
import { HeaderNames } from '../listener/header-names.ts';
import { ENDS_HERE, endsHere, HEAD_READER, type RequestHead } from '../listener/headers.ts';
import { onePiece } from '../one-piece.ts';

/** A request that the lane understands completely. */
export type PlainRequest = {
  method: string;
  target: string;
  /** Lines that go on to the upstream are left in it as they came. */
  head: RequestHead;
  /** What it was read from, up to the size of a head, as latin1. */
  text: string;
  /** Where the body begins. */
  bodyAt: number;
  /** Bytes of the whole body. */
  bodyLength: number;
  /** Bytes of it that are still to come. */
  missing: number;
};

/** Why a chunk is not for the lane. A small fixed set: they are counted. */
export const NOT_PLAIN = ['incomplete', 'unusual', 'pipelined'] as const;
export type NotPlain = (typeof NOT_PLAIN)[number];

/** Far below every limit of the listener, so that the lane never has to know them. */
const MAX_HEAD = 8192;
/** A request that comes in several packets is waited for up to this size. */
const MAX_GATHERED = 1024 * 1024;

/** Without a body of odd meaning. Each with the space that follows it. */
const METHODS = ['GET ', 'POST ', 'PUT ', 'PATCH ', 'DELETE '] as const;
const SLASH = 47;
const VERSION = ' HTTP/1.1\r\n';
/** The beginning of a header line, or of the empty one. */
const BEGUN_LINE = /^(?:\r|[\w!#$%&'*+\-.^`|~]+(?::(?: (?:[!-~][!-~ ]*\r?)?)?)?)?$/;
const CRLF = Buffer.from('\r\n', 'latin1');
const HOST = /^[A-Za-z\d](?:[A-Za-z\d.-]{0,253}[A-Za-z\d])?(?::\d{1,5})?$/;
const LENGTH_DIGITS = 9;

/** They change what the message or the connection is, or are not plain text. */
const NOT_FOR_THE_LANE = [
  'te',
  'expect',
  'upgrade',
  'trailer',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'sec-websocket-protocol',
];
const OF_INTEREST = new HeaderNames([...ENDS_HERE, ...NOT_FOR_THE_LANE], 'x');

/** The header lines of one request. */
class RequestLines implements LineReader {
  hosts = 0;
  contentLength = -1;
  /** The last one that was plain. Of its own, as a part of a request's text keeps that in memory, with the key. */
  #host = '';

  reset(): void {
    HEAD_READER.begin();
    this.hosts = 0;
    this.contentLength = -1;
  }

  onLine(name: string, value: string): Verdict {
    switch (name) {
      case 'x-api-key':
      case 'authorization':
        break;
      case 'host':
        if (++this.hosts > 1) return 'not_plain';
        if (value !== this.#host) {
          if (!HOST.test(value)) return 'not_plain';
          this.#host = onePiece(value);
        }
        HEAD_READER.line(name, name, this.#host);
        return 'taken';
      case 'connection':
        return value.toLowerCase() === 'keep-alive' ? 'taken' : 'not_plain';
      case 'content-length':
        if (this.contentLength >= 0) return 'not_plain';
        this.contentLength = plainNumber(value, LENGTH_DIGITS);
        if (this.contentLength < 0) return 'not_plain';
        break;
      default:
        if (NOT_FOR_THE_LANE.includes(name)) return 'not_plain';
        if (!endsHere(name)) return 'stays';
    }
    // How a name was spelt matters only with what goes on, and none of these does.
    HEAD_READER.line(name, name, value);
    return 'taken';
  }
}

/** One for all: a head is read in one go. */
const LINES = new RequestLines();

/**
 * Reads the first so many bytes of a buffer, which have to be exactly one request, its head and as much of its body as is here.
 * `unfinished`: they may be the beginning of one, at least the whole request line, and have to be read again with what comes
 * after them.
 */
export function readPlainRequest(bytes: Buffer, length: number): PlainRequest | NotPlain | 'unfinished' {
  const text = bytes.toString('latin1', 0, Math.min(length, MAX_HEAD));
  const method = methodOf(text);
  if (method === null) return text.includes('\r\n') ? 'unusual' : 'incomplete';
  // Origin-form (RFC 9112 section 3.2.1).
  const path = method.length + 1;
  const pathEnd = bytes[path] === SLASH ? endOf(bytes, path, TARGET) : path;
  if (pathEnd === path || !text.startsWith(VERSION, pathEnd))
    return text.includes('\r\n') ? 'unusual' : 'incomplete';
  const first = pathEnd + VERSION.length;
  const end = text.indexOf('\r\n\r\n', first - 2);
  if (end < 0) {
    if (length >= MAX_HEAD) return 'unusual';
    return mayBecomeHead(bytes, text, first) ? 'unfinished' : 'incomplete';
  }
  LINES.reset();
  const unread = readLines(bytes, text, first, first, OF_INTEREST, LINES);
  const { contentLength } = LINES;
  if (unread === null || LINES.hosts !== 1) return 'unusual';
  const bodyLength = Math.max(contentLength, 0);
  const bodyAt = end + 4;
  const whole = bodyAt + bodyLength;
  // A body where none is expected has no meaning that every upstream agrees on (RFC 9110 section 9.3.1).
  if (bodyLength > 0 && (method === 'GET' || method === 'DELETE')) return 'unusual';
  if (length > whole) return 'pipelined';
  const missing = whole - length;
  if (missing > 0 && whole > MAX_GATHERED) return 'incomplete';
  const head = HEAD_READER.end(unread);
  return { method, target: text.slice(path, pathEnd), head, text, bodyAt, bodyLength, missing };
}

/** Whether this is the beginning of a plain head, as far as can be told. */
function mayBecomeHead(bytes: Buffer, text: string, first: number): boolean {
  const whole = Math.max(first, text.lastIndexOf('\r\n') + 2);
  if (!BEGUN_LINE.test(text.slice(whole))) return false;
  if (whole === first) return true;
  LINES.reset();
  return (
    readLines(Buffer.concat([bytes.subarray(0, whole), CRLF]), text, first, first, OF_INTEREST, LINES) !==
    null
  );
}

function methodOf(text: string): string | null {
  for (let i = 0; i < METHODS.length; i++) {
    const method = METHODS[i] as string;
    if (text.startsWith(method)) return method.slice(0, -1);
  }
  return null;
}
