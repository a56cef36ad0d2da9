import type { CircuitSpec } from '../routes/route-spec.ts';

export type CircuitState = 'closed' | 'open' | 'half_open';

/** Failures closer together than this are one: a server that restarts breaks all its connections at the same moment. */
const SAME_MOMENT_MS = 10;
/** The longest pause, as a multiple of the first one. */
const LONGEST_PAUSE = 8;

/**
 * What the requests sent to a server say of its health. So many failures in a row open the circuit: the server is left
 * alone for a pause. Then it is half open: one request in each pause tries the server. An answer closes the circuit, a
 * failure opens it again, for twice as long each time where that is wanted.
 *
 * A failure is: no connection, no TLS handshake, a connection that broke before the answer began, and, where there is
 * another server, no answer in time. An
 * answer is never one, whatever its status: a 503 may be about one resource or one customer, and must not take the API
 * from all others. A server that wants to be left alone says so to an active health check.
 *
 * Knows no clock: `now` is in milliseconds on any clock that only goes forward.
 */
export class Circuit {
  readonly #spec: CircuitSpec;
  readonly #grows: boolean;
  #state: CircuitState = 'closed';
  #failures = 0;
  #failedAt = Number.NEGATIVE_INFINITY;
  #pauseMs: number;
  #nextTryAt = 0;

  /** @param grows whether pauses grow: not where no other server could take the requests meanwhile */
  constructor(spec: CircuitSpec, grows: boolean) {
    this.#spec = spec;
    this.#grows = grows;
    this.#pauseMs = spec.openMs;
  }

  get state(): CircuitState {
    return this.#state;
  }

  /** When the server may be tried; in the past when it may be now. */
  get nextTryAt(): number {
    return this.#state === 'closed' ? Number.NEGATIVE_INFINITY : this.#nextTryAt;
  }

  /** Whether a request may go to the server. */
  admits(now: number): boolean {
    return this.#state === 'closed' || now >= this.#nextTryAt;
  }

  /** A request goes there. If nothing is heard of it (its client left), another may try after the same pause. */
  tried(now: number): void {
    if (this.#state === 'closed') return;
    this.#state = 'half_open';
    this.#nextTryAt = now + this.#pauseMs;
  }

  /** The server answered. */
  succeeded(): void {
    this.#failures = 0;
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#pauseMs = this.#spec.openMs;
  }

  /** The server did not answer. */
  failed(now: number): void {
    if (this.#state === 'open') return;
    if (this.#state === 'half_open') {
      if (this.#grows) this.#pauseMs = Math.min(this.#pauseMs * 2, this.#spec.openMs * LONGEST_PAUSE);
    } else {
      if (now - this.#failedAt < SAME_MOMENT_MS && this.#failures > 0) return;
      this.#failedAt = now;
      this.#failures++;
      if (this.#failures < this.#spec.failures) return;
    }
    this.#state = 'open';
    this.#nextTryAt = now + this.#pauseMs;
  }
}
