import { randomUUID } from 'node:crypto';
import type { ErrorRequestHandler, Request, RequestHandler, Response } from 'express';
import type { Logger } from './log.ts';
import { type Problem, ProblemError } from './problems.ts';

/** Gives each request an id, and writes a line for it without the query: that may hold a session id. */
export function requestLog(log: Logger): RequestHandler {
  return (request, response, next) => {
    const start = performance.now();
    const requestId = randomUUID();
    response.locals.requestId = requestId;
    response.set('X-Request-ID', requestId);
    response.on('finish', () => {
      const ms = Math.round(performance.now() - start);
      log.debug(
        {
          request_id: requestId,
          method: request.method,
          path: request.path,
          status: response.statusCode,
          ms,
        },
        'Request',
      );
    });
    next();
  };
}

/** Seconds after which to come again when something of ours is away. */
const RETRY_AFTER_S = 5;

/**
 * Answers what a route threw as a problem (RFC 9457), and logs it.
 *
 * @param known turns errors that only the room knows into problems
 * @param page answers with a page instead where one is wanted, and says whether it did
 */
export function answerProblems(
  log: Logger,
  known: (error: unknown) => ProblemError | undefined,
  page: (
    request: Request,
    response: Response,
    problem: Problem,
    retryAfterSeconds: number | undefined,
  ) => boolean = () => false,
): ErrorRequestHandler {
  return (error: unknown, request, response, _next) => {
    const problem = known(error) ?? toProblemError(error);
    const answer = problem.toProblem(response.locals.requestId);
    const about = {
      request_id: answer.request_id,
      method: request.method,
      path: request.path,
      code: problem.code,
    };
    if (answer.status >= 500) log.error({ ...about, err: error }, problem.message);
    else if (answer.status !== 404) log.warn({ ...about }, problem.message);
    if (response.headersSent) {
      response.destroy();
      return;
    }
    response.locals.code = answer.code;
    response.status(answer.status);
    const retryAfter =
      (answer.retry_after as number | undefined) ?? (answer.status === 503 ? RETRY_AFTER_S : undefined);
    if (retryAfter !== undefined) response.set('Retry-After', String(retryAfter));
    if (answer.status === 401) response.set('WWW-Authenticate', 'Bearer realm="tollgate"');
    if (page(request, response, answer, retryAfter)) return;
    response.type('application/problem+json').send(JSON.stringify(answer));
  };
}

function toProblemError(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  // What Express's body parsers and its router throw (http-errors).
  const { type, status } = error as { type?: string; status?: number };
  if (type === 'entity.too.large')
    return new ProblemError('payload_too_large', 'The body is larger than this address takes.');
  if (type === 'encoding.unsupported' || type === 'charset.unsupported')
    return new ProblemError('unsupported_media_type');
  if (status !== undefined && status >= 400 && status < 500)
    return new ProblemError('invalid_request', 'The request cannot be read.');
  return new ProblemError('internal_error', 'Something went wrong here.');
}
