import type { FuzzRandom } from './fuzz-random.ts';
import { HOSTILE_BODIES, HOSTILE_HEADS, UNUSUAL } from './request-corpus.ts';

const METHODS = ['GET', 'GET', 'GET', 'GET', 'POST', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'];
const ODD_METHODS = ['get', 'TRACE', 'QUERY', 'PROPFIND', 'FOO', 'PURGE', 'M-SEARCH', 'GETT', '', 'PRI'];
const TARGETS = [
  '/',
  '/v1/items',
  '/v1/items?limit=10&after=x%20y',
  '/a/b;c=d/e',
  "/~u/$-_.!*'(),@:&=+",
  '/%2e%2e/x',
];
const ODD_TARGETS = [
  '*',
  '',
  'v1',
  'http://h/x',
  '//h/x',
  '/a b',
  '/a#b',
  '/\x7f',
  '/é',
  '/a|b',
  '/[x]',
  '/"',
  '/a\tb',
  '/../x',
  '?x',
];
const VERSIONS = ['HTTP/1.0', 'HTTP/1.2', 'HTTP/2.0', 'http/1.1', 'HTTP/1.1 ', 'HTTP/0.9', 'HTTP/11', ''];
const PLAIN_HEADERS = [
  'User-Agent: fuzz/1.0 (x; y)',
  'Accept: */*',
  'accept-encoding: gzip, deflate',
  'Content-Type: application/json',
  'Cookie: a=b; c=d',
  'X-Custom: one',
  'x-custom: two',
  'If-None-Match: "abc"',
  'Cache-Control: no-cache',
  'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  'Connection: keep-alive',
  'CONNECTION: Keep-Alive',
];
const ODD_HEADERS = [
  'Transfer-Encoding: chunked',
  'transfer-encoding: Chunked',
  'Transfer-Encoding: identity',
  'Transfer-Encoding : chunked',
  'Transfer_Encoding: chunked',
  'Connection: close',
  'Connection: x-custom',
  'Connection: keep-alive, x-custom',
  'Connection: upgrade',
  'Connection: content-length, x-consumer-id',
  'Keep-Alive: timeout=5',
  'Proxy-Connection: close',
  'Upgrade: websocket',
  'Upgrade: h2c',
  'Expect: 100-continue',
  'Expect: 200-ok',
  'TE: trailers',
  'Trailer: x-sum',
  'Host: other',
  'host: h',
  'Host:',
  'Host: a b',
  'Host: h:1:2',
  'Host: [::1]:80',
  'X-Consumer-ID: me',
  'X_Consumer_ID: me',
  'x-forwarded-for: 1.2.3.4',
  'X-Forwarded-Proto: https',
  'Forwarded: for=1.2.3.4',
  'Via: 1.0 a',
  'X-Request-ID: mine',
  'X-Real-IP: 1.2.3.4',
  'X-Api-Key: other',
  'Authorization: Basic dXNlcjpwYXNz',
  'Proxy-Authorization: Basic dXNlcjpwYXNz',
  'Content-Length: 0',
  'Content-Length: 3',
  'Content-Length: +3',
  'Content-Length: 03',
  'Content-Length: 3, 3',
  'Content-Length: 3 ',
  'Content-Length : 3',
  'Content-Length:\t3',
  'Content-Length: -1',
  'Content-Length: 0x3',
  'Content-Length: 99999999999999999999',
  'Content_Length: 3',
  'X-Empty:',
  'X-Empty: ',
  'X-Space:  two before',
  'X-Space: after \t',
  'X-Tab: a\tb',
  'X-None:none',
  'X-High: \xe9\xff',
  'X-Del: a\x7fb',
  'X-Nul: a\0b',
  'X-Cr: a\rb',
  'X-Lf: a\nb',
  'X-Fold: a\r\n b',
  ' X-Lead: a',
  'X Space: a',
  'X-Colon',
  ': nameless',
  'X-Quote": a',
  '(x): a',
];
const ODD_BYTES = [
  '\0',
  '\r',
  '\n',
  '\t',
  ' ',
  ':',
  ',',
  ';',
  '\x7f',
  '\x80',
  '\xff',
  '\r\n',
  '\r\n\r\n',
  '0',
  'A',
  '/',
  '%',
  '#',
];

/** The bytes of a request, or of what looks like one, latin1. */
export function fuzzRequest(random: FuzzRandom, keys: readonly string[]): string {
  if (random.chance(0.04)) {
    const corpus = random.pick([HOSTILE_HEADS, HOSTILE_BODIES, UNUSUAL]);
    const bytes = random.pick(corpus).bytes(random.pick(keys));
    return random.chance(0.5) ? bytes : mutate(random, bytes);
  }
  const odd = random.chance(0.45);
  let bytes = request(random, keys, odd);
  if (odd && random.chance(0.4)) bytes = mutate(random, bytes);
  if (random.chance(0.04)) bytes += request(random, keys, random.chance(0.2));
  if (random.chance(0.02)) bytes = bytes.slice(0, random.integer(bytes.length));
  return bytes;
}

function request(random: FuzzRandom, keys: readonly string[], odd: boolean): string {
  const method = odd && random.chance(0.1) ? random.pick(ODD_METHODS) : random.pick(METHODS);
  const target = odd && random.chance(0.15) ? random.pick(ODD_TARGETS) : `${random.pick(TARGETS)}`;
  const version = odd && random.chance(0.1) ? random.pick(VERSIONS) : 'HTTP/1.1';
  const lines = [
    `${random.chance(0.8) ? 'Host' : random.pick(['host', 'HOST', 'hOsT'])}: ${random.pick(['h', 'api.example.com', '127.0.0.1:8010'])}`,
  ];
  if (odd && random.chance(0.05)) lines.pop();
  const key = random.pick(keys);
  const how = random.integer(20);
  if (how < 13) lines.push(`X-API-Key: ${key}`);
  else if (how < 18) lines.push(`authorization: Bearer ${key}`);
  else if (how < 19) lines.push(`X-API-Key: ${key}`, `Authorization: bearer ${random.pick(keys)}`);
  for (let n = random.integer(4); n > 0; n--) lines.push(random.pick(PLAIN_HEADERS));
  let body = '';
  const mayHaveBody = ['POST', 'PUT', 'PATCH'].includes(method) || random.chance(0.03);
  if (mayHaveBody && random.chance(0.8)) {
    body = bodyText(random);
    if (odd && random.chance(0.25)) {
      lines.push('Transfer-Encoding: chunked');
      body = chunked(random, body);
    } else lines.push(`${random.pick(['Content-Length', 'content-length'])}: ${body.length}`);
    if (odd && random.chance(0.1)) body = random.chance(0.5) ? `${body}surplus` : body.slice(0, -1);
  }
  if (odd) for (let n = random.integer(3); n > 0; n--) lines.push(random.pick(ODD_HEADERS));
  random.shuffle(lines);
  const end = odd && random.chance(0.05) ? random.pick(['\n', '\r', '\r\r\n', '\n\r']) : '\r\n';
  const before = odd && random.chance(0.03) ? random.pick(['\r\n', '\n', ' ', '\r\n\r\n']) : '';
  return `${before}${method} ${target} ${version}${end}${lines.join(end)}${end}${end}${body}`;
}

/** Printable and not, of a length around what matters or of no matter. */
export function bodyText(random: FuzzRandom): string {
  const length = random.chance(0.9)
    ? random.integer(80)
    : random.pick([1, 1000, 8000, 16_384, 20_000, 70_000, 200_000]);
  const text = random.pick(['{"a":1}', 'x', '\r\n\r\n', 'GET / HTTP/1.1\r\n', '\0\xff\x80', '0\r\n\r\n']);
  return text.repeat(Math.ceil(length / text.length)).slice(0, length);
}

export function chunked(random: FuzzRandom, body: string): string {
  let bytes = '';
  for (let at = 0; at < body.length; ) {
    const piece = body.slice(at, at + 1 + random.integer(body.length));
    at += piece.length;
    bytes += `${piece.length.toString(16)}${random.chance(0.05) ? ';ext=1' : ''}\r\n${piece}\r\n`;
  }
  return `${bytes}0\r\n${random.chance(0.1) ? 'X-Sum: 1\r\n' : ''}\r\n`;
}

/** Changes a few bytes, mostly in the head. */
export function mutate(random: FuzzRandom, bytes: string): string {
  let changed = bytes;
  for (let n = 1 + random.integer(2); n > 0; n--) {
    const at = random.integer(Math.min(changed.length, 400));
    const rest = random.integer(3);
    const to = rest === 2 ? '' : random.pick(ODD_BYTES);
    changed = changed.slice(0, at) + to + changed.slice(at + (rest === 1 ? 0 : 1));
  }
  return changed;
}
