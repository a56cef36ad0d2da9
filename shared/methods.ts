import type { RequestHandler } from 'express';
import { ProblemError } from './problems.ts';

/** Answers every other method of an address with 405 and `Allow` (RFC 9110 section 15.5.6). */
export function onlyBy(...methods: ('GET' | 'POST')[]): RequestHandler {
  const allowed = methods.map((method) => (method === 'GET' ? 'GET, HEAD' : method)).join(', ');
  return (_request, response) => {
    response.set('Allow', allowed);
    throw new ProblemError('method_not_allowed', `This address takes ${allowed} only.`);
  };
}

/** Answers 415 where a body came in a form that no parser before this took. */
export const parsedBody: RequestHandler = (request, _response, next) => {
  if (request.body === undefined && Number(request.get('content-length') ?? 0) > 0) {
    throw new ProblemError('unsupported_media_type', 'The body is neither JSON nor a form.');
  }
  next();
};
