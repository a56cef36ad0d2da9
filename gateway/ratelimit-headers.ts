import type { WindowState } from './limits.ts';
import type { QuotaState } from './quota.ts';

/**
 * The limits of a key as response headers, name and value in turn: the structured fields of
 * draft-ietf-httpapi-ratelimit-headers-11 with every window and the quota, and the older `X-RateLimit-*` for the
 * tightest of them. Seconds are rounded up, so that whoever waits them out never comes too early.
 */
export function rateLimitHeaders(windows: readonly WindowState[], quota: QuotaState | null): string[] {
  if (windows.length === 0 && quota === null) return [];
  let policy = '';
  let state = '';
  let tightest: { limit: number; remaining: number; resetSeconds: number } | null = null;
  for (const window of windows) {
    const separator = policy === '' ? '' : ', ';
    policy += `${separator}"${window.name}";q=${window.limit};w=${window.windowSeconds}`;
    state += `${separator}"${window.name}";r=${window.remaining};t=${window.resetSeconds}`;
    tightest = tighter(tightest, window);
  }
  if (quota !== null) {
    const separator = policy === '' ? '' : ', ';
    policy += `${separator}"month";q=${quota.limit};w=${quota.windowSeconds}`;
    state += `${separator}"month";r=${quota.remaining};t=${quota.resetSeconds}`;
    tightest = tighter(tightest, quota);
  }
  const { limit, remaining, resetSeconds } = tightest as NonNullable<typeof tightest>;
  return [
    'RateLimit-Policy',
    policy,
    'RateLimit',
    state,
    'X-RateLimit-Limit',
    `${limit}`,
    'X-RateLimit-Remaining',
    `${remaining}`,
    'X-RateLimit-Reset',
    `${resetSeconds}`,
  ];
}

/** The one with the fewest requests left; of two with as many, the one that takes longer to renew. */
function tighter<T extends { remaining: number; resetSeconds: number }>(a: T | null, b: T): T {
  if (a === null || b.remaining < a.remaining) return b;
  return b.remaining === a.remaining && b.resetSeconds > a.resetSeconds ? b : a;
}
