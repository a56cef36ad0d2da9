import type { Keystore } from '../../keystore/keystore.ts';
import { accessOf } from '../../shared/access.ts';
import type { PlanCatalogue } from '../../shared/plans.ts';

/** Keys that may be used, and when they were counted, milliseconds since the epoch. */
export type ActiveKeyCount = { count: number; at: number };

/** How old a count may be, and how long a page waits for a newer one where there is an old one. */
const FRESH_MS = 60_000;
const PATIENCE_MS = 250;

/** Counts active keys at most once a minute, whoever asks, as it goes through every key there is. */
export class ActiveKeys {
  readonly #keystore: Pick<Keystore, 'keyStandings'>;
  readonly #plans: PlanCatalogue;
  readonly #now: () => number;
  #last: ActiveKeyCount | null = null;
  #counting: Promise<ActiveKeyCount> | null = null;

  constructor(keystore: Pick<Keystore, 'keyStandings'>, plans: PlanCatalogue, now: () => number = Date.now) {
    this.#keystore = keystore;
    this.#plans = plans;
    this.#now = now;
  }

  /** The last count; a new one where there is none yet, or where it takes no time. */
  async read(): Promise<ActiveKeyCount> {
    const last = this.#last;
    if (last && this.#now() - last.at < FRESH_MS) return last;
    this.#counting ??= this.#count().finally(() => {
      this.#counting = null;
    });
    if (!last) return this.#counting;
    const old = new Promise<ActiveKeyCount>((resolve) => setTimeout(resolve, PATIENCE_MS, last).unref());
    return Promise.race([this.#counting.catch(() => last), old]);
  }

  async #count(): Promise<ActiveKeyCount> {
    const at = this.#now();
    let count = 0;
    for (const { key, subscription, planId, ...keys } of await this.#keystore.keyStandings()) {
      const access = accessOf(key, subscription, this.#plans.plan(planId) ?? {}, at);
      if (access.state === 'active') count += keys.count;
    }
    this.#last = { count, at };
    return this.#last;
  }
}
