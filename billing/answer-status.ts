import type { Response } from 'express';
import type { ProblemError } from '../shared/problems.ts';

/** Gives a page that says what went wrong the status that belongs to it. */
export function answerStatus(response: Response, problem: ProblemError): void {
  const { status, retry_after = status === 503 ? 5 : undefined } = problem.toProblem();
  response.status(status);
  if (retry_after !== undefined) response.set('Retry-After', String(retry_after));
}
