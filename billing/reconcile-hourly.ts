import { randomBytes } from 'node:crypto';
import { ProblemError } from '../shared/problems.ts';
import { type Drift, reconcile } from './reconcile.ts';
import type { SettleContext } from './settle.ts';

const HOUR_MS = 3_600_000;
/** What was done a moment ago by another process need not be done again: hourly turns may come a little early. */
const REST_MS = HOUR_MS - 60_000;
/** How soon another process may take over from one that was killed; a run says that it lives more often than that. */
const HOLD_MS = 300_000;
const RENEW_MS = 60_000;
const RETRY_MS = 300_000;
/** Stripe lists events for 30 days: after a longer pause there is no more to be had of them. */
const LONGEST_BACK_MS = 30 * 24 * HOUR_MS;
/** What happened shortly before a run began may not have been in Stripe's lists yet. */
const OVERLAP_MS = HOUR_MS;

/** Reconciles at the start and then every hour; of several billing processes on one keystore, one does. */
export class HourlyReconcile {
  readonly #context: SettleContext;
  readonly #afterRun: () => void;
  readonly #owner = randomBytes(8).toString('hex');
  readonly #stopping = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  /** @param afterRun called when the inbox may hold events that were fetched */
  constructor(context: SettleContext, afterRun: () => void) {
    this.#context = context;
    this.#afterRun = afterRun;
  }

  start(): void {
    this.#running = this.#run(0);
  }

  /** Ends a run under way at its next step, and waits for that for at most `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await Promise.race([this.#running, new Promise((resolve) => setTimeout(resolve, timeoutMs).unref())]);
  }

  async #run(restMs: number): Promise<void> {
    let pauseMs = HOUR_MS;
    try {
      // Whoever is at it may be killed before it is done.
      if ((await this.#reconcile(restMs)) === 'busy') pauseMs = RETRY_MS;
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      this.#context.metrics?.reconcileFailed();
      const away = error instanceof ProblemError && error.code === 'stripe_unavailable';
      this.#context.log[away ? 'warn' : 'error'](
        { err: error },
        'Reconciling with Stripe did not finish; trying again in five minutes',
      );
      pauseMs = RETRY_MS;
    }
    if (this.#stopping.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#run(REST_MS);
    }, pauseMs).unref();
  }

  async #reconcile(restMs: number): Promise<'done' | 'busy' | 'rested'> {
    const { keystore, log } = this.#context;
    const turn = { task: 'reconcile', owner: this.#owner };
    const taken = await keystore.takeTurn({ ...turn, holdMs: HOLD_MS, restMs });
    if (taken === 'busy' || taken === 'rested') return taken;
    const renewing = setInterval(() => {
      keystore.takeTurn({ ...turn, holdMs: HOLD_MS, restMs: 0 }).catch((error) => {
        if (!this.#stopping.signal.aborted)
          log.warn({ err: error }, 'The turn at reconciling was not renewed');
      });
    }, RENEW_MS).unref();
    const startedAt = Date.now();
    let doneAt: number | null = null;
    try {
      const since = Math.max(
        startedAt - LONGEST_BACK_MS,
        (taken.doneAt ?? (await keystore.boundAt())) - OVERLAP_MS,
      );
      const { drift, checked } = await reconcile(this.#context, {
        since,
        dryRun: false,
        signal: this.#stopping.signal,
      });
      doneAt = startedAt;
      for (const each of drift) log[levelOf(each)]({ drift: each }, 'Not as at Stripe');
      log.info({ checked, drift: drift.length }, 'Reconciled with Stripe');
      this.#context.metrics?.reconciled(drift);
      this.#afterRun();
      return 'done';
    } finally {
      clearInterval(renewing);
      // On a stop the keystore may be closed already; the turn then runs out.
      await keystore.endTurn({ ...turn, doneAt }).catch((error) => {
        if (!this.#stopping.signal.aborted)
          log.warn({ err: error }, 'The turn at reconciling was not given back');
      });
    }
  }
}

function levelOf({ open }: Drift): 'warn' | 'info' {
  return open ? 'warn' : 'info';
}
