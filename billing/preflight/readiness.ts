import type { Logger } from '../../shared/log.ts';
import { type PreflightContext, type Result, runPreflight } from './preflight.ts';

/** A preflight that was made: what it found, for whom, and when it began. */
export type ReadinessRun = { results: readonly Result[]; by: string; at: number };

/** How long a preflight may take, milliseconds: as long as the history of git is searched, and Stripe slow. */
const LIMIT_MS = 90_000;

/** The preflight of a billing that runs: one at a time, whoever asks for it, and the last is remembered. */
export class Readiness {
  readonly #context: PreflightContext;
  readonly #log: Logger;
  #last: ReadinessRun | null = null;
  #underWay: { by: string; at: number; run: Promise<void> } | null = null;

  constructor(context: PreflightContext, log: Logger) {
    this.#context = context;
    this.#log = log;
  }

  /** `null`: none was made since this process began. */
  get last(): ReadinessRun | null {
    return this.#last;
  }

  /** For whom, and since when, one is under way. */
  get underWay(): { by: string; at: number } | null {
    return this.#underWay;
  }

  /** Makes a preflight, or joins the one that is under way. */
  check(by: string): Promise<void> {
    this.#underWay ??= { by, at: this.#context.now(), run: this.#check(by) };
    return this.#underWay.run;
  }

  async #check(by: string): Promise<void> {
    const at = this.#context.now();
    try {
      const results = await runPreflight(this.#context, { limitMs: LIMIT_MS });
      this.#last = { results, by, at };
      this.#log.info({ by, stops: idsOf(results, 'stop'), warnings: idsOf(results, 'warning') }, 'Preflight');
    } finally {
      this.#underWay = null;
    }
  }
}

function idsOf(results: readonly Result[], verdict: Result['verdict']): string[] {
  return results.filter((result) => result.verdict === verdict).map(({ id }) => id);
}
