import type { Socket } from 'node:net';
import type { Exchange } from './exchange.ts';

/** So many requests may wait on a connection before it is read no further. What was read with the last of them waits, too. */
const MAX_WAITING = 100;
/** On all connections together. One read may bring 2,400 requests, which then take 3 KiB each. */
const MAX_WAITING_IN_ALL = 50_000;

/** Requests that wait on any connection, and what becomes of them. */
export type Turns = {
  /** How many there are. */
  waiting: number;
  /** Called for each of them when its turn has come. */
  begin(exchange: Exchange): void;
  /** Called for each of them whose client left before. */
  abandon(exchange: Exchange): void;
};

/**
 * Lets a request wait when the one before it on its connection is not answered yet. Requests of one connection are worked
 * on one after the other: many at a time would be many clients' share of the upstream, and one that changes something has
 * to be over before the next one is begun (RFC 9112 section 9.3.2).
 *
 * @returns whether it waits, or has nobody to wait for it; it is begun or abandoned later
 */
export function mustWait(exchange: Exchange, turns: Turns): boolean {
  const { connection, socket } = exchange;
  const { before } = connection;
  connection.before = null;
  connection.pipeline?.headIsHere();
  if (before === null) return false;
  connection.pipeline ??= new Pipeline(socket, turns);
  return connection.pipeline.add(exchange, before);
}

/** The requests that wait on one connection, on which one came before its turn at least once. */
export class Pipeline {
  readonly #socket: Socket;
  readonly #turns: Turns;
  readonly #waiting: Exchange[] = [];
  #full = false;
  /** What is to be done about a head that was read in part, if the rest of it does not come, and when. */
  #lateHead: { fault: () => void; limitMs: number } | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(socket: Socket, turns: Turns) {
    this.#socket = socket;
    this.#turns = turns;
    socket.once('close', () => this.#abandon());
    // Whoever reads a request's body has the connection read on.
    socket.on('resume', () => {
      if (this.#full) socket.pause();
    });
  }

  /** How many requests wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** There are so many that nothing is read. */
  get full(): boolean {
    return this.#full;
  }

  /** @param before the request that came before it */
  add(exchange: Exchange, before: Exchange): boolean {
    const socket = this.#socket;
    const turns = this.#turns;
    if (socket.destroyed) {
      turns.abandon(exchange);
      return true;
    }
    if (this.#waiting.length === 0) {
      // It was answered before its body was here.
      if (before.res.destroyed) return false;
      before.res.once('close', this.#next);
    }
    this.#waiting.push(exchange);
    turns.waiting++;
    if (this.#waiting.length <= MAX_WAITING) return true;
    if (turns.waiting > MAX_WAITING_IN_ALL) socket.destroy();
    else if (!this.#full) {
      this.#full = true;
      socket.pause();
    }
    return true;
  }

  /**
   * A head has taken too long, but it may be that the rest of it is not read yet. It gets as much time again from when it is.
   *
   * @param fault what is to be done when it takes too long then, too
   */
  onLateHead(fault: () => void, limitMs: number): void {
    this.#lateHead = { fault, limitMs };
  }

  /** A whole head was read. */
  headIsHere(): void {
    clearTimeout(this.#timer);
  }

  readonly #next = (): void => {
    const socket = this.#socket;
    // A client that sends no more does not wait for an answer either.
    if (!socket.writable) this.#abandon();
    const exchange = this.#waiting.shift();
    if (exchange === undefined) return;
    this.#turns.waiting--;
    if (this.#waiting.length > 0) exchange.res.once('close', this.#next);
    this.#turns.begin(exchange);
    if (this.#full && this.#waiting.length <= MAX_WAITING) this.#readOn();
  };

  #readOn(): void {
    this.#full = false;
    if (this.#lateHead !== null) {
      const { fault, limitMs } = this.#lateHead;
      this.#lateHead = null;
      this.#timer = setTimeout(fault, limitMs);
      this.#timer.unref();
    }
    this.#socket.resume();
  }

  #abandon(): void {
    clearTimeout(this.#timer);
    const all = this.#waiting.splice(0);
    this.#turns.waiting -= all.length;
    for (const exchange of all) this.#turns.abandon(exchange);
  }
}
