import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Route } from '../routes/routes.ts';
import { announcedTrailers, type ReceivedHeaders } from './client-headers.ts';

/**
 * Fits the header lines of an answer to how it goes to this client: `Trailer` where trailers can follow, no length where
 * there must be none. The rest of the framing is done by `node:http`.
 *
 * @param headers as name, value, ...; changed in place
 */
export function addFraming(
  headers: string[],
  received: ReceivedHeaders,
  route: Pick<Route, 'upstream'>,
  req: IncomingMessage,
  status: number,
): void {
  if (status === 204)
    drop(headers, 'content-length'); // RFC 9110 section 8.6
  else if (status !== 304 && req.httpVersionMinor > 0 && req.method !== 'HEAD') {
    // In chunks if it has no length (RFC 9112 section 6.3).
    const announced = announcedTrailers(received, route);
    if (announced !== '' && !has(headers, 'content-length')) headers.push('Trailer', announced);
  }
}

/** The upstream's reason phrase, or an empty one where it is not of the form RFC 9112 section 4 gives it. */
export function sendableReason(status: number, reason = ''): string {
  return reason === STATUS_CODES[status] || /^[\t\x20-\x7e\x80-\xff]*$/.test(reason) ? reason : '';
}

/** Whether there is a line of this name, given in lower case. */
function has(headers: readonly string[], name: string): boolean {
  for (let i = 0; i < headers.length; i += 2) if ((headers[i] as string).toLowerCase() === name) return true;
  return false;
}

/** Takes out all lines of this name, given in lower case. */
function drop(headers: string[], name: string): void {
  for (let i = headers.length - 2; i >= 0; i -= 2) {
    if ((headers[i] as string).toLowerCase() === name) headers.splice(i, 2);
  }
}
