import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '../../shared/log.ts';
import { ProblemError } from '../../shared/problems.ts';
import { lookAtEndpoints } from '../stripe-endpoints.ts';
import { lookAtPortal } from '../stripe-portal.ts';
import { canceledCustomers } from './canceled-customers.ts';
import type { PreflightContext } from './check.ts';
import { secretInTrackedFile } from './secrets.ts';

/** Between two looks, milliseconds. */
const EVERY_MS = 15 * 60_000;
/** A buyer who comes meanwhile has it looked at anew, at most so often, and waits for that so long. */
const REST_MS = 5000;
const WAIT_MS = 2000;
/** Without it nobody hears of a purchase but by the success page, and by reconciling. */
const PAID = 'checkout.session.completed';
/** How long a look may search the files of git, milliseconds. */
const SEARCH_MS = 5000;

/** What stops sales, by name. */
export type StopConditionId = 'secret_in_git' | 'portal' | 'webhook' | 'canceled_customers';

/** A stop condition that holds. */
export type Stop = { id: StopConditionId; detail: string };

/**
 * What nobody may be sold anything by, while it lasts: each says what is wrong, or `null`. They are narrower than preflight's checks
 * of the same things, since they turn buyers away: an endpoint that lacks one event is enough here, and one at any address may lead to us.
 */
const CONDITIONS: Readonly<Record<StopConditionId, (context: PreflightContext) => Promise<string | null>>> = {
  secret_in_git: async (context) => (await secretInTrackedFile(context, SEARCH_MS))?.detail ?? null,
  portal: async ({ stripe }) =>
    (await lookAtPortal(stripe))?.cancel === false ? 'Buyers cannot cancel in the customer portal.' : null,
  webhook: async ({ config, stripe }) => {
    if (!config.stripe?.webhookSecret) return 'STRIPE_WEBHOOK_SECRET is unset: every webhook is refused.';
    const endpoints = await lookAtEndpoints(stripe);
    const sold = endpoints.some(({ enabled, missingEvents }) => enabled && !missingEvents.includes(PAID));
    return sold ? null : `No enabled webhook endpoint at Stripe gets ${PAID}.`;
  },
  canceled_customers: async (context) => {
    const { verdict, detail } = await canceledCustomers.run(context);
    return verdict === 'stop' ? detail : null;
  },
};
export const STOP_CONDITION_IDS = Object.keys(CONDITIONS) as StopConditionId[];

/**
 * Keeps an eye on the stop conditions, in the background, and refuses new checkouts while one of them holds. What cannot be
 * looked at does not hold: no seller is shut because Stripe is slow. Nobody waits for a look but a buyer who would be refused.
 */
export class StopConditions {
  readonly #context: PreflightContext;
  readonly #log: Logger;
  readonly #onLook: ((stops: readonly Stop[]) => void) | undefined;
  #stops: readonly Stop[] = [];
  #looking: Promise<void> | undefined;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  /** @param onLook called after each look with what holds */
  constructor(context: PreflightContext, log: Logger, onLook?: (stops: readonly Stop[]) => void) {
    this.#context = context;
    this.#log = log;
    this.#onLook = onLook;
  }

  /** Those that held at the last look. Empty: checkouts are open. */
  get stops(): readonly Stop[] {
    return this.#stops;
  }

  /** Looks now, and from then on every quarter of an hour. */
  start(): void {
    void this.look();
    this.#timer = setInterval(() => void this.look(), EVERY_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** @throws ProblemError `sales_stopped` while a stop condition holds */
  async refuseCheckout(): Promise<void> {
    if (this.#stops.length === 0) return;
    if (performance.now() - this.#lookedAt > REST_MS)
      await Promise.race([this.look(), pause(WAIT_MS, undefined, { ref: false })]);
    if (this.#stops.length > 0) throw new ProblemError('sales_stopped');
  }

  /** Looks at all of them, however often it is called meanwhile. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#lookedAt = performance.now();
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const found: Stop[] = [];
    for (const id of STOP_CONDITION_IDS) {
      try {
        const detail = await CONDITIONS[id](this.#context);
        if (detail !== null) found.push({ id, detail });
      } catch (error) {
        this.#log.info({ err: error }, 'A stop condition could not be looked at; it does not count');
      }
    }
    if (found.length > 0)
      this.#log.error({ stops: found }, 'Checkouts are refused: npm run preflight says what to do');
    else if (this.#stops.length > 0) this.#log.info('Checkouts are open again');
    this.#stops = found;
    this.#onLook?.(found);
  }
}
