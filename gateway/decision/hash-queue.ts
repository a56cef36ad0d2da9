import { availableParallelism } from 'node:os';

/** More Argon2 runs are waiting than can be done in good time. */
export class HashQueueFull extends Error {
  constructor() {
    super('Too many keys are waiting to be verified');
    this.name = 'HashQueueFull';
  }
}

/** Served places at the head of the line that are worth moving everyone up for. */
const COMPACT_AT = 1024;

type Waiting = { run: () => void; refuse: () => void; since: number };

/**
 * Bounds Argon2: as many runs at once as there are cores and one more, so that a core which is done does not wait for
 * this process to hand it the next; the rest in line. The line is long enough for 10,000 keys that
 * are first used at the same moment, and nobody in it waits without end.
 */
export class HashQueue {
  readonly #concurrency: number;
  readonly #capacity: number;
  readonly #maxWaitMs: number;
  readonly #waiting: Waiting[] = [];
  readonly #whenIdle: (() => Promise<unknown>)[] = [];
  #next = 0;
  #running = 0;

  constructor(options: { concurrency?: number; capacity?: number; maxWaitMs?: number } = {}) {
    this.#concurrency = options.concurrency ?? 1 + availableParallelism();
    this.#capacity = options.capacity ?? 20_000;
    this.#maxWaitMs = options.maxWaitMs ?? 15_000;
  }

  /** How many wait for their turn. */
  get depth(): number {
    return this.#waiting.length - this.#next;
  }

  /** Places kept in memory: those who wait, and some who have been served. */
  get held(): number {
    return this.#waiting.length;
  }

  /** How many run now. */
  get running(): number {
    return this.#running;
  }

  /** Runs the task when it is its turn. @throws HashQueueFull when there is no room, or its turn came too late */
  run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running < this.#concurrency) return this.#start(task);
    if (this.depth >= this.#capacity) return Promise.reject(new HashQueueFull());
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({
        run: () => this.#start(task).then(resolve, reject),
        refuse: () => reject(new HashQueueFull()),
        since: Date.now(),
      });
    });
  }

  /** Runs the task once nobody waits. Forgets it when too many such tasks have gathered: they are only improvements. */
  whenIdle(task: () => Promise<unknown>): void {
    if (this.#whenIdle.length >= this.#capacity) return;
    this.#whenIdle.push(task);
    this.#advance();
  }

  async #start<T>(task: () => Promise<T>): Promise<T> {
    this.#running++;
    try {
      return await task();
    } finally {
      this.#running--;
      this.#advance();
    }
  }

  #advance(): void {
    while (this.#running < this.#concurrency && this.depth > 0) {
      const next = this.#waiting[this.#next++] as Waiting;
      // While somebody always waits the line never empties; what has been served must not stay in memory.
      if (this.#next >= COMPACT_AT) this.#waiting.splice(0, this.#next);
      if (this.#next >= COMPACT_AT) this.#next = 0;
      if (Date.now() - next.since > this.#maxWaitMs) next.refuse();
      else next.run();
    }
    if (this.#next > 0 && this.depth === 0) {
      this.#waiting.length = 0;
      this.#next = 0;
    }
    if (this.#running === 0 && this.#whenIdle.length > 0) {
      const task = this.#whenIdle.shift() as () => Promise<unknown>;
      void this.#start(task).catch(() => {});
    }
  }
}
