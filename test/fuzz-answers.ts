import type { FuzzRandom } from './fuzz-random.ts';
import { bodyText, chunked, mutate } from './fuzz-requests.ts';

/** What an upstream sends, in pieces, and what it does then. */
export type FuzzAnswer = { pieces: string[]; after: 'keep' | 'end' | 'reset' };

const STATUSES = [
  '200 OK',
  '201 Created',
  '404 Not Found',
  '503 Service Unavailable',
  '302 Found',
  '206 Partial Content',
];
const ODD_STATUS_LINES = [
  'HTTP/1.0 200 OK',
  'HTTP/1.1 200',
  'HTTP/1.1 200 ',
  'HTTP/1.1 200  OK',
  'HTTP/1.1 200 \xe9t\xe9',
  'HTTP/1.1 99 Low',
  'HTTP/1.1 600 High',
  'HTTP/1.1 999 High',
  'HTTP/1.1 2000 Long',
  'HTTP/2 200 OK',
  'ICY 200 OK',
  'http/1.1 200 OK',
  'HTTP/1.1\t200 OK',
  'HTTP/1.1 101 Switching Protocols',
  'HTTP/1.1 200 O\tK',
];
const PLAIN_HEADERS = [
  'Content-Type: application/json',
  'Date: Sat, 21 Nov 2026 07:00:00 GMT',
  'Server: fuzz',
  'ETag: "x"',
  'Set-Cookie: a=b',
  'set-cookie: c=d',
  'Cache-Control: no-store',
  'Connection: keep-alive',
  'Keep-Alive: timeout=5',
  'Vary: Accept',
];
const ODD_HEADERS = [
  'Connection: close',
  'Connection: x-hop',
  'Connection: keep-alive, x-hop',
  'X-Hop: 1',
  'Keep-Alive: timeout=1',
  'Keep-Alive: timeout=2, max=1',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: gzip, chunked',
  'Content-Length: 3',
  'Content-Length: 03',
  'Content-Length: +3',
  'Content-Length: 3, 3',
  'Upgrade: h2c',
  'Trailer: X-Sum',
  'Proxy-Authenticate: Basic',
  'X-Request-ID: theirs',
  'RateLimit: "a";r=1',
  'X-RateLimit-Limit: 1',
  'Via: 1.1 x',
  'X-Empty:',
  'X-Space:  two',
  'X-After: a \t',
  'X-None:none',
  'X-High: \xe9',
  'X-Tab: a\tb',
  'X-Nul: a\0b',
  'X-Cr: a\rb',
  'X-Lf: a\nb',
  'X-Fold: a\r\n b',
  'X Space: a',
  'X-Space : a',
  'X-Colon',
  'Expect: 1',
];
const INTERIM = [
  'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n',
  'HTTP/1.1 102 Processing\r\n\r\n',
  'HTTP/1.1 100 Continue\r\n\r\n',
];

/**
 * The answer of an upstream, or what looks like one, latin1.
 *
 * @param interim whether interim answers may come before it
 */
export function fuzzAnswer(random: FuzzRandom, interim: boolean): FuzzAnswer {
  const odd = random.chance(0.35);
  let bytes = '';
  if (random.chance(0.02) && interim) bytes += random.pick(INTERIM);
  const framing = random.integer(20);
  let status = random.pick(STATUSES);
  let body = bodyText(random);
  const lines: string[] = [];
  let after: FuzzAnswer['after'] = 'keep';
  if (framing < 14) lines.push(`${random.pick(['Content-Length', 'content-length'])}: ${body.length}`);
  else if (framing < 16) {
    lines.push('Transfer-Encoding: chunked');
    body = chunked(random, body);
  } else if (framing < 17) after = 'end';
  else {
    status = random.pick(['204 No Content', '304 Not Modified']);
    body = '';
    if (odd && random.chance(0.3)) lines.push('Content-Length: 5');
  }
  for (let n = random.integer(4); n > 0; n--) lines.push(random.pick(PLAIN_HEADERS));
  if (odd) for (let n = random.integer(3); n > 0; n--) lines.push(random.pick(ODD_HEADERS));
  random.shuffle(lines);
  const line = odd && random.chance(0.15) ? random.pick(ODD_STATUS_LINES) : `HTTP/1.1 ${status}`;
  const end = odd && random.chance(0.04) ? '\n' : '\r\n';
  bytes += `${line}${end}${lines.map((each) => each + end).join('')}${end}${body}`;
  if (odd && random.chance(0.25)) bytes = mutate(random, bytes);
  if (random.chance(0.03))
    bytes += random.pick(['surplus', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil', '\r\n']);
  if (random.chance(0.03)) {
    bytes = bytes.slice(0, random.integer(bytes.length));
    after = random.pick(['end', 'reset']);
  } else if (random.chance(0.04)) after = random.pick(['end', 'reset']);
  if (after === 'keep' && !isWhole(bytes)) after = 'end';
  return { pieces: wholeStatusLines(split(random, bytes, 0.25)), after };
}

/** Whether an answer ends by itself; until it ends, nothing else can be seen of what a gateway makes of it. */
function isWhole(bytes: string): boolean {
  const end = bytes.indexOf('\r\n\r\n');
  const head = bytes.slice(0, end + 4);
  const length = /\r\ncontent-length: (\d{1,9})\r\n/i.exec(head)?.[1];
  if (end < 0 || !/^HTTP\/1\.1 [2345]/.test(head)) return false;
  if (/^HTTP\/1\.1 (?:204|304)/.test(head)) return true;
  if (length !== undefined) return bytes.length - head.length >= Number(length);
  return /\r\ntransfer-encoding: chunked\r\n/i.test(head) && bytes.includes('\r\n0\r\n', end);
}

/** Undoes cuts within a status line: undici forgets what came of a reason phrase before the cut. */
function wholeStatusLines(pieces: string[]): string[] {
  const whole: string[] = [];
  let before = '';
  for (const piece of pieces) {
    const inStatusLine = /^HTTP/i.test(before.slice(before.lastIndexOf('\n') + 1)) || before.length < 16;
    if (inStatusLine && whole.length > 0) whole.push(`${whole.pop()}${piece}`);
    else whole.push(piece);
    before += piece;
  }
  return whole;
}

/** Cuts bytes at arbitrary places. */
export function split(random: FuzzRandom, bytes: string, probability: number): string[] {
  if (!random.chance(probability) || bytes.length < 2) return [bytes];
  const cuts = new Set<number>();
  for (let n = 1 + random.integer(3); n > 0; n--) cuts.add(1 + random.integer(bytes.length - 1));
  const pieces: string[] = [];
  let from = 0;
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    pieces.push(bytes.slice(from, cut));
    from = cut;
  }
  return [...pieces, bytes.slice(from)];
}
