import { HeaderNames } from '../listener/header-names.ts';
import { ENDS_HERE, endsHere } from '../listener/headers.ts';
import { type LineReader, readLines, type Verdict } from './header-lines.ts';

/** A request that the lane understands completely. */
export type PlainRequest = {
  method: string;
  target: string;
  /** Header lines that go on to the upstream, as they came, each with its CRLF. */
  endToEnd: string;
  /** All others that mean anything, as `node:http` gives them: name, value, ... */
  others: string[];
  /** The bytes after the head, all of them; `null` when there are none. */
  body: Buffer | null;
};

/** Why a chunk is not for the lane. A small fixed set: they are counted. */
export const NOT_PLAIN = ['incomplete', 'unusual', 'pipelined'] as const;
export type NotPlain = (typeof NOT_PLAIN)[number];

/** Far below every limit of the listener, so that the lane never has to know them. */
const MAX_HEAD = 8192;

/**
 * A method without a body of odd meaning, and an origin-form target (RFC 9112 section 3.2.1) of the characters that
 * RFC 3986 allows, in HTTP/1.1. Each part can match in one way only, so that a line which does not match costs no more
 * than one that does.
 */
const REQUEST_LINE = /^(GET|DELETE|POST|PUT|PATCH) (\/[\w\-.~!$&'()*+,;=:@%/?]*) HTTP\/1\.1\r\n/;
const HOST = /^[A-Za-z\d](?:[A-Za-z\d.-]{0,253}[A-Za-z\d])?(?::\d{1,5})?$/;
const LENGTH = /^(?:0|[1-9]\d{0,8})$/;

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
  others: string[] = [];
  hosts = 0;
  contentLength = -1;

  reset(): void {
    this.others = [];
    this.hosts = 0;
    this.contentLength = -1;
  }

  onLine(lower: string, name: string, value: string): Verdict {
    switch (lower) {
      case 'host':
        if (++this.hosts > 1 || !HOST.test(value)) return 'not_plain';
        break;
      case 'connection':
        return value.toLowerCase() === 'keep-alive' ? 'taken' : 'not_plain';
      case 'content-length':
        if (this.contentLength >= 0 || !LENGTH.test(value)) return 'not_plain';
        this.contentLength = Number(value);
        break;
      default:
        if (NOT_FOR_THE_LANE.includes(lower)) return 'not_plain';
        if (!endsHere(lower)) return 'stays';
    }
    this.others.push(name, value);
    return 'taken';
  }
}

/** One for all: a head is read in one go. */
const LINES = new RequestLines();

/** Reads a chunk that has to hold exactly one request, its head and all of its body. */
export function readPlainRequest(chunk: Buffer): PlainRequest | NotPlain {
  const text = chunk.toString('latin1', 0, Math.min(chunk.length, MAX_HEAD));
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return chunk.length < MAX_HEAD ? 'incomplete' : 'unusual';
  const line = REQUEST_LINE.exec(text);
  if (line === null) return 'unusual';
  LINES.reset();
  const endToEnd = readLines(chunk, text, (line[0] as string).length, OF_INTEREST, LINES);
  const { others, contentLength } = LINES;
  if (endToEnd === null || LINES.hosts !== 1) return 'unusual';
  const method = line[1] as string;
  const surplus = chunk.length - (end + 4);
  if (contentLength > 0) {
    // A body where none is expected has no meaning that every upstream agrees on (RFC 9110 section 9.3.1).
    if (method === 'GET' || method === 'DELETE') return 'unusual';
    if (surplus < contentLength) return 'incomplete';
  }
  if (surplus > Math.max(contentLength, 0)) return 'pipelined';
  const body = surplus > 0 ? chunk.subarray(end + 4) : null;
  return { method, target: line[2] as string, endToEnd, others, body };
}
