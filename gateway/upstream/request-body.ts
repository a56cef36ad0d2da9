import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { MalformedBody } from '../listener/connection-fault.ts';

/** Up to this size, what was passed on of a body is kept until an answer begins; and of all bodies at once. */
const KEPT_BYTES = 64 * 1024;
const KEPT_BYTES_IN_ALL = 64 * 1024 * 1024;
/** What a piece takes beside its bytes, of which a chunk may have only one. */
const PIECE_BYTES = 256;

let keptInAll = 0;

/**
 * A request's body on its way upstream, chunk by chunk, at the pace of the slower side. A stream of its own rather than
 * the request itself: the HTTP client destroys the stream it is given, and the request with its connection must outlive
 * an upstream that answers early or fails.
 */
export class RequestBody extends Readable {
  readonly #req: IncomingMessage;
  /** Bytes that may still come. */
  #room: number;
  #failed = false;
  #ended = false;
  #detached = false;
  /** All that has come so far; `null`: it is too much to be kept, or nobody needs it any more. */
  #kept: Buffer[] | null = [];
  #keptBytes = 0;

  /** @param maxBytes `null`: any number */
  constructor(req: IncomingMessage, maxBytes: number | null) {
    super();
    this.#req = req;
    this.#room = maxBytes ?? Number.POSITIVE_INFINITY;
    req.on('data', this.#onData);
    req.on('end', this.#onEnd);
    req.on('error', this.#onError);
    req.pause();
  }

  override _read(): void {
    if (!this.#failed && !this.#detached) this.#req.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.detach();
    done(error);
  }

  /** Whether it can be sent once more, from its beginning. */
  get isKept(): boolean {
    return this.#kept !== null && !this.#failed;
  }

  /** It cannot be read to its end, which is told in a moment. */
  get isFaulty(): boolean {
    return this.#failed;
  }

  /** It is not sent once more, whatever happens. Who made it has to say so at last. */
  keepNoLonger(): void {
    this.#kept = null;
    keptInAll -= this.#keptBytes;
    this.#keptBytes = 0;
  }

  /** The same body from its beginning, in place of this one, while it {@link isKept}. */
  again(): RequestBody {
    this.detach();
    const next = new RequestBody(this.#req, this.#room);
    const chunks = this.#kept ?? [];
    this.keepNoLonger();
    for (const chunk of chunks) next.#pass(chunk);
    if (this.#ended) next.#onEnd();
    return next;
  }

  /** Lets go of the request: what still comes is for whoever reads it now. */
  detach(): void {
    if (this.#detached) return;
    this.#detached = true;
    this.#req.off('data', this.#onData);
    this.#req.off('end', this.#onEnd);
    this.#req.off('error', this.#onError);
    this.#req.pause();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#room -= chunk.length;
    // A length that was announced was looked at before; this one came in chunks.
    if (this.#room < 0) this.#fail(new MalformedBody('payload_too_large'));
    else if (!this.#pass(chunk)) this.#req.pause();
  };

  #pass(chunk: Buffer): boolean {
    if (this.#kept !== null) this.#keep(this.#kept, chunk);
    return this.push(chunk);
  }

  #keep(kept: Buffer[], chunk: Buffer): void {
    const bytes = chunk.length + PIECE_BYTES;
    if (this.#keptBytes + bytes > KEPT_BYTES || keptInAll + bytes > KEPT_BYTES_IN_ALL) {
      this.keepNoLonger();
      return;
    }
    kept.push(chunk);
    this.#keptBytes += bytes;
    keptInAll += bytes;
  }

  /** A client that left is the connection's affair; a body that cannot be read has to fail upstream, too. */
  readonly #onError = (error: Error): void => {
    if (error instanceof MalformedBody) this.#fail(error);
  };

  #fail(error: MalformedBody): void {
    this.#failed = true;
    this.detach();
    afterWrites(() => this.destroy(error));
  }

  readonly #onEnd = (): void => {
    this.#ended = true;
    this.push(null);
  };
}

/**
 * Does something once what was written in this turn of the loop is with the system. A stream of HTTP/2 that is broken off
 * in the turn in which a piece of its body was written has Node 26 send that piece for ever, and do nothing else any more.
 */
export function afterWrites(what: () => void): void {
  setImmediate(what);
}

/** How long a client may go on sending a body that the upstream answered without. */
const LINGER_MS = 1000;

/** Takes what the client still sends, for a moment, so that it reads the answer; then the connection ends. */
export function lingerOverBody(req: IncomingMessage, socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  timer.unref();
  req.once('end', () => clearTimeout(timer));
  req.resume();
}
