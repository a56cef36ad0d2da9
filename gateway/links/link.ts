import { connect, type Socket } from 'node:net';

/** Who uses a link at the moment. */
export type LinkUser = {
  /** The connection stands, which it did not yet when it was given the request. */
  onConnected?(): void;
  /** The first so many bytes of a buffer came from the upstream. It is used again after the call. */
  onBytes(bytes: Buffer, length: number): void;
  /** The connection is of no use any more. @param error `null` when the upstream closed it in order */
  onBroken(error: Error | null): void;
  /** Called now and then: what takes too long may be ended. @param now in milliseconds, by `performance.now()` */
  sweep?(now: number): void;
};

/** The time as the sweep of all links saw it last, in milliseconds: exact enough for time-outs, and free. */
export type Clock = { now: number };

/** A read is handled before the next one begins, on whatever link. */
const READ = Buffer.allocUnsafe(64 * 1024);

const NOTHING: readonly Buffer[] = [];

/** One connection to a server of the upstream. */
export class Link {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #onEnd: (link: Link) => void;
  #user: LinkUser | null = null;
  /** What waits to be sent until what is before it was taken. */
  #rest: readonly Buffer[] = NOTHING;
  #next = 0;
  #ended = false;
  connected = false;
  readonly openedAt: number;
  /** When anything last happened on it. */
  activeAt: number;
  /** Until when it may be used again. */
  keepUntil = 0;

  /** @param onEnd called once, when the connection is over */
  constructor(at: { host: string; port: number }, clock: Clock, onEnd: (link: Link) => void) {
    this.#clock = clock;
    this.#onEnd = onEnd;
    this.openedAt = clock.now;
    this.activeAt = clock.now;
    this.#socket = connect({
      ...at,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
      onread: { buffer: READ, callback: (length) => this.#onRead(length) },
    });
    this.#socket.on('connect', () => {
      this.connected = true;
      this.activeAt = clock.now;
      this.#user?.onConnected?.();
    });
    this.#socket.on('drain', this.#onDrain);
    this.#socket.on('end', () => this.#end(null));
    this.#socket.on('error', (error) => this.#end(error));
    this.#socket.on('close', () => this.#end(null));
  }

  /** Sends a request and gives what comes back to its user. @param body in pieces, none of which changes any more */
  send(user: LinkUser, head: string, body: readonly Buffer[]): void {
    this.#user = user;
    this.activeAt = this.#clock.now;
    if (body.length === 0) {
      this.#socket.write(head, 'latin1');
      return;
    }
    this.#rest = body;
    this.#next = 0;
    this.#socket.cork();
    this.#socket.write(head, 'latin1');
    this.#sendRest();
    this.#socket.uncork();
  }

  /** A part after the other, so that it is seen whether the upstream takes them. */
  #sendRest(): void {
    const socket = this.#socket;
    while (this.#next < this.#rest.length) {
      if (socket.writableNeedDrain && socket.writableLength > 0) return;
      socket.cork();
      do socket.write(this.#rest[this.#next++] as Buffer);
      while (this.#next < this.#rest.length && socket.writableLength < socket.writableHighWaterMark);
      socket.uncork();
    }
    this.#rest = NOTHING;
  }

  readonly #onDrain = (): void => {
    this.activeAt = this.#clock.now;
    this.#sendRest();
  };

  sweep(now: number): void {
    this.#user?.sweep?.(now);
  }

  /** From now on somebody else gets what comes; `null`: nobody expects anything. */
  handTo(user: LinkUser | null): void {
    this.#user = user;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.activeAt = this.#clock.now;
    this.#socket.resume();
  }

  /** Whether a part of the request still waits to be sent. */
  get sending(): boolean {
    return this.#rest.length > 0 || this.#socket.writableLength > 0;
  }

  get paused(): boolean {
    return this.#socket.isPaused();
  }

  /** Ends it without telling its user. */
  destroy(): void {
    this.#user = null;
    this.#socket.destroy();
    this.#end(null);
  }

  #onRead(length: number): boolean {
    const user = this.#user;
    this.activeAt = this.#clock.now;
    // Nobody asked: whatever this answers, it must not be taken for the answer to the next request.
    if (user === null) this.destroy();
    else user.onBytes(READ, length);
    return true;
  }

  #end(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    const user = this.#user;
    this.#user = null;
    this.#rest = NOTHING;
    this.#socket.destroy();
    this.#onEnd(this);
    user?.onBroken(error);
  }
}
