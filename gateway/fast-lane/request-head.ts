import type { Arrival } from '../exchange.ts';
import type { Route } from '../routes.ts';
import type { Target } from '../upstream-group.ts';
import { upstreamHeaders, upstreamTarget } from '../upstream-headers.ts';

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
  const { method } = arrival;
  const headers = upstreamHeaders(arrival, route, arrival.allowed);
  const path = upstreamTarget(arrival.target, route, target);
  let head = `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n`;
  for (let i = 0; i < headers.length; i += 2) {
    const value = headers[i + 1] as string;
    if (!SENDABLE.test(value)) return null;
    head += `${headers[i]}: ${value}\r\n`;
  }
  if (method === 'GET' || method === 'DELETE') return `${head}\r\n`;
  return `${head}content-length: ${length}\r\n\r\n`;
}
