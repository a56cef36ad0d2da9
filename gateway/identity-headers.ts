import type { Allowed } from './decision.ts';
import type { Exchange } from './exchange.ts';

/**
 * Who is asking, for the upstream, as name, value, ... Every one is always there, even when it is empty: an upstream that
 * looks for a header must find ours and never one that a client made up.
 */
export function identityHeaders(exchange: Exchange, allowed: Allowed | null): string[] {
  return [
    'X-Consumer-ID',
    allowed?.key.customerId ?? '',
    'X-Consumer-Plan',
    allowed?.plan.id ?? '',
    'X-Credential-Identifier',
    allowed?.key.id ?? '',
    'X-Request-ID',
    exchange.requestId,
    'X-Forwarded-For',
    exchange.forwardedFor,
    'X-Forwarded-Proto',
    exchange.forwardedProto,
    'X-Forwarded-Host',
    exchange.forwardedHost,
  ];
}
