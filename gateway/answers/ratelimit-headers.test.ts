import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rateLimitHeaders, rateLimitLines } from './ratelimit-headers.ts';

const second = { name: 'second', limit: 20, remaining: 19, resetSeconds: 1, windowSeconds: 1 };
const minute = { name: 'minute', limit: 600, remaining: 598, resetSeconds: 31, windowSeconds: 60 };
const quota = {
  per: 'month' as const,
  limit: 1000,
  used: 990,
  remaining: 10,
  resetsAt: 0,
  resetSeconds: 86_400,
  windowSeconds: 2_592_000,
};

describe('rate-limit headers', () => {
  it('list every window and the quota, and the tightest of them in the older fields', () => {
    expect(rateLimitHeaders([second, minute], quota)).toEqual([
      'RateLimit-Policy',
      '"second";q=20;w=1, "minute";q=600;w=60, "month";q=1000;w=2592000',
      'RateLimit',
      '"second";r=19;t=1, "minute";r=598;t=31, "month";r=10;t=86400',
      'X-RateLimit-Limit',
      '1000',
      'X-RateLimit-Remaining',
      '10',
      'X-RateLimit-Reset',
      '86400',
    ]);
  });

  it('of what never renews, tell neither a window nor a time, and the older fields leave it out', () => {
    const bought = { per: 'purchase' as const, limit: 1000, used: 990, remaining: 10, resetsAt: null };
    expect(rateLimitHeaders([minute], bought)).toEqual([
      'RateLimit-Policy',
      '"minute";q=600;w=60, "purchase";q=1000',
      'RateLimit',
      '"minute";r=598;t=31, "purchase";r=10',
      'X-RateLimit-Limit',
      '600',
      'X-RateLimit-Remaining',
      '598',
      'X-RateLimit-Reset',
      '31',
    ]);
    expect(rateLimitHeaders([], bought)).toEqual([
      'RateLimit-Policy',
      '"purchase";q=1000',
      'RateLimit',
      '"purchase";r=10',
    ]);
  });

  it('of two windows with as much left, the one that renews later is the tighter', () => {
    const headers = rateLimitHeaders(
      [
        { ...second, remaining: 0 },
        { ...minute, remaining: 0 },
      ],
      null,
    );
    expect(headers.slice(4)).toEqual([
      'X-RateLimit-Limit',
      '600',
      'X-RateLimit-Remaining',
      '0',
      'X-RateLimit-Reset',
      '31',
    ]);
  });

  it('a plan without limits has none', () => {
    expect(rateLimitHeaders([], null)).toEqual([]);
    expect(rateLimitLines([], null)).toBe('');
  });

  it('say the same as lines of text, whichever plans take turns', () => {
    const few = (...numbers: number[]) => fc.constantFrom(...numbers);
    const window = fc.record({
      name: fc.constantFrom('minute', 'hour', 'day'),
      limit: few(1, 60, 61, 124, 600, 664, 1_000_000_000_000),
      remaining: few(0, 1, 59, 600),
      resetSeconds: few(1, 31, 60, 63, 64, 65, 124, 3600),
      windowSeconds: few(1, 60, 3600, 86_400),
    });
    const windows = fc.array(window, { maxLength: 3 });
    const some = fc.array(fc.tuple(windows, fc.option(fc.constant(quota))), { maxLength: 20 });
    fc.assert(
      fc.property(some, (turns) => {
        for (const [windows, quota] of turns) {
          const headers = rateLimitHeaders(windows, quota);
          let lines = '';
          for (let i = 0; i < headers.length; i += 2) lines += `${headers[i]}: ${headers[i + 1]}\r\n`;
          expect(rateLimitLines(windows, quota)).toBe(lines);
        }
      }),
    );
  });
});
