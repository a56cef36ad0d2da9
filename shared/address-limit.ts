import type { Request } from 'express';
import { addressGroup } from './address-group.ts';
import { RateLimit } from './rate-limit.ts';

/** Lets one client address do something so many times in a window of so many seconds. IPv6 counts by /64. */
export class AddressLimit {
  readonly #limit: RateLimit;

  constructor(times: number, windowSeconds: number) {
    this.#limit = new RateLimit(times, windowSeconds, 'Too many requests from your address.');
  }

  /** Counts once. @throws ProblemError `too_many_requests`, with `retry_after` in seconds, when there was too much of it */
  spend(request: Request): Promise<void> {
    return this.#limit.spend(addressGroup(request.ip ?? ''));
  }

  /** Takes one count back: what was done turned out to be harmless. */
  refund(request: Request): Promise<void> {
    return this.#limit.refund(addressGroup(request.ip ?? ''));
  }
}
