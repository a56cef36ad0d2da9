/** What a client may put on a connection, and what has to become of it. */
export type CorpusRequest = {
  name: string;
  /** Latin-1, one character a byte. Made so that nothing but its form is wrong: the key is a good one. */
  bytes(key: string): string;
  /** The status of the one answer, after which the connection is closed; `null`: it is forwarded. */
  status: number | null;
};

/** A request with these lines after the request line; `body` follows the blank line. */
function request(
  name: string,
  status: number | null,
  lines: readonly string[],
  body = '',
  requestLine = 'POST /hostile HTTP/1.1',
): CorpusRequest {
  return {
    name,
    status,
    bytes: (key) => [requestLine, ...lines, `X-API-Key: ${key}`, '', body].join('\r\n'),
  };
}

/** As {@link request}, to be sent as it is, with `{key}` for the key's line. */
function raw(name: string, status: number | null, bytes: string): CorpusRequest {
  return { name, status, bytes: (key) => bytes.replace('{key}', `X-API-Key: ${key}`) };
}

const target = (name: string, text: string, status: number | null = 400, method = 'GET') =>
  request(`target: ${name}`, status, ['Host: a'], '', `${method} ${text} HTTP/1.1`);
const line = (name: string, text: string, status: number | null = 400) =>
  request(`request line: ${name}`, status, ['Host: a'], '', text);
const length = (name: string, ...lines: string[]) =>
  request(`length: ${name}`, 400, ['Host: a', ...lines], 'hello');
const coding = (name: string, status: number, ...lines: string[]) =>
  request(`coding: ${name}`, status, ['Host: a', ...lines], '5\r\nhello\r\n0\r\n\r\n');
const chunks = (name: string, body: string, status: number | null = 400) =>
  request(`chunks: ${name}`, status, ['Host: a', 'Transfer-Encoding: chunked'], body);
const header = (name: string, text: string, status: number | null = 400) =>
  request(`header: ${name}`, status, ['Host: a', text], '', 'GET /hostile HTTP/1.1');
const host = (name: string, ...lines: string[]) =>
  request(`host: ${name}`, 400, lines, '', 'GET /hostile HTTP/1.1');

/**
 * Heads that must be refused: two readers could take them for two different things, or they are not HTTP/1.1. Nothing of
 * them goes to the upstream. RFC 9112 sections 2.2, 3, 5 and 6; RFC 9110 sections 5.5 and 7.2.
 */
export const HOSTILE_HEADS: readonly CorpusRequest[] = [
  // Two lengths (RFC 9112 section 6.3)
  length('beside a transfer coding', 'Content-Length: 5', 'Transfer-Encoding: chunked'),
  length('after a transfer coding', 'Transfer-Encoding: chunked', 'Content-Length: 5'),
  length('beside an identity coding', 'Content-Length: 5', 'Transfer-Encoding: identity'),
  length('beside an unknown coding', 'Content-Length: 5', 'Transfer-Encoding: xchunked'),
  length('beside an empty coding', 'Content-Length: 5', 'Transfer-Encoding:'),
  length('two different ones', 'Content-Length: 5', 'Content-Length: 6'),
  length('two equal ones', 'Content-Length: 5', 'Content-Length: 5'),
  length('a list of equal ones', 'Content-Length: 5, 5'),
  length('a list of different ones', 'Content-Length: 5, 6'),
  length('in two spellings', 'Content-Length: 5', 'content-length: 6'),
  length('a plus sign', 'Content-Length: +5'),
  length('a minus sign', 'Content-Length: -5'),
  length('hexadecimal', 'Content-Length: 0x5'),
  length('a space inside', 'Content-Length: 5 5'),
  length('a fraction', 'Content-Length: 5.0'),
  length('an exponent', 'Content-Length: 5e0'),
  length('an underscore inside', 'Content-Length: 1_0'),
  length('empty', 'Content-Length:'),
  length('quoted', 'Content-Length: "5"'),
  length('beyond 64 bits', 'Content-Length: 18446744073709551621'),
  length('digits of another script', 'Content-Length: \xd9\xa5'),
  length('a vertical tab before it', 'Content-Length: \x0b5'),
  length('a form feed after it', 'Content-Length: 5\x0c'),
  length('spelt with an underscore', 'Content_Length: 5'),
  length('spelt with an underscore beside the real one', 'Content-Length: 5', 'Content_Length: 6'),
  length('a space before its colon', 'Content-Length : 5'),
  length('a tab before its colon', 'Content-Length\t: 5'),
  // Transfer codings (RFC 9112 section 6.1)
  coding('chunked, then identity', 400, 'Transfer-Encoding: chunked, identity'),
  coding('identity, then chunked', 501, 'Transfer-Encoding: identity, chunked'),
  coding('gzip, then chunked', 501, 'Transfer-Encoding: gzip, chunked'),
  coding('gzip alone', 501, 'Transfer-Encoding: gzip'),
  coding('identity alone', 501, 'Transfer-Encoding: identity'),
  coding('xchunked', 501, 'Transfer-Encoding: xchunked'),
  coding('chunkedx', 501, 'Transfer-Encoding: chunkedx'),
  coding('chunked twice in a list', 400, 'Transfer-Encoding: chunked, chunked'),
  coding('chunked twice in two lines', 400, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
  coding(
    'chunked and identity in two lines',
    400,
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: identity',
  ),
  coding(
    'identity and chunked in two lines',
    501,
    'Transfer-Encoding: identity',
    'Transfer-Encoding: chunked',
  ),
  coding('an empty line before chunked', 400, 'Transfer-Encoding:', 'Transfer-Encoding: chunked'),
  coding('a comma before it', 501, 'Transfer-Encoding: ,chunked'),
  coding('a comma after it', 400, 'Transfer-Encoding: chunked,'),
  coding('with a parameter', 501, 'Transfer-Encoding: chunked;q=1'),
  coding('quoted', 501, 'Transfer-Encoding: "chunked"'),
  coding('single-quoted', 501, "Transfer-Encoding: 'chunked'"),
  coding('a vertical tab before it', 400, 'Transfer-Encoding: \x0bchunked'),
  coding('a form feed before it', 400, 'Transfer-Encoding: \x0cchunked'),
  coding('a no-break space before it', 501, 'Transfer-Encoding: \xa0chunked'),
  coding('a NUL after it', 400, 'Transfer-Encoding: chunked\0'),
  coding('a space inside', 501, 'Transfer-Encoding: chun ked'),
  coding('a letter that folds to k', 501, 'Transfer-Encoding: chun\xe2\x84\xaaed'),
  coding('obs-fold before it', 400, 'Transfer-Encoding:', ' chunked'),
  coding('obs-fold after it', 400, 'Transfer-Encoding: chunked', ' '),
  coding('spelt with an underscore', 400, 'Transfer_Encoding: chunked'),
  coding('spelt with an underscore beside a length', 400, 'Content-Length: 5', 'Transfer_Encoding: chunked'),
  coding('a space before its colon', 400, 'Transfer-Encoding : chunked'),
  coding('a tab before its colon', 400, 'Transfer-Encoding\t: chunked'),
  coding('a space before its name', 400, ' Transfer-Encoding: chunked'),
  coding('a vertical tab before its name', 400, '\x0bTransfer-Encoding: chunked'),
  coding('a NUL in its name', 400, 'Transfer-\0Encoding: chunked'),
  coding('a newline hidden in the value before', 400, 'X: y\nTransfer-Encoding: chunked'),
  coding('a bare CR hidden in the value before', 400, 'X: y\rTransfer-Encoding: chunked'),
  // Fields (RFC 9112 section 5, RFC 9110 section 5.5)
  header('obs-fold with a space', 'X: a\r\n b'),
  header('obs-fold with a tab', 'X: a\r\n\tb'),
  header('a bare LF in a value', 'X: a\nb'),
  header('a bare LF at the end of a line', 'X: a\nY: b'),
  header('a bare CR in a value', 'X: a\rb'),
  header('a bare CR at the end of a value', 'X: a\r\r\nY: b'),
  header('a bare CR at the end of a line', 'X: a\rY: b'),
  header('a NUL in a value', 'X: a\0b'),
  header('a bell in a value', 'X: a\x07b'),
  header('an escape in a value', 'X: a\x1bb'),
  header('a delete in a value', 'X: a\x7fb'),
  header('a NUL in a name', 'X\0Y: a'),
  header('a space in a name', 'X Y: a'),
  header('a space before the colon', 'X : a'),
  header('a tab before the colon', 'X\t: a'),
  header('no colon', 'X'),
  header('an empty name', ': a'),
  header('a slash in a name', 'X/Y: a'),
  header('parentheses in a name', 'X(Y): a'),
  header('a byte over 0x7f in a name', 'X\xe9: a'),
  header('a full-width dash in a name', 'X\xef\xbc\x8dConsumer-ID: boss'),
  raw('header: the first line folded', 400, 'GET /hostile HTTP/1.1\r\n Host: a\r\n{key}\r\n\r\n'),
  raw('header: lines that end with LF only', 400, 'GET /hostile HTTP/1.1\nHost: a\n{key}\n\n'),
  raw('header: a head that ends with LF only', 400, 'GET /hostile HTTP/1.1\r\nHost: a\r\n{key}\r\n\n'),
  raw('header: a head that ends with CR only', 400, 'GET /hostile HTTP/1.1\r\nHost: a\r\n{key}\r\n\rGET'),
  raw('header: lines that end with CR only', 400, 'GET /hostile HTTP/1.1\rHost: a\r{key}\r\r'),
  // The request line (RFC 9112 section 3)
  line('no version', 'GET /hostile', 505),
  raw('request line: HTTP/0.9', 400, 'GET /hostile\r\n'),
  line('HTTP/0.9 by name', 'GET /hostile HTTP/0.9', 505),
  line('HTTP/1.2', 'GET /hostile HTTP/1.2', 505),
  line('HTTP/1.10', 'GET /hostile HTTP/1.10'),
  line('HTTP/1.01', 'GET /hostile HTTP/1.01'),
  line('HTTP/2.0', 'GET /hostile HTTP/2.0', 505),
  line('HTTP/3.0', 'GET /hostile HTTP/3.0', 505),
  line('lower-case http', 'GET /hostile http/1.1'),
  line('a space after the version', 'GET /hostile HTTP/1.1 '),
  line('a space before the method', ' GET /hostile HTTP/1.1'),
  line('a tab instead of a space', 'GET\t/hostile HTTP/1.1'),
  line('a tab before the version', 'GET /hostile\tHTTP/1.1'),
  line('a form feed instead of a space', 'GET\x0c/hostile HTTP/1.1'),
  line('a bare CR after the version', 'GET /hostile HTTP/1.1\r'),
  line('a NUL in the method', 'GE\0T /hostile HTTP/1.1'),
  line('a lower-case method', 'get /hostile HTTP/1.1'),
  line('an unknown method', 'HOSTILE /hostile HTTP/1.1'),
  line('no target', 'GET HTTP/1.1'),
  raw('request line: the preface of HTTP/2', 400, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  raw('request line: a TLS handshake', 400, '\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03'),
  raw('request line: the PROXY protocol', 400, 'PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n'),
  raw(
    'coding: of HTTP/1.0',
    400,
    'POST /hostile HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n{key}\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  ),
  header('an expectation nobody knows', 'Expect: the-spanish-inquisition', 417),
  // Targets (RFC 9112 section 3.2)
  target('absolute form', 'http://other/hostile'),
  target('absolute form of the same host', 'http://a/hostile'),
  target('absolute form of another scheme', 'file:///etc/passwd'),
  target('asterisk', '*', 400, 'OPTIONS'),
  target('asterisk with GET', '*'),
  target('authority form', 'other:443'),
  target('authority form with CONNECT', 'other:443', 405, 'CONNECT'),
  target('a relative path', 'hostile'),
  target('a query only', '?hostile'),
  target('a fragment', '/hostile#part'),
  target('an empty fragment', '/hostile#'),
  target('a fragment in the query', '/hostile?a#part'),
  target('a space', '/hos tile'),
  target('a tab', '/hos\ttile'),
  target('a bare CR', '/hos\rtile'),
  target('a bare LF', '/hos\ntile'),
  target('a NUL', '/hos\0tile'),
  target('a control', '/hos\x01tile'),
  target('a delete', '/hos\x7ftile'),
  target('a byte over 0x7f', '/hos\xe9tile'),
  target('UTF-8', '/hos\xc3\xa9tile'),
  target('a byte over 0x7f in the query', '/hostile?q=\xe9'),
  // Host (RFC 9112 section 3.2)
  host('missing'),
  host('two', 'Host: a', 'Host: b'),
  host('two equal ones', 'Host: a', 'Host: a'),
  host('spelt in two ways', 'Host: a', 'HOST: b'),
  host('with a path', 'Host: a/b'),
  host('with user information', 'Host: user@a'),
  host('with a query', 'Host: a?b'),
  host('with a fragment', 'Host: a#b'),
  host('with a space', 'Host: a b'),
  host('with a tab', 'Host: a\tb'),
  host('with a comma', 'Host: a,b'),
  host('with a backslash', 'Host: a\\b'),
  host('with a scheme', 'Host: http://a'),
  host('with a port that is none', 'Host: a:b'),
  host('with two ports', 'Host: a:1:2'),
  host('with a bracket left open', 'Host: [::1'),
  host('with a byte over 0x7f', 'Host: \xe9'),
  host('a space before its colon', 'Host : a'),
  host('folded', 'Host:', ' a'),
  // Size
  header('too long a value', `X: ${'x'.repeat(20_000)}`, 431),
  header('too long a name', `X${'x'.repeat(20_000)}: y`, 431),
  header('too many', Array.from({ length: 500 }, (_, i) => `X${i}: y`).join('\r\n'), 431),
  header('more than node:http keeps', Array.from({ length: 3000 }, () => 'X:').join('\r\n'), 431),
  target('too long', `/${'x'.repeat(20_000)}`, 431),
];

/**
 * Bodies that must be refused. Their heads are good, and a body is forwarded as it comes, so the upstream may see the
 * beginning of such a request but never its end (RFC 9112 section 7.1).
 */
export const HOSTILE_BODIES: readonly CorpusRequest[] = [
  chunks('a size that is no number', 'xyz\r\nhello\r\n0\r\n\r\n'),
  chunks('a negative size', '-5\r\nhello\r\n0\r\n\r\n'),
  chunks('a signed size', '+5\r\nhello\r\n0\r\n\r\n'),
  chunks('a size with 0x', '0x5\r\nhello\r\n0\r\n\r\n'),
  chunks('a size of 64 bits and more', 'fffffffffffffffff\r\nhello\r\n0\r\n\r\n'),
  chunks('a size that overflows to 5', '10000000000000005\r\nhello\r\n0\r\n\r\n'),
  chunks('an empty size', '\r\nhello\r\n0\r\n\r\n'),
  chunks('a space before the size', ' 5\r\nhello\r\n0\r\n\r\n'),
  chunks('a space after the size', '5 \r\nhello\r\n0\r\n\r\n'),
  chunks('a tab after the size', '5\t\r\nhello\r\n0\r\n\r\n'),
  chunks('an underscore in the size', '1_0\r\nhello\r\n0\r\n\r\n'),
  chunks('a NUL after the size', '5\0\r\nhello\r\n0\r\n\r\n'),
  chunks('a size line that ends with LF', '5\nhello\r\n0\r\n\r\n'),
  chunks('a size line that ends with CR', '5\rhello\r\n0\r\n\r\n'),
  chunks('a chunk that ends with LF', '5\r\nhello\n0\r\n\r\n'),
  chunks('a chunk that ends with CR', '5\r\nhello\r0\r\n\r\n'),
  chunks('a chunk without an end', '5\r\nhello0\r\n\r\n'),
  chunks('a chunk longer than its size', '5\r\nhello!\r\n0\r\n\r\n'),
  chunks('an extension with a bare LF', '5;a\nb\r\nhello\r\n0\r\n\r\n'),
  chunks('an extension with a bare CR', '5;a\rb\r\nhello\r\n0\r\n\r\n'),
  chunks('an extension with a NUL', '5;a=\0\r\nhello\r\n0\r\n\r\n'),
  chunks('an extension without a name', '5;\r\nhello\r\n0\r\n\r\n'),
  chunks('an extension with a space', '5;a b\r\nhello\r\n0\r\n\r\n'),
  chunks('an extension left open', '5;a="b\r\nhello\r\n0\r\n\r\n'),
  chunks('an extension without end', `5;a=${'x'.repeat(20_000)}\r\nhello\r\n0\r\n\r\n`),
  chunks('a last chunk that ends with LF', '5\r\nhello\r\n0\n\r\n'),
  chunks('an end with LF', '5\r\nhello\r\n0\r\n\n'),
  chunks('a trailer with a space before the colon', '0\r\nX : y\r\n\r\n'),
  chunks('a folded trailer', '0\r\nX: y\r\n z\r\n\r\n'),
  chunks('a trailer with a NUL', '0\r\nX: y\0\r\n\r\n'),
  chunks('a trailer with a bare LF', '0\r\nX: y\nZ: z\r\n\r\n'),
];

/** Unusual, and good. A proxy that refused them would break somebody's client. */
export const UNUSUAL: readonly CorpusRequest[] = [
  raw('one empty line before', null, '\r\nGET /unusual HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n'),
  // RFC 9112 section 3 lets a server take any blanks between the words of the request line.
  raw('two blanks before a target', null, 'GET  /unusual HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n'),
  raw('two blanks before a version', null, 'GET /unusual  HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n'),
  raw('HTTP/1.0 without Host', null, 'GET /unusual HTTP/1.0\r\n{key}\r\n\r\n'),
  raw('HTTP/1.0 kept alive', null, 'GET /unusual HTTP/1.0\r\nConnection: keep-alive\r\n{key}\r\n\r\n'),
  raw('no space after a colon', null, 'GET /unusual HTTP/1.1\r\nHost:a\r\nX:y\r\n{key}\r\n\r\n'),
  raw(
    'blanks around a value',
    null,
    'GET /unusual HTTP/1.1\r\nHost: \t a \t \r\nX: \t y \t\r\n{key}\r\n\r\n',
  ),
  raw('an empty value', null, 'GET /unusual HTTP/1.1\r\nHost: a\r\nX:\r\n{key}\r\n\r\n'),
  raw(
    'every mark that a name may have',
    null,
    "GET /unusual HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~1: y\r\n{key}\r\n\r\n",
  ),
  raw('Latin-1 in a value', null, 'GET /unusual HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n{key}\r\n\r\n'),
  raw('an empty Host', null, 'GET /unusual HTTP/1.1\r\nHost:\r\n{key}\r\n\r\n'),
  raw('an IPv6 Host', null, 'GET /unusual HTTP/1.1\r\nHost: [::1]:8010\r\n{key}\r\n\r\n'),
  raw('a Host with a port', null, 'GET /unusual HTTP/1.1\r\nHost: api.example.com:443\r\n{key}\r\n\r\n'),
  raw('a Host with an underscore', null, 'GET /unusual HTTP/1.1\r\nHost: my_api\r\n{key}\r\n\r\n'),
  raw(
    'marks in a target',
    null,
    'GET /unusual/~a;b=c/d:e@f!$&\'()*+,%20?g=[h]&{i}|\\^`" HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n',
  ),
  raw('two slashes first', null, 'GET //unusual HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n'),
  raw('a length of zero', null, 'POST /unusual HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{key}\r\n\r\n'),
  raw(
    'a length with zeros before it',
    null,
    'POST /unusual HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n{key}\r\n\r\nhello',
  ),
  raw('a body with GET', null, 'GET /unusual HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{key}\r\n\r\nhello'),
  raw(
    'Chunked in capitals',
    null,
    'POST /unusual HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n{key}\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  ),
  ...(
    [
      ['sizes in capitals and with zeros before', '0005\r\nhello\r\n0A\r\n0123456789\r\n000\r\n\r\n'],
      ['an extension', '5;a=b\r\nhello\r\n0;c\r\n\r\n'],
      ['a quoted extension', '5;a="b c"\r\nhello\r\n0\r\n\r\n'],
      ['a trailer', '5\r\nhello\r\n0\r\nX-Sum: y\r\n\r\n'],
      [
        'a trailer that claims to be somebody',
        '5\r\nhello\r\n0\r\nX-Consumer-ID: boss\r\nX_Consumer_ID: boss\r\n\r\n',
      ],
    ] as const
  ).map(([name, body]) =>
    raw(
      `chunks: ${name}`,
      null,
      `POST /unusual HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{key}\r\n\r\n${body}`,
    ),
  ),
];
