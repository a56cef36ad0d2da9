import { connect, type Socket } from 'node:net';

/** Who uses a link at the moment. */
export type LinkUser = {
  /** The first so many bytes of a buffer came from the upstream. It is used again after the call. */
  onBytes(bytes: Buffer, length: number): void;
  /** The connection is of no use any more. @param error `null` when the upstream closed it in order */
  onBroken(error: Error | null): void;
};

/** The time as the lane's sweep saw it last, in milliseconds: exact enough for time-outs, and free. */
export type Clock = { now: number };

/** A read is handled before the next one begins, on whatever link. */
const READ = Buffer.allocUnsafe(64 * 1024);

/** One connection to a server of the upstream. */
export class Link {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #onEnd: (link: Link) => void;
  #user: LinkUser | null = null;
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
    });
    this.#socket.on('end', () => this.#end(null));
    this.#socket.on('error', (error) => this.#end(error));
    this.#socket.on('close', () => this.#end(null));
  }

  /** Sends a request and gives what comes back to its user. */
  send(user: LinkUser, head: string, body: Buffer | null): void {
    this.#user = user;
    this.activeAt = this.#clock.now;
    if (body === null) {
      this.#socket.write(head, 'latin1');
      return;
    }
    this.#socket.cork();
    this.#socket.write(head, 'latin1');
    this.#socket.write(body);
    this.#socket.uncork();
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
    this.#socket.destroy();
    this.#onEnd(this);
    user?.onBroken(error);
  }
}
