let second = 0;
let date = '';

/** The time for `Date` (RFC 9110 section 5.6.7), made once a second. */
function httpDate(): string {
  const now = Math.floor(Date.now() / 1000);
  if (now !== second) {
    second = now;
    date = new Date(now * 1000).toUTCString();
  }
  return date;
}

/**
 * The end of an answer's head as `node:http` writes it: `Date` unless there is one already, and what becomes of the
 * connection.
 *
 * @param kept what a client is told of a connection that goes on, {@link keptFor}; `null`: it closes
 */
export function answerHeadEnd(dated: boolean, kept: string | null): string {
  const date = dated ? '' : `Date: ${httpDate()}\r\n`;
  return kept === null ? `Connection: close\r\n${date}\r\n` : date + kept;
}

/** The last lines of the head of an answer after which the connection is kept. */
export function keptFor(seconds: number): string {
  return `Connection: keep-alive\r\nKeep-Alive: timeout=${seconds}\r\n\r\n`;
}
