import { setTimeout as sleep } from 'node:timers/promises';
import type { Keystore } from '../../keystore/keystore.ts';
import type { Logger } from '../../shared/log.ts';

/** How long first uses are gathered for one transaction. Each costs the keystore a write to the disk. */
const GATHER_MS = 25;
/** Keys noted in one transaction. */
const BATCH = 100;
/** How long a request waits for a keystore that cannot be written, before it goes on without. */
const WAIT_MS = 500;
/** How long the keystore is left alone after that. */
const PAUSE_MS = 1000;
/** An outage is one line in a while. */
const FAILURE_LOG_MS = 5000;

/** A key that is in use, and since when as far as is known; `null`: the keystore does not know that it is. */
export type KeyInUse = { readonly id: string; firstUsedAt: number | null };

type Batch = { uses: Set<KeyInUse>; over: Promise<unknown> };

/**
 * Tells the keystore of the first use of each key, before that use is answered. A buyer whose key was shown and lost on
 * the way gets another one from the success page, for 24 hours and as long as nobody has used the first: a key that
 * works somewhere must never be switched off by whoever finds the link to that page. So the note has to be there before
 * the key has done anything, not when its usage reaches the ledger half a second later.
 *
 * A keystore that cannot be written is not the customer's fault: then the request goes on, and the key's next one tries
 * again.
 */
export class FirstUses {
  readonly #keystore: Pick<Keystore, 'markKeysUsed'>;
  readonly #log: Logger;
  #gathering: Batch | undefined;
  /** Ends with the write that the next one waits for. */
  #writing: Promise<void> = Promise.resolve();
  #pausedUntil = 0;
  #loggedAt = Number.NEGATIVE_INFINITY;

  constructor(options: { keystore: Pick<Keystore, 'markKeysUsed'>; log: Logger }) {
    this.#keystore = options.keystore;
    this.#log = options.log;
  }

  /**
   * Notes the use of a key. Resolves when the request may go on. Once it is written, which may be later, `firstUsedAt` is set.
   * Never throws.
   */
  async note(use: KeyInUse): Promise<void> {
    if (performance.now() < this.#pausedUntil) return;
    let batch = this.#gathering;
    if (batch === undefined || (batch.uses.size >= BATCH && !batch.uses.has(use))) {
      batch = this.#open();
      this.#gathering = batch;
    }
    batch.uses.add(use);
    await batch.over;
  }

  #open(): Batch {
    const uses = new Set<KeyInUse>();
    const written = Promise.all([sleep(GATHER_MS), this.#writing]).then(() => this.#write(uses));
    this.#writing = written;
    const inTime = new AbortController();
    const late = sleep(WAIT_MS, undefined, { signal: inTime.signal, ref: false }).then(
      () => this.#failed(new Error(`No answer within ${WAIT_MS} ms`)),
      () => {},
    );
    return { uses, over: Promise.race([written.finally(() => inTime.abort()), late]) };
  }

  async #write(uses: Set<KeyInUse>): Promise<void> {
    if (this.#gathering?.uses === uses) this.#gathering = undefined;
    try {
      await this.#keystore.markKeysUsed([...new Set([...uses].map((use) => use.id))]);
      for (const use of uses) use.firstUsedAt ??= Date.now();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    const now = performance.now();
    this.#pausedUntil = now + PAUSE_MS;
    if (now - this.#loggedAt < FAILURE_LOG_MS) return;
    this.#loggedAt = now;
    this.#log.error({ err: error }, 'First uses of keys cannot be noted in the keystore; requests go on');
  }
}
