import { MalformedBody } from '../listener/connection-fault.ts';
import { Overloaded } from './upstream-group.ts';

/** How a forwarded request went wrong. */
export type ForwardFailure = 'unreachable' | 'timeout' | 'not_sendable' | 'malformed_body' | 'overloaded';

export function failureOf(error: Error): ForwardFailure {
  if (error instanceof MalformedBody) return 'malformed_body';
  if (error instanceof Overloaded) return 'overloaded';
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') return 'timeout';
  return code === 'UND_ERR_INVALID_ARG' || code === 'UND_ERR_NOT_SUPPORTED' ? 'not_sendable' : 'unreachable';
}

/** Whether a failure says something about the server that was asked. */
export function isServersFault(error: Error): boolean {
  const failure = failureOf(error);
  return failure === 'unreachable' || failure === 'timeout';
}

/** Whether a connection that was there ended, as happens to one that was kept for too long. */
export function connectionBroke(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE';
}
