const SECONDS = 10;
/** So many retries in that time are always allowed: a quiet API may retry too. */
const ALWAYS = 10;

/**
 * Keeps retries from multiplying the load on an upstream that is in trouble: a share of the requests of the last ten
 * seconds, and a few. Knows no clock: `now` is in milliseconds on any clock that only goes forward.
 */
export class RetryBudget {
  readonly #share: number;
  readonly #requests = new Uint32Array(SECONDS);
  readonly #retries = new Uint32Array(SECONDS);
  #second = 0;

  constructor(share: number) {
    this.#share = share;
  }

  request(now: number): void {
    const i = this.#at(now);
    this.#requests[i] = (this.#requests[i] as number) + 1;
  }

  /** Takes one retry out of the budget. `false`: there is none left. */
  take(now: number): boolean {
    const i = this.#at(now);
    if (sum(this.#retries) >= ALWAYS + Math.floor(sum(this.#requests) * this.#share)) return false;
    this.#retries[i] = (this.#retries[i] as number) + 1;
    return true;
  }

  /** The slot of this second, with those of seconds that are long past emptied. */
  #at(now: number): number {
    const second = Math.floor(now / 1000);
    for (let past = Math.max(this.#second + 1, second - SECONDS + 1); past <= second; past++) {
      this.#requests[past % SECONDS] = 0;
      this.#retries[past % SECONDS] = 0;
    }
    if (second > this.#second) this.#second = second;
    return this.#second % SECONDS;
  }
}

function sum(counts: Uint32Array): number {
  let total = 0;
  for (const count of counts) total += count;
  return total;
}
