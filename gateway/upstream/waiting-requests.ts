/** What can wait. Exactly one of these is called, unless it leaves before. */
export type Waiter<T> = {
  /** There is room now, and it has been taken for this. */
  onRoom(place: T): void;
  /** It was not to be. */
  onNoRoom(error: Error): void;
};

/** Requests that wait for room, the oldest first, each for the same time at most. One timer for all of them. */
export class WaitingRequests<T> {
  readonly #timeoutMs: number;
  readonly #limit: number;
  readonly #late: () => Error;
  /** In order of arrival, so in order of deadline. */
  readonly #deadlines = new Map<Waiter<T>, number>();
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param limit how many may wait
   * @param late makes the error for one that waited too long
   */
  constructor(timeoutMs: number, limit: number, late: () => Error) {
    this.#timeoutMs = timeoutMs;
    this.#limit = limit;
    this.#late = late;
  }

  get size(): number {
    return this.#deadlines.size;
  }

  /** `false`: too many wait already. */
  add(waiter: Waiter<T>): boolean {
    if (this.#deadlines.size >= this.#limit) return false;
    this.#deadlines.set(waiter, performance.now() + this.#timeoutMs);
    this.#timer ??= setTimeout(this.#sweep, this.#timeoutMs).unref();
    return true;
  }

  /** Whoever came first; it waits no longer. */
  next(): Waiter<T> | undefined {
    for (const waiter of this.#deadlines.keys()) {
      this.#deadlines.delete(waiter);
      return waiter;
    }
    return undefined;
  }

  /** It no longer wants to. */
  leave(waiter: Waiter<T>): void {
    this.#deadlines.delete(waiter);
  }

  /** Sends all away. */
  giveUp(error: Error): void {
    for (let waiter = this.next(); waiter; waiter = this.next()) waiter.onNoRoom(error);
  }

  readonly #sweep = (): void => {
    this.#timer = undefined;
    const now = performance.now();
    for (const [waiter, deadline] of this.#deadlines) {
      // Timers may fire up to a millisecond early.
      if (deadline > now + 1) {
        this.#timer ??= setTimeout(this.#sweep, deadline - now).unref();
        return;
      }
      this.#deadlines.delete(waiter);
      waiter.onNoRoom(this.#late());
    }
  };
}
