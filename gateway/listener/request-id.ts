import { randomUUID } from 'node:crypto';

const SANE_REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,127}$/;

/**
 * The id of a request: the one it came with, where that is believed, or a new one.
 *
 * @param received `X-Request-ID`; empty: there was none
 */
export function requestIdOf(received: string, believed: boolean): string {
  return believed && SANE_REQUEST_ID.test(received) ? received : randomUUID();
}
