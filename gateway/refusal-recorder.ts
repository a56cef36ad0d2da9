import type { Keystore, Refusal } from '../keystore/keystore.ts';
import type { Logger } from '../shared/log.ts';
import type { ProblemCode } from '../shared/problems.ts';
import type { Logged } from './access-log.ts';

/** How often refusals are written down. */
const FLUSH_MS = 1000;
/** Of each key, and of requests without a known key together, so many are written down each time. */
const MAX_OF_A_KEY = 5;
const MAX_WITHOUT_KEY = 20;
/** And of all together: what the keystore takes in some milliseconds. */
const MAX_PENDING = 250;
/** A stop does not wait longer than this for a keystore that is away. */
const CLOSE_MS = 400;

/**
 * Writes down which requests were refused and why, for those who ask later. Of a flood only its beginning, each second: the
 * rest costs a look-up and a number, and is counted as dropped.
 */
export class RefusalRecorder {
  readonly #keystore: Pick<Keystore, 'recordRefusals'>;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;
  #pending: Refusal[] = [];
  /** How many of `#pending` each key has. */
  #counts = new Map<string, number>();
  #flushing: Promise<void> | undefined;
  #failing = false;
  /** Refusals in the keystore, and those that were too many for it, since the start. */
  written = 0;
  dropped = 0;

  constructor({ keystore, log }: { keystore: Pick<Keystore, 'recordRefusals'>; log: Logger }) {
    this.#keystore = keystore;
    this.#log = log;
    this.#timer = setInterval(() => void this.flush(), FLUSH_MS);
    this.#timer.unref();
  }

  /** @param keyId `null`: whose key it was is not known */
  note(request: Logged, keyId: string | null, code: ProblemCode, detail: string | null): void {
    const ring = keyId ?? '';
    const count = this.#counts.get(ring) ?? 0;
    if (count >= (keyId === null ? MAX_WITHOUT_KEY : MAX_OF_A_KEY) || this.#pending.length >= MAX_PENDING) {
      this.dropped++;
      return;
    }
    this.#counts.set(ring, count + 1);
    this.#pending.push({
      at: Date.now(),
      requestId: request.requestId,
      keyId,
      code,
      detail,
      method: request.method,
      host: request.head.host,
      path: request.path,
      route: request.route?.name ?? null,
      address: request.address,
    });
  }

  /** Writes down what was noted. Never throws: what cannot be written waits, and takes the place of what comes later. */
  flush(): Promise<void> {
    this.#flushing ??= this.#write().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  /** Writes what is left and stops. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    const late = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_MS).unref());
    await Promise.race([this.flush().then(() => this.flush()), late]);
  }

  async #write(): Promise<void> {
    const refusals = this.#pending;
    if (refusals.length === 0) return;
    this.#pending = [];
    this.#counts = new Map();
    try {
      await this.#keystore.recordRefusals(refusals);
      this.written += refusals.length;
      this.#failing = false;
    } catch (error) {
      this.dropped += Math.max(0, refusals.length + this.#pending.length - MAX_PENDING);
      this.#pending = [...refusals, ...this.#pending].slice(0, MAX_PENDING);
      if (!this.#failing) this.#log.warn({ err: error }, 'Refusals cannot be written down');
      this.#failing = true;
    }
  }
}
