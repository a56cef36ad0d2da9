interface Task {
  at: number;
  run: () => void;
}

/** Node's timers hold at most 2^31 - 1 ms. */
const longestTimerMs = 2 ** 31 - 1;

/**
 * The sandbox's clock: real time plus an offset that only grows. What is due runs in order of its due time, and sees
 * that time as now, so that a year can pass in one call and everything happens when it would have happened.
 */
export class Clock {
  readonly #real: () => number;
  #offset = 0;
  #frozen: number | undefined;
  #tasks: Task[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(real: () => number) {
    this.#real = real;
  }

  /** Seconds since the epoch, whole. */
  now(): number {
    return Math.floor(this.nowMs() / 1000);
  }

  /** Milliseconds since the epoch. */
  nowMs(): number {
    return this.#frozen ?? this.#real() + this.#offset;
  }

  /** Runs `run` at `at` (seconds). A task checks for itself whether it still applies: none is ever cancelled. */
  at(at: number, run: () => void): void {
    this.#insert({ at: at * 1000, run });
  }

  /** Runs `run` after `ms` milliseconds of sandbox time. */
  after(ms: number, run: () => void): void {
    this.#insert({ at: this.nowMs() + ms, run });
  }

  /** Moves the clock on and runs what falls due on the way. */
  advance(seconds: number): void {
    const target = this.#real() + this.#offset + seconds * 1000;
    this.#runUntil(target);
    this.#offset += seconds * 1000;
    this.#arm();
  }

  /** Forgets everything that was to come. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#tasks = [];
  }

  #insert(task: Task): void {
    let low = 0;
    let high = this.#tasks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#tasks[middle] as Task).at <= task.at) low = middle + 1;
      else high = middle;
    }
    this.#tasks.splice(low, 0, task);
    if (low === 0 && this.#frozen === undefined) this.#arm();
  }

  #runUntil(target: number): void {
    try {
      for (let next = this.#tasks[0]; next && next.at <= target; next = this.#tasks[0]) {
        this.#tasks.shift();
        this.#frozen = Math.max(next.at, this.#frozen ?? 0);
        next.run();
      }
    } finally {
      this.#frozen = undefined;
    }
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.#tasks[0];
    if (!next) return;
    const wait = Math.min(Math.max(0, next.at - this.nowMs()), longestTimerMs);
    this.#timer = setTimeout(() => {
      this.#runUntil(this.nowMs());
      this.#arm();
    }, wait);
    this.#timer.unref();
  }
}
