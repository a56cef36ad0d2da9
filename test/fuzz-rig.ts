import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FuzzAnswer } from './fuzz-answers.ts';

/** One connection of a client: what it sends, piece by piece, each message when the one before has run its course. */
export type FuzzCase = {
  messages: string[][];
  /** Which of them a request gets follows from its request line. */
  answers: FuzzAnswer[];
  /** What the client does after its last message instead of asking for something known. */
  leave: 'no' | 'end' | 'reset';
};

/** What can be seen of a case from outside: all that the client got, and the requests that the upstream got. */
export type FuzzSight = {
  client: string;
  upstream: string[];
  /** Those of which only a part came. */
  parts: string[];
};

/** Turns of the event loop without any bytes after which nothing more is expected. Everything is in this process. */
const QUIET_TURNS = 12;
/** How often a gateway of a case looks at the time. */
export const FUZZ_CHECK_MS = 20;
/** By then, nothing waits any longer for the rest of a request. */
const GATHERED_MS = 3 * FUZZ_CHECK_MS;
const SENTINEL = '/sentinel';
const SENTINEL_BODY = 'the sentinel answers';

/** A raw upstream that records what it gets and answers with given bytes. */
export class FuzzUpstream {
  readonly #server = createServer((socket) => this.#serve(socket));
  readonly #sockets = new Set<Socket>();
  answers: FuzzAnswer[] = [{ pieces: ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'], after: 'keep' }];
  requests: string[] = [];
  parts: string[] = [];
  /** Turns of the event loop between the pieces of an answer, and before the end of its connection. */
  pause = 0;
  /** Counts all that is received and sent. */
  activity = 0;

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.closeConnections();
    await closed;
  }

  /** So that no case finds what another left behind. */
  closeConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay();
    let received = '';
    socket.on('data', (chunk) => {
      this.activity++;
      received += chunk.toString('latin1');
      for (let length = wholeRequest(received); length > 0; length = wholeRequest(received)) {
        const request = received.slice(0, length);
        received = received.slice(length);
        void this.#answer(socket, request);
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      this.activity++;
      // What is no whole request was received nevertheless.
      if (received !== '') this.parts.push(received);
    });
  }

  async #answer(socket: Socket, request: string): Promise<void> {
    if (request.startsWith(`GET ${SENTINEL} `)) {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${SENTINEL_BODY.length}\r\n\r\n${SENTINEL_BODY}`);
      return;
    }
    this.requests.push(request);
    const line = request.slice(0, request.indexOf('\r\n'));
    const { pieces, after } = this.answers[checksum(line) % this.answers.length] as FuzzAnswer;
    for (const piece of pieces) {
      if (piece !== pieces[0]) await turns(this.pause);
      this.activity++;
      socket.write(piece, 'latin1');
    }
    if (after === 'keep') return;
    await turns(this.pause);
    this.activity++;
    if (after === 'end') socket.end();
    else socket.resetAndDestroy();
  }
}

/** Turns of the event loop between two things that somebody does, if nothing else is said. */
const PAUSE = 2;

/**
 * Plays a case against a gateway.
 *
 * @param pause turns of the event loop between the pieces that client and upstream send, and before an upstream that closes after
 * its answer does so
 */
export async function play(
  port: number,
  upstream: FuzzUpstream,
  { messages, answers, leave }: FuzzCase,
  key: string,
  pause = PAUSE,
): Promise<FuzzSight> {
  upstream.answers = answers;
  upstream.pause = pause;
  upstream.requests = [];
  upstream.parts = [];
  let client = '';
  let closed = false;
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  socket.on('data', (chunk) => {
    client += chunk.toString('latin1');
    upstream.activity++;
  });
  socket.on('error', () => {});
  const over = new Promise<void>((resolve) => {
    socket.on('close', () => {
      closed = true;
      upstream.activity++;
      resolve();
    });
  });
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  for (const message of messages) {
    for (const piece of message) {
      if (closed || !socket.writable) break;
      socket.write(piece, 'latin1');
      await turns(pause);
    }
    await quiet(upstream);
  }
  if (leave === 'no' && !closed) {
    socket.write(`GET ${SENTINEL} HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\n\r\n`);
    await quiet(upstream, () => client.endsWith(SENTINEL_BODY));
  }
  if (leave === 'reset') {
    await sleep(GATHERED_MS);
    socket.resetAndDestroy();
  } else socket.end();
  await over;
  await quiet(upstream);
  upstream.closeConnections();
  await turns(2);
  const { requests, parts } = upstream;
  return { client, upstream: requests.map(withoutIds).sort(), parts: parts.map(withoutIds) };
}

async function quiet(upstream: FuzzUpstream, done: () => boolean = () => false): Promise<void> {
  let seen = upstream.activity;
  for (let still = 0; still < QUIET_TURNS && !done(); still++) {
    await turns(1);
    if (upstream.activity === seen) continue;
    seen = upstream.activity;
    still = 0;
  }
}

function turns(count: number): Promise<void> {
  return new Promise((resolve) => {
    const turn = (left: number) => (left === 0 ? resolve() : setImmediate(turn, left - 1));
    turn(count);
  });
}

/** The length of the request that the bytes begin with; 0 when it is not whole. The gateway's requests are well-formed. */
function wholeRequest(bytes: string): number {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return 0;
  const head = bytes.slice(0, end);
  const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
  if (length !== undefined) {
    const whole = end + 4 + Number(length);
    return bytes.length >= whole ? whole : 0;
  }
  if (!/\r\ntransfer-encoding: chunked/i.test(head)) return end + 4;
  const body = chunkedBody(bytes, end + 4);
  return body === null ? 0 : body.end;
}

/** A body in chunks from a place on, put together; `null` when it is not whole. */
export function chunkedBody(bytes: string, from: number): { text: string; end: number } | null {
  let text = '';
  for (let at = from; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return null;
    const size = Number.parseInt(bytes.slice(at, lineEnd), 16);
    if (size === 0) {
      const end = bytes.indexOf('\r\n\r\n', lineEnd);
      return end < 0 ? null : { text: text + bytes.slice(lineEnd, end), end: end + 4 };
    }
    if (!(size > 0) || bytes.length < lineEnd + 4 + size) return null;
    text += bytes.slice(lineEnd + 2, lineEnd + 2 + size);
    at = lineEnd + 4 + size;
  }
}

function checksum(text: string): number {
  let sum = 0;
  for (let i = 0; i < text.length; i++) sum = (Math.imul(sum, 31) + text.charCodeAt(i)) >>> 0;
  return sum;
}

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g;

function withoutIds(request: string): string {
  // The address is the upstream's own; each gateway has another one, and so the chunks may be cut elsewhere.
  const plain = request.replace(UUID, 'ID').replace(/(\r\nhost: 127\.0\.0\.1):\d+/i, '$1');
  const end = plain.indexOf('\r\n\r\n') + 4;
  if (!/\r\ntransfer-encoding: chunked/i.test(plain.slice(0, end))) return plain;
  return `${plain.slice(0, end)}${chunkedBody(plain, end)?.text ?? unchunked(plain.slice(end))}`;
}

/** What a client got, without what differs from one time to the next, and without where chunks were cut. */
export function comparable(received: string): string {
  return putTogether(received)
    .replace(UUID, 'ID')
    .replace(/\r\nRetry-After: \d+/g, '\r\nRetry-After: n')
    .replace(/\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT/g, '\r\nDate: then');
}

/** Answers, their bodies without the chunks they came in. */
function putTogether(received: string): string {
  let text = '';
  let at = 0;
  while (at < received.length) {
    const end = received.indexOf('\r\n\r\n', at);
    if (end < 0) break;
    const head = received.slice(at, end + 4);
    text += head;
    at = end + 4;
    if (!/\r\ntransfer-encoding: chunked/i.test(head)) {
      const next = received.indexOf('HTTP/1.1 ', at);
      text += received.slice(at, next < 0 ? undefined : next);
      at = next < 0 ? received.length : next;
      continue;
    }
    const body = chunkedBody(received, at);
    if (body === null) {
      text += unchunked(received.slice(at));
      at = received.length;
    } else {
      text += body.text;
      at = body.end;
    }
  }
  return text + received.slice(at);
}

/** A body whose chunks end too early, put together as far as it came. */
function unchunked(bytes: string): string {
  let text = '';
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at);
    const size = lineEnd < 0 ? Number.NaN : Number.parseInt(bytes.slice(at, lineEnd), 16);
    if (!(size >= 0)) return text + bytes.slice(at);
    text += bytes.slice(lineEnd + 2, lineEnd + 2 + size);
    at = lineEnd + 4 + size;
    if (at >= bytes.length) return text;
  }
}
