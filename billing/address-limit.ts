import type { RequestHandler } from 'express';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { ProblemError } from '../shared/problems.ts';

/**
 * Middleware that lets one client address make so many requests in a window of so many seconds, then answers 429 with
 * `Retry-After`. IPv6 counts by /64, as one customer line usually has a whole one.
 */
export function limitByAddress(requests: number, windowSeconds: number): RequestHandler {
  const limiter = new RateLimiterMemory({ points: requests, duration: windowSeconds });
  return async (request, response, next) => {
    try {
      await limiter.consume(addressGroup(request.ip ?? ''));
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      const seconds = Math.ceil(refusal.msBeforeNext / 1000);
      response.set('Retry-After', String(seconds));
      throw new ProblemError(
        'too_many_requests',
        `At most ${requests} requests in ${windowSeconds} seconds. Try again in ${seconds} s.`,
      );
    }
    next();
  };
}

function addressGroup(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address;
  const [head = '', tail = ''] = address.split('::');
  const groups = head.split(':').filter(Boolean);
  const rest = tail.split(':').filter(Boolean);
  const whole = [
    ...groups,
    ...Array<string>(Math.max(0, 8 - groups.length - rest.length)).fill('0'),
    ...rest,
  ];
  return whole.slice(0, 4).join(':');
}
