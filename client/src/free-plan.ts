import type { Catalogue } from './catalogue.ts';
import { inTime } from './in-time.ts';
import { isFresh, type Kept, type Published } from './published.ts';

/** What the free plan includes is asked for again when it is this old. */
const AGE_MS = 24 * 3_600_000;
/** After it could not be had, nobody waits for it for so long. */
const PAUSE_MS = 60_000;

/** What somebody without a licence has. */
export class FreePlan {
  readonly #published: Published;
  readonly #trustFile: boolean;
  #said: Kept<Catalogue> | null = null;
  #asking: Promise<void> | null = null;
  #askedAt = Number.NEGATIVE_INFINITY;

  /**
   * @param trustFile whether what an earlier program was told counts too: nobody signed it, and whoever owns the machine can
   *   write any plan and feature there
   */
  constructor(published: Published, trustFile: boolean) {
    this.#published = published;
    this.#trustFile = trustFile;
  }

  /** What is known of it; `null`: nothing. @param waitMs for the network, when nothing is known */
  async known(waitMs: number): Promise<Catalogue | null> {
    const known = this.#said ?? (this.#trustFile ? await this.#published.keptDemo() : null);
    if (known !== null && isFresh(known, AGE_MS)) return known.value;
    const asking = this.#ask();
    if (known !== null || waitMs <= 0) return known?.value ?? null;
    await inTime(asking, waitMs);
    return this.#said?.value ?? null;
  }

  /** Asks the server. @throws TollgateError */
  async fetch(): Promise<Catalogue> {
    this.#said = await this.#published.fetchDemo();
    return this.#said.value;
  }

  forget(): void {
    this.#said = null;
    this.#askedAt = Number.NEGATIVE_INFINITY;
  }

  #ask(): Promise<void> {
    if (this.#asking !== null) return this.#asking;
    if (performance.now() - this.#askedAt < PAUSE_MS) return Promise.resolve();
    this.#askedAt = performance.now();
    this.#asking = this.fetch()
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        this.#asking = null;
      });
    return this.#asking;
  }
}
