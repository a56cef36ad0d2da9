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
 * The head of an answer as `node:http` writes it: the headers given, then `Date` unless there is one, then what becomes
 * of the connection unless they say so.
 *
 * @param begin the status line and headers of the upstream's, each with its CRLF; latin1
 * @param dated whether `Date` is among those
 * @param headers name, value, ...
 * @param keepSeconds how long the connection is kept, told to the client
 */
export function answerHead(
  begin: string,
  dated: boolean,
  headers: readonly string[],
  keepSeconds: number,
): string {
  let head = begin;
  let hasDate = dated;
  let closes = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    head += `${name}: ${headers[i + 1]}\r\n`;
    if (name === 'Connection') closes = true;
    else if (name === 'Date') hasDate = true;
  }
  if (!hasDate) head += `Date: ${httpDate()}\r\n`;
  return closes
    ? `${head}\r\n`
    : `${head}Connection: keep-alive\r\nKeep-Alive: timeout=${keepSeconds}\r\n\r\n`;
}
