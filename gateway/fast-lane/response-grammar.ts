/** The head of an answer that the lane understands completely. */
export type PlainResponse = {
  status: number;
  reason: string;
  /** Header lines as undici gives them: name, value, ... */
  rawHeaders: string[];
  /** Bytes of body to come. */
  length: number;
  /** How long the connection may be kept after it, in milliseconds; 0: not at all. */
  keepMs: number;
};

const STATUS_LINE = /^HTTP\/1\.1 ([2-5]\d\d) ([!-~](?:[ -~]*[!-~])?)\r\n/;
const HEADERS = /^(?:[!#$%&'*+\-.^_`|~\dA-Za-z]+: [!-~](?:[ -~]*[!-~])?\r\n)+$/;
const LENGTH = /^(?:0|[1-9]\d{0,14})$/;
const MAX_HEADERS = 100;

/** Less than the 5 s that common servers keep an idle connection: whoever closes first loses no request to the race. */
const KEEP_MS = 4000;
/** Taken off what a server promises, for the way there and back. */
const KEEP_MARGIN_MS = 2000;
const MAX_KEEP_MS = 600_000;
const TIMEOUT = /^timeout=(\d{1,6})(?:, ?max=\d{1,9})?$/;

/**
 * Reads the head of an answer: a final status and either one `Content-Length` or a status that has no body.
 *
 * @param head up to and with the empty line
 * @return `null` when it is anything else
 */
export function readPlainResponse(head: string): PlainResponse | null {
  const line = STATUS_LINE.exec(head);
  if (line === null) return null;
  const status = Number(line[1]);
  const from = (line[0] as string).length;
  const end = head.length - 2;
  if (from >= end) return null;
  const block = head.slice(from, end);
  if (!HEADERS.test(block)) return null;
  const rawHeaders: string[] = [];
  let length = -1;
  let keepMs = KEEP_MS;
  let close = false;
  let at = 0;
  while (at < block.length) {
    const lineEnd = block.indexOf('\r\n', at);
    const colon = block.indexOf(':', at);
    const name = block.slice(at, colon);
    const value = block.slice(colon + 2, lineEnd);
    at = lineEnd + 2;
    rawHeaders.push(name, value);
    switch (name.length) {
      case 14:
        if (name.toLowerCase() !== 'content-length') break;
        if (length >= 0 || !LENGTH.test(value)) return null;
        length = Number(value);
        break;
      case 10: {
        const lower = name.toLowerCase();
        if (lower === 'connection') {
          const option = value.toLowerCase();
          if (option === 'close') close = true;
          else if (option !== 'keep-alive') return null;
        } else if (lower === 'keep-alive') {
          const timeout = TIMEOUT.exec(value)?.[1];
          if (timeout === undefined) return null;
          keepMs = Math.min(Number(timeout) * 1000 - KEEP_MARGIN_MS, MAX_KEEP_MS);
        }
        break;
      }
      case 6:
      case 7:
      case 16:
      case 17:
        if (NOT_FOR_THE_LANE.has(name.toLowerCase())) return null;
        break;
    }
  }
  if (rawHeaders.length > 2 * MAX_HEADERS) return null;
  if (status === 204 || status === 304) {
    // A length here is about a body that is not sent, and servers have been seen to send it nevertheless.
    if (length >= 0) return null;
    length = 0;
  } else if (length < 0) return null;
  return { status, reason: line[2] as string, rawHeaders, length, keepMs: close ? 0 : Math.max(0, keepMs) };
}

/** They change what the message or the connection is. By length: 6, 7, 16, 17. */
const NOT_FOR_THE_LANE = new Set(['expect', 'upgrade', 'trailer', 'proxy-connection', 'transfer-encoding']);
