import { StripeError } from './errors.ts';
import { day } from './world.ts';

export interface StoredAnswer {
  status: number;
  body: string;
  requestId: string;
}

interface Entry {
  path: string;
  params: string;
  madeAt: number;
  answer: StoredAnswer | undefined;
}

/**
 * Answers to POST requests by idempotency key (https://docs.stripe.com/api/idempotent_requests): kept for a day,
 * whether the request succeeded or failed, unless it never began (invalid parameters, or the key in use).
 */
export class IdempotencyKeys {
  readonly #entries = new Map<string, Entry>();

  /**
   * Claims `key` for a request, or gives the answer stored under it.
   *
   * @throws StripeError 400 `idempotency_error` for another path or other parameters; 409 `idempotency_key_in_use`
   *   while the first request with the key is still going on.
   */
  begin(key: string, path: string, params: string, now: number): StoredAnswer | undefined {
    const entry = this.#entries.get(key);
    if (!entry || now - entry.madeAt >= day) {
      this.#entries.set(key, { path, params, madeAt: now, answer: undefined });
      return undefined;
    }
    const advice = `Try using a key other than '${key}' if you meant to execute a different request.`;
    if (entry.path !== path) {
      throw new StripeError(400, {
        type: 'idempotency_error',
        message: `Keys for idempotent requests can only be used for the same endpoint they were first used for ('${path}' vs '${entry.path}'). ${advice}`,
      });
    }
    if (entry.params !== params) {
      throw new StripeError(400, {
        type: 'idempotency_error',
        message: `Keys for idempotent requests can only be used with the same parameters they were first used with. ${advice}`,
      });
    }
    if (!entry.answer) {
      throw new StripeError(409, {
        type: 'idempotency_error',
        code: 'idempotency_key_in_use',
        message: `There is currently another in-progress request using this Idempotency-Key (that probably means you submitted twice, and the other request is still going through): ${key}. You probably want to try again in a bit.`,
      });
    }
    return entry.answer;
  }

  store(key: string, answer: StoredAnswer): void {
    const entry = this.#entries.get(key);
    if (entry) entry.answer = answer;
  }

  /** Frees a key whose request never began to execute. */
  release(key: string): void {
    if (!this.#entries.get(key)?.answer) this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}
