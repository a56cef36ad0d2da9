import type { Request } from 'express';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { addressGroup } from '../shared/address-group.ts';
import { ProblemError } from '../shared/problems.ts';

/**
 * Lets one client address do something so many times in a window of so many seconds. IPv6 counts by /64.
 */
export class AddressLimit {
  readonly #limiter: RateLimiterMemory;

  constructor(times: number, windowSeconds: number) {
    this.#limiter = new RateLimiterMemory({ points: times, duration: windowSeconds });
  }

  /** Counts once. @throws ProblemError `too_many_requests`, with `retry_after` in seconds, when there was too much of it */
  async spend(request: Request): Promise<void> {
    try {
      await this.#limiter.consume(addressGroup(request.ip ?? ''));
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      const seconds = Math.ceil(refusal.msBeforeNext / 1000);
      throw new ProblemError(
        'too_many_requests',
        `Too many requests from your address. Try again in ${seconds} s.`,
        {
          retry_after: seconds,
        },
      );
    }
  }

  /** Takes one count back: what was done turned out to be harmless. */
  async refund(request: Request): Promise<void> {
    await this.#limiter.reward(addressGroup(request.ip ?? ''));
  }
}
