import { type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { type Problem, type ProblemCode, problem } from '../../shared/problems.ts';
import type { Refused } from '../decision/decision.ts';
import { closeAfter, type Exchange } from '../listener/exchange.ts';
import { corsHeaders } from './cors.ts';
import { rateLimitHeaders } from './ratelimit-headers.ts';

/** A refused request's body up to this size is read and thrown away, so that the connection can go on. */
export const SMALL_BODY = 64 * 1024;
/** How much more of a larger one is taken, and for how long, so that its sender gets to read the answer. */
const LINGER_BYTES = 1024 * 1024;
const LINGER_MS = 1000;

/** An answer of our own, its headers as name, value, ... */
export type ProblemAnswer = { status: number; reason: string; headers: string[]; body: Buffer };

/** Answers with the problem a decision came to. */
export function answerRefused(exchange: Exchange, refusal: Refused): void {
  send(exchange, refusedAnswer(exchange.requestId, refusal));
}

/**
 * Answers with a problem (RFC 9457).
 *
 * @param headers further ones, as name, value, ...
 */
export function answerProblem(
  exchange: Exchange,
  code: ProblemCode,
  detail?: string,
  extensions: Record<string, unknown> = {},
  headers: string[] = [],
): void {
  send(exchange, problemAnswer(exchange.requestId, code, detail, extensions, headers));
}

/** The answer to a request that a decision refused. */
export function refusedAnswer(requestId: string, refusal: Refused): ProblemAnswer {
  const { code, detail, extensions, retryAfterSeconds, windows, quota } = refusal;
  const headers = rateLimitHeaders(windows, quota);
  if (retryAfterSeconds !== null) headers.push('Retry-After', `${retryAfterSeconds}`);
  return problemAnswer(requestId, code, detail, extensions, headers);
}

/**
 * The answer that is a problem. A 401 carries the challenge of RFC 6750 section 3, with an error only when there was a
 * key to be wrong.
 *
 * @param headers further ones, as name, value, ...; added to
 */
export function problemAnswer(
  requestId: string,
  code: ProblemCode,
  detail?: string,
  extensions: Record<string, unknown> = {},
  headers: string[] = [],
): ProblemAnswer {
  const problemBody = problem(code, detail, { ...extensions, request_id: requestId });
  const { status } = problemBody;
  headers.push('X-Request-ID', requestId);
  if (status === 401) {
    const error = code === 'missing_key' ? '' : ', error="invalid_token"';
    headers.push('WWW-Authenticate', `Bearer realm="api"${error}`);
  }
  const body = Buffer.from(JSON.stringify(problemBody));
  headers.push(
    'Content-Type',
    'application/problem+json',
    'Content-Length',
    `${body.length}`,
    'Cache-Control',
    'no-store',
  );
  // Named outright: a reason that an earlier attempt left behind may be what could not be sent.
  return { status, reason: STATUS_CODES[status] ?? '', headers, body };
}

/** Sends an answer of our own. */
export function send(exchange: Exchange, { status, reason, headers, body }: ProblemAnswer): void {
  const cors = corsHeaders(exchange);
  if (cors !== null) headers.push(...cors);
  if (mustClose(exchange) && closeAfter(exchange)) headers.push('Connection', 'close');
  exchange.res.writeHead(status, reason, headers);
  // `node:http` may say so, too.
  if (!exchange.res.shouldKeepAlive) closeAfter(exchange);
  finish(exchange, exchange.res, body);
}

/** Whether the connection cannot go on, or the rest of this request is not worth waiting for. */
function mustClose({ req, head, connection }: Exchange): boolean {
  if (connection.closing || connection.ending) return true;
  if (!head.hasBody) return false;
  // As `node:http` has it: whoever was not told to send a body may send it or not. That it did not wait may be seen later.
  if (head.expectsContinue) return true;
  if (req.complete) return false;
  return connection.faulted || head.contentLength === null || Number(head.contentLength) > SMALL_BODY;
}

/** Whether body that nobody wants is on its way. */
function comesMore({ req, head, connection }: Exchange): boolean {
  return head.hasBody && !req.complete && !head.expectsContinue && !connection.faulted;
}

/**
 * Ends the response. Where the connection closes with body still on its way, the whole answer is sent first and a little
 * of the body taken after it: closing at once would reset the connection, and the answer with it (RFC 9112 section 9.6).
 */
function finish(exchange: Exchange, res: ServerResponse, text: Buffer): void {
  const { req } = exchange;
  if (!mustClose(exchange) || !comesMore(exchange)) {
    // As text it shares one write with the headers; as bytes it could come after an interim answer that waits, and they before.
    res.end(text.toString('latin1'), 'latin1');
    return;
  }
  res.write(req.method === 'HEAD' ? '' : text.toString('latin1'), 'latin1');
  let taken = 0;
  const end = () => {
    clearTimeout(timer);
    res.end();
  };
  const timer = setTimeout(end, LINGER_MS);
  timer.unref();
  req.on('data', (chunk: Buffer) => {
    taken += chunk.length;
    if (taken > LINGER_BYTES) end();
  });
  req.once('end', end);
  req.once('error', end);
  req.resume();
  res.once('close', () => clearTimeout(timer));
}

/**
 * The bytes of a problem, for a connection on which no request came about. The connection is closed after it.
 *
 * @param headers further lines
 */
export function rawProblem(code: ProblemCode, detail?: string, headers: readonly string[] = []): string {
  const body: Problem = problem(code, detail);
  const text = JSON.stringify(body);
  return [
    `HTTP/1.1 ${body.status} ${body.title}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Cache-Control: no-store',
    'Connection: close',
    ...headers,
    '',
    text,
  ].join('\r\n');
}

/** Sends bytes and closes, without waiting for a peer that does not. */
export function sendAndClose(socket: Socket, bytes: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  socket.on('error', () => socket.destroy());
  socket.end(bytes, () => socket.destroySoon());
}
