/** A request that the lane understands completely. */
export type PlainRequest = {
  method: string;
  target: string;
  /** Header lines as `node:http` gives them: name, value, ... */
  rawHeaders: string[];
  /** The bytes after the head, all of them; `null` when there are none. */
  body: Buffer | null;
};

/** Why a chunk is not for the lane. A small fixed set: they are counted. */
export const NOT_PLAIN = ['incomplete', 'unusual', 'pipelined'] as const;
export type NotPlain = (typeof NOT_PLAIN)[number];

/** Far below every limit of the listener, so that the lane never has to know them. */
const MAX_HEAD = 8192;
const MAX_HEADERS = 100;

/**
 * One head, whole: a method without a body of odd meaning, an origin-form target (RFC 9112 section 3.2.1) of the
 * characters that RFC 3986 allows, HTTP/1.1, and lines of `name: value` with one space and visible ASCII. Names with an
 * underscore are left out: they are another header to some upstreams. Each part can match in one way only, so that a
 * head which does not match costs no more than one that does.
 */
const REQUEST_LINE = /^(GET|DELETE|POST|PUT|PATCH) (\/[\w\-.~!$&'()*+,;=:@%/?]*) HTTP\/1\.1\r\n/;
const HEADERS = /^(?:[!#$%&'*+\-.^`|~\dA-Za-z]+: [!-~](?:[ -~]*[!-~])?\r\n)+$/;
const HOST = /^[A-Za-z\d](?:[A-Za-z\d.-]{0,253}[A-Za-z\d])?(?::\d{1,5})?$/;
const LENGTH = /^(?:0|[1-9]\d{0,8})$/;

/** Reads a chunk that has to hold exactly one request. */
export function readPlainRequest(chunk: Buffer): PlainRequest | NotPlain {
  const text = chunk.toString('latin1', 0, Math.min(chunk.length, MAX_HEAD));
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return chunk.length < MAX_HEAD ? 'incomplete' : 'unusual';
  const line = REQUEST_LINE.exec(text);
  if (line === null) return 'unusual';
  const from = (line[0] as string).length;
  // No header line at all: there is no Host either.
  if (from > end) return 'unusual';
  const headers = readPlainHeaders(text.slice(from, end + 2));
  if (headers === null) return 'unusual';
  const { contentLength, rawHeaders } = headers;
  const method = line[1] as string;
  const surplus = chunk.length - (end + 4);
  if (contentLength > 0) {
    // A body where none is expected has no meaning that every upstream agrees on (RFC 9110 section 9.3.1).
    if (method === 'GET' || method === 'DELETE') return 'unusual';
    if (surplus < contentLength) return 'incomplete';
  }
  if (surplus > Math.max(contentLength, 0)) return 'pipelined';
  const body = surplus > 0 ? chunk.subarray(end + 4) : null;
  return { method, target: line[2] as string, rawHeaders, body };
}

/** @param block whole lines, each with its CRLF; `null` when one of them is not for the lane */
function readPlainHeaders(block: string): { rawHeaders: string[]; contentLength: number } | null {
  if (!HEADERS.test(block)) return null;
  const rawHeaders: string[] = [];
  let hosts = 0;
  let contentLength = -1;
  let at = 0;
  while (at < block.length) {
    const end = block.indexOf('\r\n', at);
    const colon = block.indexOf(':', at);
    const name = block.slice(at, colon);
    const value = block.slice(colon + 2, end);
    at = end + 2;
    rawHeaders.push(name, value);
    switch (name.length) {
      case 4:
        if (name.toLowerCase() !== 'host') break;
        if (++hosts > 1 || !HOST.test(value)) return null;
        break;
      case 10: {
        const lower = name.toLowerCase();
        if (lower === 'keep-alive') return null;
        if (lower === 'connection' && value.toLowerCase() !== 'keep-alive') return null;
        break;
      }
      case 14:
        if (name.toLowerCase() !== 'content-length') break;
        if (contentLength >= 0 || !LENGTH.test(value)) return null;
        contentLength = Number(value);
        break;
      case 2:
      case 6:
      case 7:
      case 16:
      case 17:
        if (NOT_FOR_THE_LANE.has(name.toLowerCase())) return null;
        break;
    }
  }
  if (hosts !== 1 || rawHeaders.length > 2 * MAX_HEADERS) return null;
  return { rawHeaders, contentLength };
}

/** They change what the message or the connection is. By length: 2, 6, 7, 16, 17. */
const NOT_FOR_THE_LANE = new Set([
  'te',
  'expect',
  'upgrade',
  'trailer',
  'proxy-connection',
  'transfer-encoding',
]);
