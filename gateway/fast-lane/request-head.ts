import type { Arrival } from '../listener/exchange.ts';
import { readTheRest } from '../listener/headers.ts';
import type { Route } from '../routes/routes.ts';
import type { Target } from '../upstream/upstream-group.ts';
import { upstreamHeaders, upstreamTarget } from '../upstream/upstream-headers.ts';

/** What else is in a value could be refused by undici, or make two headers of one. */
const SENDABLE = /^[\t\x20-\x7e]*$/;

/**
 * The head of a request as undici writes it, latin1; `null` when a value of ours is not plain enough.
 *
 * @param host of the server, for `Host`
 * @param length of the body; it is told where the method makes one expected (RFC 9110 section 8.6)
 */
export function requestHead(
  arrival: Arrival,
  route: Route,
  target: Target,
  host: string,
  length: number,
): string | null {
  const { method, allowed } = arrival;
  // What came with the request is plain, and so is what routes say.
  if (!SENDABLE.test(allowed?.key.customerId ?? '') || !SENDABLE.test(allowed?.plan.id ?? '')) return null;
  if (route.upstream.secret !== null) readTheRest(arrival.head);
  const path = upstreamTarget(arrival.target, route, target);
  let head = `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n${arrival.head.unread}`;
  const headers = upstreamHeaders(arrival, route, allowed);
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  if (method === 'GET' || method === 'DELETE') return `${head}\r\n`;
  return `${head}content-length: ${length}\r\n\r\n`;
}
