import type { Request } from 'express';
import { ProblemError } from '../shared/problems.ts';

/**
 * Refuses a form that another site's page sent with this browser's cookie. `SameSite=Strict` keeps such cookies back;
 * this also holds for a neighbour on the same site, and where a browser knows no `SameSite`.
 *
 * @throws ProblemError `invalid_request`
 */
export function checkOrigin(request: Request, publicOrigin: string): void {
  const site = request.get('sec-fetch-site');
  const origin = request.get('origin');
  const own = [publicOrigin, `${request.protocol}://${request.get('host')}`];
  if (site !== undefined ? site === 'same-origin' || site === 'none' : !origin || own.includes(origin))
    return;
  throw new ProblemError('invalid_request', 'This form was sent by a page of another site.', {
    remedy: 'Nothing was changed. Open the page itself and try again there.',
  });
}

/** The values of all cookies of a name: a neighbour may have planted one beside ours. */
export function cookieValues(request: Request, name: string): string[] {
  return (request.get('cookie') ?? '')
    .split(';')
    .map((part) => part.trim())
    .filter((part) => part.startsWith(`${name}=`))
    .map((part) => part.slice(name.length + 1));
}
