import type { Socket } from 'node:net';
import type { ProblemCode } from '../../shared/problems.ts';
import { rawProblem, sendAndClose } from '../answers/refusal.ts';
import type { Connection } from './exchange.ts';

/** The rest of a request's body will not come. The request's `error` event says so to whoever reads the body. */
export class MalformedBody extends Error {
  readonly code: ProblemCode;

  constructor(code: ProblemCode, cause?: Error) {
    super('The body of the request cannot be read to its end', { cause });
    this.name = 'MalformedBody';
    this.code = code;
  }
}

/**
 * What came on a connection cannot be read as HTTP. Requests that came before it are answered first; then it gets its
 * own answer, and the connection ends.
 */
export function onConnectionFault(
  error: NodeJS.ErrnoException,
  socket: Socket,
  connection: Connection | undefined,
): void {
  // More came after a request that said it was the last: nobody's request.
  if (error.code === 'HPE_CLOSED_CONNECTION') return;
  if (error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const last = connection?.last ?? null;
  // Nor is what makes no sense after the answer to it.
  if (connection?.closing && last === null) return;
  const [code, detail] = faultOf(error);
  if (connection === undefined || last === null) {
    sendAndClose(socket, rawProblem(code, detail));
    return;
  }
  // Told once: what else comes is unreadable for the same reason.
  if (connection.faulted) return;
  connection.faulted = true;
  if (last.res.writableFinished && last.req.complete) sendAndClose(socket, rawProblem(code, detail));
  else if (last.req.complete) last.res.once('close', () => sendAndClose(socket, rawProblem(code, detail)));
  else if (last.req.listenerCount('error') > 0) last.req.emit('error', new MalformedBody(code, error));
  // It has its answer, and nobody reads the rest of it.
  else if (last.res.writableEnded) socket.destroySoon();
}

/** An error of `node:http`'s parser. Neither part of it depends on how the packets were cut. */
type ParseError = NodeJS.ErrnoException & { reason?: string };

function faultOf({ code, reason }: ParseError): [ProblemCode, string?] {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return ['request_timeout'];
    case 'HPE_HEADER_OVERFLOW':
      return ['headers_too_large', 'Its target and header lines together are too large.'];
    case 'HPE_INVALID_VERSION':
      // Its other reasons are of what is no version.
      if (reason === 'Invalid HTTP version') return ['version_not_supported'];
  }
  return ['invalid_request', 'This is not an HTTP/1.1 request.'];
}
