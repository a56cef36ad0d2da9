import type { Allowed } from '../decision/decision.ts';
import type { Arrival } from '../listener/exchange.ts';
import { onePiece } from '../one-piece.ts';
import type { Route } from '../routes/routes.ts';
import type { Target } from './upstream-group.ts';

/**
 * What a server of the upstream gets as the request's target: its own base path, then the target as it came, with the
 * route's prefix replaced where the route says so. Raw: nothing is decoded or resolved.
 */
export function upstreamTarget(target: string, route: Route, { basePath }: Pick<Target, 'basePath'>): string {
  const { path, rewrite } = route;
  if (rewrite === null) return basePath + target;
  const rest = path === '/' ? target : target.slice(path.length);
  const to = rewrite.endsWith('/') ? rewrite.slice(0, -1) : rewrite;
  // What follows the prefix is nothing, a query, or begins with a slash; a target has to begin with one.
  const slash = to === '' && basePath === '' && !rest.startsWith('/') ? '/' : '';
  return basePath + to + slash + rest;
}

/**
 * The header lines of a request as they go upstream, as name, value, ...: the end-to-end ones as they came, then ours.
 * `Host`, `Connection` and the framing are not among them: they belong to the connection that is used.
 *
 * Of ours every one is always there, even when it is empty: an upstream that looks for one must find it, and never one
 * that a client made up. `Connection` cannot name them away, since they come after it was obeyed.
 *
 * @param allowed `null` on a public route
 * @param received the version of HTTP that the request came in, for `Via` (RFC 9110 section 7.6.3)
 */
export function upstreamHeaders(
  arrival: Arrival,
  route: Route,
  allowed: Allowed | null,
  received = '1.1',
): string[] {
  const { secret } = route.upstream;
  const headers =
    secret === null ? arrival.head.endToEnd.slice() : without(arrival.head.endToEnd, secret.header);
  headers.push(
    'X-Consumer-ID',
    allowed === null ? '' : (allowed.key.customerId ?? ''),
    'X-Consumer-Plan',
    allowed === null ? '' : allowed.plan.id,
    'X-Credential-Identifier',
    allowed === null ? '' : allowed.key.id,
    'X-Request-ID',
    arrival.requestId,
    'X-Forwarded-For',
    arrival.forwardedFor,
    'X-Forwarded-Proto',
    arrival.forwardedProto,
    'X-Forwarded-Host',
    arrival.forwardedHost,
    // A line of its own after those that came is the same as their list with one more member (RFC 9110 section 5.3).
    'Via',
    received === '1.1' ? '1.1 tollgate' : `${received} tollgate`,
  );
  if (secret !== null) headers.push(secret.header, secret.value);
  return headers;
}

/** What stands between the values. Added up, as a template asks of each of its pieces whether it is a string. */
const CONSUMER = 'X-Consumer-ID: ';
const PLAN = '\r\nX-Consumer-Plan: ';
const KEY = '\r\nX-Credential-Identifier: ';
const REQUEST = '\r\nX-Request-ID: ';

/**
 * The same as the text of a head, each line with its CRLF, from as few pieces as can be. Lines of the request that were
 * left as they came go as they are: where the route has a secret, there may be none.
 */
export function upstreamLines(arrival: Arrival, route: Route, { key, plan }: Allowed): string {
  const { head, requestId } = arrival;
  const { secret } = route.upstream;
  const endToEnd = secret === null ? head.endToEnd : without(head.endToEnd, secret.header);
  let lines = head.unread;
  for (let i = 0; i < endToEnd.length; i += 2) lines += `${endToEnd[i]}: ${endToEnd[i + 1]}\r\n`;
  lines += CONSUMER + (key.customerId ?? '') + PLAN + plan.id + KEY + key.id + REQUEST + requestId;
  lines += wayLines(arrival);
  return secret === null ? lines : `${lines}${secret.header}: ${secret.value}\r\n`;
}

/**
 * The lines on the way that a request took, after the end of the line before. Of one that comes from no proxy they are those of the
 * last one on its connection, unless it names another host.
 */
function wayLines({ connection, forwardedFor, forwardedProto, forwardedHost }: Arrival): string {
  if (connection.said?.host === forwardedHost) return connection.said.lines;
  const lines =
    `\r\nX-Forwarded-For: ${forwardedFor}\r\nX-Forwarded-Proto: ${forwardedProto}\r\n` +
    `X-Forwarded-Host: ${forwardedHost}\r\nVia: 1.1 tollgate\r\n`;
  if (!connection.peer.trusted) connection.said = { host: forwardedHost, lines: onePiece(lines) };
  return lines;
}

/** What else is in a value could be refused by undici, or make two headers of one. */
const SENDABLE = /^[\t\x20-\x7e]*$/;

/**
 * Whether what we say of a key can stand in a head as it is. What came with a request that is plain can, and so can what routes
 * say and the ids of plans.
 */
export function isSendable({ key: { customerId } }: Allowed): boolean {
  return customerId === null || SENDABLE.test(customerId);
}

/** Header lines without those of a name, in whatever spelling a CGI-like upstream would take for it. */
function without(headers: readonly string[], name: string): string[] {
  const plain = plainName(name);
  const kept: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const each = headers[i] as string;
    if (plainName(each) !== plain) kept.push(each, headers[i + 1] as string);
  }
  return kept;
}

function plainName(name: string): string {
  return name.toLowerCase().replaceAll('_', '-');
}
