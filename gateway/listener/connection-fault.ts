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

/** An error of `node:http`'s parser: what it read at a time, and how far it got. */
type ParseError = NodeJS.ErrnoException & { rawPacket?: Buffer; bytesParsed?: number };

function faultOf(error: ParseError): [ProblemCode, string?] {
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return ['request_timeout'];
    case 'HPE_HEADER_OVERFLOW':
      // Whether it was the target or a header is not told: of what came in several packets only the last one is there to look at.
      return ['headers_too_large', 'Its target and header lines together are too large.'];
    case 'HPE_INVALID_VERSION':
      if (/ HTTP\/\d\.\d\r\n$/.test(faultyLine(error))) return ['version_not_supported'];
  }
  return ['invalid_request', 'This is not an HTTP/1.1 request.'];
}

/** The line that could not be read. Others may be before it, of requests that are all right. */
function faultyLine({ rawPacket = Buffer.alloc(0), bytesParsed = 0 }: ParseError): string {
  const from = bytesParsed === 0 ? 0 : rawPacket.lastIndexOf('\n', bytesParsed - 1) + 1;
  const end = rawPacket.indexOf('\n', from);
  return rawPacket.toString('latin1', from, end < 0 ? rawPacket.length : end + 1);
}
