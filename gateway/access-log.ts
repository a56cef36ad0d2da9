import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { pino } from 'pino';
import { type Logger, redact } from '../shared/log.ts';
import type { Arrival } from './listener/exchange.ts';
import type { Outcome } from './metrics.ts';

/** Lines are gathered for this long, or until there are so many characters of them, and written in one piece. */
const GATHER_MS = 200;
const GATHER_CHARACTERS = 32 * 1024;
/** What a pipe takes in one piece, whoever else writes to it (PIPE_BUF of Linux). */
const PIPE_BYTES = 4096;
/** Bytes that may wait for a disk or a pipe that does not take them. What comes on top is dropped and counted. */
const MAX_WAITING = 16 * 1024 * 1024;
const FAILURE_LOG_MS = 60_000;
/** A pipe that nobody reads must not hold up a stop. */
const CLOSE_MS = 500;

/** The trace that a request belongs to: version, trace id, parent id, flags (W3C Trace Context section 3.2). */
const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/;
/** The first of those in header lines that were left unread. */
const UNREAD_TRACEPARENT = /^traceparent: (.*)/im;
/** Paths that can hold nothing of a secret's form need not be searched for one. */
const NO_SECRET = /^[^_.]*$|^.{0,24}$/s;

/** What is logged of a request that arrived here, or that a proxy asked about. */
export type Logged = Pick<
  Arrival,
  'method' | 'path' | 'head' | 'requestId' | 'address' | 'startedAt' | 'route'
>;

type Line = {
  arrival: Logged;
  /** 0 when the client was gone before there was one. */
  status: number;
  outcome: Outcome;
  /** `null` where no route was reached. */
  route: string | null;
  keyId: string | null;
  code: string | null;
  milliseconds: number;
};

/**
 * One line of JSON for each request: who, what, what became of it. Never the query, the headers or the key. Lines are
 * put together here rather than by pino, and written by its asynchronous destination in batches: a tenth of the cost of
 * a log call for each request.
 */
export class AccessLog {
  readonly #destination: ReturnType<typeof pino.destination>;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;
  /** Whether there is a file that can be opened anew: what writes to a stream, or has stopped, throws when it is asked to. */
  #reopens: boolean;
  readonly #gather: number;
  #batch = '';
  #failedAt = Number.NEGATIVE_INFINITY;
  #at = 0;
  #time = '';
  /** Lines that could not be written, since the start. */
  dropped = 0;

  /**
   * @param to a file, readable by its owner only, or `stdout`
   * @param shared whether other processes write to the same, so that no line may be written in two pieces
   * @throws the system's error when the file cannot be opened
   */
  constructor(to: string, log: Logger, shared = false) {
    this.#log = log;
    this.#reopens = to !== 'stdout';
    this.#gather = shared ? PIPE_BYTES : GATHER_CHARACTERS;
    // Opened later, its failure would be one line in a log; a start on a path that cannot be written is a mistake.
    if (to !== 'stdout') {
      mkdirSync(dirname(to), { recursive: true });
      closeSync(openSync(to, 'a', 0o600));
    }
    this.#destination = pino.destination({
      ...(to === 'stdout' ? { dest: 1 } : { dest: to, mode: 0o600 }),
      sync: false,
      maxLength: MAX_WAITING,
      ...(shared && { maxWrite: PIPE_BYTES }),
    });
    this.#destination.on('error', (error: Error) => this.#failed(error));
    this.#destination.on('drop', (batch: string) => {
      this.dropped += batch.split('\n').length - 1;
      this.#failed(new Error('The access log is written too slowly; lines are dropped'));
    });
    this.#timer = setInterval(() => this.#write(), GATHER_MS);
    this.#timer.unref();
  }

  /** Adds the line of a request that is over. */
  add({ arrival, status, outcome, route, keyId, code, milliseconds }: Line): void {
    const { method, path, head, requestId, address } = arrival;
    const trace = traceOf(head);
    const line =
      `{"time":"${this.#now()}","request_id":${quoted(requestId)},"address":"${address}","method":"${method}"` +
      `,"host":${quoted(head.host)},"path":${quoted(path)},"status":${status},"outcome":"${outcome}"` +
      `${route === null ? '' : `,"route":${JSON.stringify(route)}`}${keyId === null ? '' : `,"key":"${keyId}"`}` +
      `${code === null ? '' : `,"code":"${code}"`}${trace === '' ? '' : `,"trace_id":"${trace}"`}` +
      `,"ms":${Math.round(milliseconds * 10) / 10}}\n`;
    if (this.#batch.length + line.length > this.#gather) this.#write();
    this.#batch += line;
  }

  /** Opens the file anew, after a log rotation moved it away. Nothing to do where there is no file, or after a stop. */
  reopen(): void {
    if (!this.#reopens) return;
    this.#write();
    this.#destination.reopen();
  }

  /** Writes what is left, as far as that can be written in good time. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#reopens = false;
    this.#write();
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    const late = setTimeout(resolve, CLOSE_MS);
    this.#destination.once('close', resolve);
    this.#destination.once('error', () => resolve());
    this.#destination.end();
    await closed;
    clearTimeout(late);
  }

  #write(): void {
    if (this.#batch === '') return;
    const batch = this.#batch;
    this.#batch = '';
    this.#destination.write(batch);
  }

  #failed(error: Error): void {
    const now = performance.now();
    if (now - this.#failedAt < FAILURE_LOG_MS) return;
    this.#failedAt = now;
    this.#log.error({ err: error }, 'The access log cannot be written');
  }

  /** The time of day, made anew once a millisecond. */
  #now(): string {
    const now = Date.now();
    if (now !== this.#at) {
      this.#at = now;
      this.#time = new Date(now).toISOString();
    }
    return this.#time;
  }
}

/** As a JSON string; secrets that a client put where none belong are blanked out. */
function quoted(text: string): string {
  return JSON.stringify(NO_SECRET.test(text) ? text : redact(text));
}

function traceOf({ endToEnd: headers, unread }: Logged['head']): string {
  const left = unread === '' ? undefined : UNREAD_TRACEPARENT.exec(unread)?.[1];
  if (left !== undefined) return TRACEPARENT.exec(left)?.[1] ?? '';
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    if (name.length === 11 && name.toLowerCase() === 'traceparent')
      return TRACEPARENT.exec(headers[i + 1] as string)?.[1] ?? '';
  }
  return '';
}
