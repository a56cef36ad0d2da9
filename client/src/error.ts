/**
 * What went wrong. `code` is stable, to branch on: one of the server's (see its HTTP reference) or one of
 * {@link LocalCode}. `remedy` says what a person can do.
 */
export class TollgateError extends Error {
  readonly code: string;
  readonly remedy: string | null;
  /** The HTTP status of the server's answer; `null`: this machine found it. */
  readonly status: number | null;
  /** What else the server said, such as `devices` and `limit` with `device_limit`. */
  readonly extensions: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    detail: string,
    remedy: string | null = null,
    more: { status?: number; extensions?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(detail, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'TollgateError';
    this.code = code;
    this.remedy = remedy;
    this.status = more.status ?? null;
    this.extensions = more.extensions ?? {};
  }

  /** In how many seconds to try again, where the server says so. */
  get retryAfterSeconds(): number | null {
    const seconds = this.extensions.retry_after;
    return typeof seconds === 'number' && seconds >= 0 ? seconds : null;
  }

  /** Nobody knows yet: no network, no server, or one that cannot answer now. Says nothing on who is entitled. */
  get isServerTrouble(): boolean {
    if (this.code === 'server_unreachable' || this.code === 'unexpected_answer') return true;
    return this.status !== null && (this.status >= 500 || this.status === 429 || this.status === 408);
  }
}

/** Codes of what this machine finds, beside those of the server. */
export type LocalCode =
  /** No answer, or not in time. */
  | 'server_unreachable'
  /** Something answered that is not Tollgate: a captive portal, another program on that port. */
  | 'unexpected_answer'
  /** The server's address is not HTTPS, and not of this machine. */
  | 'insecure_server'
  /** What was waited for did not happen in time. */
  | 'timed_out'
  /** Whoever called gave up waiting. */
  | 'aborted'
  /** A file of ours cannot be understood. It is left as it is. */
  | 'storage_corrupt'
  /** A file of ours cannot be read or written. */
  | 'storage_unavailable'
  /** There is no key here. */
  | 'no_key'
  /** What was given is not a whole key. */
  | 'key_malformed'
  /** The key is of another product. */
  | 'wrong_product'
  /** The plan is another one. */
  | 'plan_required';
