import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { ProblemError } from './problems.ts';

/** Lets something be done so many times in a window of so many seconds, for each key that it is counted by. */
export class RateLimit {
  readonly #limiter: RateLimiterMemory;
  readonly #detail: string;

  /** @param detail what to say when it was too much, as a sentence */
  constructor(times: number, windowSeconds: number, detail: string) {
    this.#limiter = new RateLimiterMemory({ points: times, duration: windowSeconds });
    this.#detail = detail;
  }

  /** Counts once. @throws ProblemError `too_many_requests`, with `retry_after` in seconds, when there was too much of it */
  async spend(key: string): Promise<void> {
    try {
      await this.#limiter.consume(key);
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      const seconds = Math.ceil(refusal.msBeforeNext / 1000);
      throw new ProblemError('too_many_requests', `${this.#detail} Try again in ${seconds} s.`, {
        retry_after: seconds,
      });
    }
  }

  /** Takes one count back: what was done turned out to be harmless. */
  async refund(key: string): Promise<void> {
    await this.#limiter.reward(key);
  }
}
