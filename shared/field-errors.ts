import type { ZodError } from 'zod';
import { ProblemError } from './problems.ts';

/** A 400 that names each field that is wrong, and how. */
export function fieldErrors(error: ZodError): ProblemError {
  const errors = error.issues.flatMap((issue) => {
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map((key) => ({ field: key, message: 'is not known here' }));
    return [{ field: issue.path.join('.') || 'body', message: issue.message }];
  });
  return new ProblemError(
    'invalid_request',
    errors.map(({ field, message }) => `${field} ${message}`).join('; '),
    { errors },
  );
}
