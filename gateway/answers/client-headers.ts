import type { IncomingHttpHeaders } from 'node:http';
import type { Allowed } from '../decision/decision.ts';
import { settleCost } from '../decision/spending.ts';
import type { Arrival } from '../listener/exchange.ts';
import { HeaderNames } from '../listener/header-names.ts';
import { namesNothing, withoutNamed } from '../listener/headers.ts';
import type { Route } from '../routes/routes.ts';
import { corsHeaders, withoutCors } from './cors.ts';
import { rateLimitHeaders, rateLimitLines } from './ratelimit-headers.ts';

/** Header lines as a server of the upstream sent them: name, value, ... over HTTP/1.1, an object over HTTP/2. */
export type ReceivedHeaders = readonly (Buffer | string)[] | IncomingHttpHeaders;

/** What the upstream's answer may not say: hop-by-hop fields, and limits and request ids, which are ours. */
export const NOT_FROM_UPSTREAM = new HeaderNames([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'x-request-id',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
  'ratelimit',
  'ratelimit-policy',
  'ratelimit-limit',
  'ratelimit-remaining',
  'ratelimit-reset',
]);

/** What bears on the message before its end and so means nothing, or mischief, after it (RFC 9110 section 6.5.1). */
const NOT_IN_TRAILERS = new Set([
  ...NOT_FROM_UPSTREAM,
  'age',
  'authorization',
  'cache-control',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'date',
  'expires',
  'host',
  'location',
  'retry-after',
  'set-cookie',
  'vary',
  'via',
  'www-authenticate',
]);

/**
 * The header lines of an answer as they go to the client, as name, value, ...: those of the upstream that are
 * end-to-end, then ours. `Connection`, `Date` and `Transfer-Encoding` are not among them: they belong to the connection
 * that is used.
 *
 * @param allowed `null` on a public route
 */
export function clientHeaders(
  received: ReceivedHeaders,
  arrival: Arrival,
  route: Route,
  allowed: Allowed | null,
): string[] {
  let headers = responseHeaders(received, route);
  const cors = corsHeaders(arrival);
  if (cors !== null) headers = [...withoutCors(headers), ...cors];
  if (allowed !== null) {
    const { cost } = route.policy;
    if (typeof cost !== 'number') settleCost(allowed, onlyValue(headers, cost.header), Date.now());
  }
  for (const text of ownHeaders(arrival, allowed)) headers.push(text);
  return headers;
}

/** The header lines of an answer that are ours, as name, value, ... @param allowed `null` on a public route */
function ownHeaders(arrival: Arrival, allowed: Allowed | null): string[] {
  const headers = allowed === null ? [] : rateLimitHeaders(allowed.windows, allowed.quota);
  headers.push('X-Request-ID', arrival.requestId, 'Via', '1.1 tollgate');
  return headers;
}

/** The same as the text of a head, each line with its CRLF. */
export function ownLines({ requestId }: Arrival, { windows, quota }: Allowed): string {
  return `${rateLimitLines(windows, quota)}X-Request-ID: ${requestId}\r\nVia: 1.1 tollgate\r\n`;
}

/** The value of a header that stands there once; `undefined` when it does not. */
function onlyValue(headers: readonly string[], name: string): string | undefined {
  const lower = name.toLowerCase();
  let value: string | undefined;
  for (let i = 0; i < headers.length; i += 2) {
    if ((headers[i] as string).toLowerCase() !== lower) continue;
    if (value !== undefined) return undefined;
    value = headers[i + 1];
  }
  return value;
}

/** The upstream's headers that go on to the client, as name, value, ...; repeated ones (`Set-Cookie`) stay repeated. */
export function responseHeaders(received: ReceivedHeaders, route: Pick<Route, 'upstream'>): string[] {
  const raw = linesOf(received);
  const { secret } = route.upstream;
  const endToEnd: string[] = [];
  let connection = '';
  for (let i = 0; i < raw.length; i += 2) {
    const name = latin1(raw[i] as Buffer | string);
    if (secret === null && !NOT_FROM_UPSTREAM.mayHave(name.length, name.charCodeAt(0))) {
      endToEnd.push(name, latin1(raw[i + 1] as Buffer | string));
      continue;
    }
    const lower = name.toLowerCase();
    if (!NOT_FROM_UPSTREAM.has(lower)) {
      // An upstream that shows what it was sent must not show its secret to clients.
      if (lower !== secret?.header.toLowerCase()) endToEnd.push(name, latin1(raw[i + 1] as Buffer | string));
    } else if (lower === 'connection') {
      const value = latin1(raw[i + 1] as Buffer | string);
      if (!namesNothing(value)) connection += `,${value}`;
    }
  }
  return connection !== '' ? withoutNamed(endToEnd, connection) : endToEnd;
}

/** The upstream's trailer fields that go on to the client, as pairs. */
export function clientTrailers(
  received: ReceivedHeaders,
  route: Pick<Route, 'upstream'>,
): [string, string][] {
  const fields = responseHeaders(received, route);
  const trailers: [string, string][] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (!NOT_IN_TRAILERS.has(name.toLowerCase())) trailers.push([name, fields[i + 1] as string]);
  }
  return trailers;
}

/** What the upstream's `Trailer` lines announce, of what goes on to the client; empty: nothing. */
export function announcedTrailers(received: ReceivedHeaders, route: Pick<Route, 'upstream'>): string {
  const raw = linesOf(received);
  let announced = '';
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as Buffer | string;
    if (name.length !== 7 || latin1(name).toLowerCase() !== 'trailer') continue;
    for (const each of latin1(raw[i + 1] as Buffer | string).split(',')) {
      const field = each.trim();
      const lower = field.toLowerCase();
      if (field === '' || NOT_IN_TRAILERS.has(lower)) continue;
      if (lower !== route.upstream.secret?.header.toLowerCase())
        announced += announced === '' ? field : `, ${field}`;
    }
  }
  return announced;
}

function linesOf(received: ReceivedHeaders): readonly (Buffer | string)[] {
  if (Array.isArray(received)) return received;
  const lines: string[] = [];
  for (const [name, value] of Object.entries(received as IncomingHttpHeaders)) {
    if (typeof value === 'string') lines.push(name, value);
    else if (value !== undefined) for (const each of value) lines.push(name, each);
  }
  return lines;
}

function latin1(text: Buffer | string): string {
  return typeof text === 'string' ? text : text.toString('latin1');
}
