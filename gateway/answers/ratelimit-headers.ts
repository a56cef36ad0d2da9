import type { WindowState } from '../decision/limits.ts';
import type { QuotaState } from '../decision/quota.ts';
import { onePiece } from '../one-piece.ts';

type Renewing = { limit: number; remaining: number; resetSeconds: number };

/** What is said of the limits of a key. `tightest`: of those that renew; `null`: none does. */
type Said = { policy: string; state: string; tightest: Renewing | null };

/**
 * The limits of a key as response headers, name and value in turn: the structured fields of
 * draft-ietf-httpapi-ratelimit-headers-11 with every window and the quota, and the older `X-RateLimit-*` for the
 * tightest of those that renew. What never renews has neither a window (`w`) nor a time to wait (`t`): the draft makes
 * both optional. Seconds are rounded up, so that whoever waits them out never comes too early.
 */
export function rateLimitHeaders(windows: readonly WindowState[], quota: QuotaState | null): string[] {
  if (windows.length === 0 && quota === null) return [];
  const { policy, state, tightest } = said(windows, quota);
  const headers = ['RateLimit-Policy', policy, 'RateLimit', state];
  if (tightest !== null) {
    const { limit, remaining, resetSeconds } = tightest;
    headers.push('X-RateLimit-Limit', `${limit}`, 'X-RateLimit-Remaining', `${remaining}`);
    headers.push('X-RateLimit-Reset', `${resetSeconds}`);
  }
  return headers;
}

/** The same as the text of a head, each line with its CRLF, from as few pieces as can be. */
export function rateLimitLines(windows: readonly WindowState[], quota: QuotaState | null): string {
  if (quota === null) {
    if (windows.length === 0) return '';
    if (windows.length === 1) return linesOfOne(windows[0] as WindowState);
  }
  const { policy, state, tightest } = said(windows, quota);
  const lines = `RateLimit-Policy: ${policy}\r\nRateLimit: ${state}\r\n`;
  if (tightest === null) return lines;
  const { limit, remaining, resetSeconds } = tightest;
  return `${lines}X-RateLimit-Limit: ${limit}\r\nX-RateLimit-Remaining: ${remaining}\r\nX-RateLimit-Reset: ${resetSeconds}\r\n`;
}

/** What the lines of one window say whatever is left of it: before that, and then by when it renews. */
type Fixed = Pick<WindowState, 'name' | 'limit' | 'windowSeconds'> & {
  begin: string;
  /** By the seconds until then. */
  renewals: (Renewal | undefined)[];
};
/** What they say of when it renews: between the two places that tell what is left, and after them. */
type Renewal = { between: string; end: string };

/** By limit and length. Most requests are of one of a few plans. */
const FIXED: (Fixed | undefined)[] = new Array(64).fill(undefined);
/** Of how many seconds it is kept what is said of them: more come up so seldom again that keeping them costs more. */
const KEPT_SECONDS = 64;

/** The lines of what most plans have: one window. Half of what they cost is the number of pieces that they are made of. */
function linesOfOne({ name, limit, windowSeconds, remaining, resetSeconds }: WindowState): string {
  // Knuth's multiplicative hashing: limits are round numbers.
  const place = Math.imul(limit ^ windowSeconds, 0x9e3779b1) >>> 26;
  let fixed = FIXED[place];
  if (
    fixed === undefined ||
    fixed.limit !== limit ||
    fixed.windowSeconds !== windowSeconds ||
    fixed.name !== name
  ) {
    fixed = {
      name,
      limit,
      windowSeconds,
      begin: onePiece(`RateLimit-Policy: "${name}";q=${limit};w=${windowSeconds}\r\nRateLimit: "${name}";r=`),
      renewals: new Array(KEPT_SECONDS).fill(undefined),
    };
    FIXED[place] = fixed;
  }
  const isKept = resetSeconds < KEPT_SECONDS;
  let renewal = isKept ? fixed.renewals[resetSeconds] : undefined;
  if (renewal === undefined) {
    const between = `;t=${resetSeconds}\r\nX-RateLimit-Limit: ${limit}\r\nX-RateLimit-Remaining: `;
    const end = `\r\nX-RateLimit-Reset: ${resetSeconds}\r\n`;
    renewal = isKept ? { between: onePiece(between), end: onePiece(end) } : { between, end };
    if (isKept) fixed.renewals[resetSeconds] = renewal;
  }
  const left = `${remaining}`;
  return fixed.begin + left + renewal.between + left + renewal.end;
}

function said(windows: readonly WindowState[], quota: QuotaState | null): Said {
  let policy = '';
  let state = '';
  let tightest: Renewing | null = null;
  for (const window of windows) {
    const separator = policy === '' ? '"' : ', "';
    policy += `${separator}${window.name}";q=${window.limit};w=${window.windowSeconds}`;
    state += `${separator}${window.name}";r=${window.remaining};t=${window.resetSeconds}`;
    tightest = tighter(tightest, window);
  }
  if (quota !== null) {
    const separator = policy === '' ? '"' : ', "';
    policy += `${separator}${quota.per}";q=${quota.limit}`;
    state += `${separator}${quota.per}";r=${quota.remaining}`;
    if (quota.per === 'month') {
      policy += `;w=${quota.windowSeconds}`;
      state += `;t=${quota.resetSeconds}`;
      tightest = tighter(tightest, quota);
    }
  }
  return { policy, state, tightest };
}

/** The one with the fewest requests left; of two with as many, the one that takes longer to renew. */
function tighter(a: Renewing | null, b: Renewing): Renewing {
  if (a === null || b.remaining < a.remaining) return b;
  return b.remaining === a.remaining && b.resetSeconds > a.resetSeconds ? b : a;
}
