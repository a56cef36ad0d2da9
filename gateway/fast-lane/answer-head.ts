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
 * @param headers name, value, ...; latin1
 * @param keepSeconds how long the connection is kept, told to the client
 */
export function answerHead(
  status: number,
  reason: string,
  headers: readonly string[],
  keepSeconds: number,
): string {
  let head = `HTTP/1.1 ${status} ${reason}\r\n`;
  let dated = false;
  let closes = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    head += `${name}: ${headers[i + 1]}\r\n`;
    if (name.length === 4) dated ||= name.toLowerCase() === 'date';
    else if (name.length === 10) closes ||= name === 'Connection';
  }
  if (!dated) head += `Date: ${httpDate()}\r\n`;
  if (!closes) head += `Connection: keep-alive\r\nKeep-Alive: timeout=${keepSeconds}\r\n`;
  return `${head}\r\n`;
}
