import type { Allowed } from '../decision/decision.ts';
import type { Arrival } from '../listener/exchange.ts';
import { readTheRest } from '../listener/headers.ts';
import type { Route } from '../routes/routes.ts';
import type { Target } from '../upstream/upstream-group.ts';
import { isSendable, upstreamLines, upstreamTarget } from '../upstream/upstream-headers.ts';

/**
 * The head of a request as undici writes it, latin1; `null` when a value of ours is not plain enough.
 *
 * @param hop as `Links` has it
 * @param length of the body; it is told where the method makes one expected (RFC 9110 section 8.6)
 */
export function requestHead(
  arrival: Arrival,
  route: Route,
  target: Target,
  hop: string,
  length: number,
): string | null {
  const { method } = arrival;
  const allowed = arrival.allowed as Allowed;
  if (!isSendable(allowed)) return null;
  if (route.upstream.secret !== null) readTheRest(arrival.head);
  const path = upstreamTarget(arrival.target, route, target);
  const head = `${method} ${path}${hop}${upstreamLines(arrival, route, allowed)}`;
  if (method === 'GET' || method === 'DELETE') return `${head}\r\n`;
  return `${head}content-length: ${length}\r\n\r\n`;
}
