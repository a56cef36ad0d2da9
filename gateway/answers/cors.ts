import type { Arrival } from '../listener/exchange.ts';
import type { CorsPolicy } from '../routes/route-spec.ts';

/** Headers of ours that a script may read in any answer. */
const OURS = [
  'RateLimit',
  'RateLimit-Policy',
  'X-RateLimit-Limit',
  'X-RateLimit-Remaining',
  'X-RateLimit-Reset',
  'Retry-After',
  'X-Request-ID',
];
/** Headers that a script may always send: without a key there is no use in asking. */
const ALWAYS_SENT = ['Authorization', 'X-API-Key', 'Content-Type'];

/**
 * What every answer on a route with CORS says to browsers, refusals too, so that a script can read why it was refused
 * (https://fetch.spec.whatwg.org/#http-cors-protocol). As name, value, ...; `null`: the route says nothing of it.
 */
export function corsHeaders({ route, head }: Pick<Arrival, 'route' | 'head'>): string[] | null {
  const cors = route === null ? null : route.policy.cors;
  if (cors === null) return null;
  const origin = headerValue(head.endToEnd, 'origin');
  const headers = cors.origins === '*' ? [] : ['Vary', 'Origin'];
  if (origin === null || !isAllowed(cors, origin)) return headers;
  headers.push('Access-Control-Allow-Origin', cors.origins === '*' ? '*' : origin);
  if (cors.credentials) headers.push('Access-Control-Allow-Credentials', 'true');
  headers.push('Access-Control-Expose-Headers', [...OURS, ...cors.exposedHeaders].join(', '));
  return headers;
}

/** Whether a browser asks if it may send a request, rather than sending one. */
export function isPreflight({ method, head }: Pick<Arrival, 'method' | 'head'>): boolean {
  return (
    method === 'OPTIONS' &&
    headerValue(head.endToEnd, 'origin') !== null &&
    headerValue(head.endToEnd, 'access-control-request-method') !== null
  );
}

/** The answer to a preflight, beside {@link corsHeaders}. An origin that may do nothing is told nothing. */
export function preflightHeaders(cors: CorsPolicy, { head }: Pick<Arrival, 'head'>): string[] {
  if (!isAllowed(cors, headerValue(head.endToEnd, 'origin') ?? '')) return [];
  return [
    'Access-Control-Allow-Methods',
    cors.methods.join(', '),
    'Access-Control-Allow-Headers',
    [...ALWAYS_SENT, ...cors.headers].join(', '),
    'Access-Control-Max-Age',
    `${cors.maxAgeSeconds}`,
  ];
}

/** An upstream's header lines without what it says of CORS itself: two answers to one question are none to a browser. */
export function withoutCors(headers: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    if (!name.toLowerCase().startsWith('access-control-')) kept.push(name, headers[i + 1] as string);
  }
  return kept;
}

function isAllowed({ origins }: CorsPolicy, origin: string): boolean {
  return origins === '*' || origins.includes(origin);
}

/** @param name in lower case */
function headerValue(headers: readonly string[], name: string): string | null {
  for (let i = 0; i < headers.length; i += 2) {
    const each = headers[i] as string;
    if (each.length === name.length && each.toLowerCase() === name) return headers[i + 1] as string;
  }
  return null;
}
