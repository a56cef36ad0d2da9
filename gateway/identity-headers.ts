import type { Allowed } from './decision.ts';
import type { Arrival } from './exchange.ts';

/**
 * Who is asking, for the upstream, as name, value, ... Every one is always there, even when it is empty: an upstream that
 * looks for a header must find ours and never one that a client made up.
 */
export function identityHeaders(arrival: Arrival, allowed: Allowed | null): string[] {
  return [
    'X-Consumer-ID',
    allowed?.key.customerId ?? '',
    'X-Consumer-Plan',
    allowed?.plan.id ?? '',
    'X-Credential-Identifier',
    allowed?.key.id ?? '',
    'X-Request-ID',
    arrival.requestId,
    'X-Forwarded-For',
    arrival.forwardedFor,
    'X-Forwarded-Proto',
    arrival.forwardedProto,
    'X-Forwarded-Host',
    arrival.forwardedHost,
  ];
}
