import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { LRUCache } from 'lru-cache';
import type { LeasedEvent } from '../keystore/keystore.ts';
import { ProblemError } from '../shared/problems.ts';
import { type SettleContext, settle, settleSubscription } from './settle.ts';
import { lookAtEvent } from './stripe-look.ts';

/** How long one event may take before another process may take it over, milliseconds: three calls to a Stripe that hangs. */
const LEASE_MS = 120_000;
/** Events worked on at once: enough to keep Stripe busy, few enough for its limit of 25 requests a second in test mode. */
const CONCURRENCY = 8;
const IDLE_POLL_MS = 1000;
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 300_000;
/** Stripe itself stops delivering after three days. */
const GIVE_UP_AFTER_MS = 3 * 86_400_000;

/** What processing an event came to. `failed`: a person has to act, so it is kept and can be sent again. */
type Result = { outcome: string; failed?: string };

/**
 * Works off the event inbox: leases what is due, looks at Stripe at what each event names, writes what is true now.
 * A failure of Stripe's or ours is tried again with growing, scattered pauses; one that needs a person is kept as failed.
 */
export class InboxWorker {
  readonly #context: SettleContext;
  readonly #owner = `${hostname()}:${process.pid}:${randomBytes(4).toString('hex')}`;
  readonly #active = new Set<Promise<void>>();
  readonly #sessions = new LRUCache<string, string>({ max: 10_000, ttl: 600_000 });
  #timer: NodeJS.Timeout | undefined;
  #filling: Promise<void> = Promise.resolve();
  #leasing = false;
  #leaseAgain = false;
  #stopped = false;

  constructor(context: SettleContext) {
    this.#context = context;
  }

  start(): void {
    this.#timer = setInterval(() => this.wake(), IDLE_POLL_MS);
    this.#timer.unref();
    this.wake();
  }

  /**
   * There may be work: an event has just come in.
   *
   * @param session the checkout session it is about, which the inbox does not keep: remembered here for a while, so that
   *   Stripe need not be asked for the event again
   */
  wake(session?: { eventId: string; sessionId: string }): void {
    if (session) this.#sessions.set(session.eventId, session.sessionId);
    this.#leaseAgain = true;
    if (!this.#leasing) this.#filling = this.#fill();
  }

  /** Takes no more work, waits for what is under way for at most `timeoutMs`, and gives back the leases of the rest. */
  async stop(timeoutMs: number): Promise<void> {
    await this.#finish(timeoutMs);
    await this.#filling;
    try {
      await this.#context.keystore.releaseLeases(this.#owner);
    } catch (error) {
      this.#context.log.warn({ err: error }, 'Leases could not be given back; they run out by themselves');
    }
  }

  async #finish(timeoutMs: number): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    const timeout = new Promise((resolve) => setTimeout(resolve, timeoutMs).unref());
    while (this.#active.size > 0) {
      const settled = await Promise.race([Promise.all(this.#active).then(() => 'idle'), timeout]);
      if (settled !== 'idle') return;
    }
  }

  async #fill(): Promise<void> {
    this.#leasing = true;
    try {
      while (this.#leaseAgain && !this.#stopped && this.#active.size < CONCURRENCY) {
        this.#leaseAgain = false;
        const events = await this.#context.keystore.leaseEvents({
          owner: this.#owner,
          limit: CONCURRENCY - this.#active.size,
          leaseMs: LEASE_MS,
        });
        if (this.#stopped) return;
        if (events.length > 0) this.#leaseAgain = true;
        for (const event of events) this.#run(event);
      }
    } catch (error) {
      this.#context.log.error({ err: error }, 'The event inbox cannot be read; trying again');
    } finally {
      this.#leasing = false;
    }
  }

  #run(event: LeasedEvent): void {
    const work = this.#process(event).finally(() => {
      this.#active.delete(work);
      this.wake();
    });
    this.#active.add(work);
  }

  async #process(event: LeasedEvent): Promise<void> {
    const { keystore, log } = this.#context;
    const about = { event: event.id, type: event.type, attempt: event.attempts };
    try {
      const result = await handle(this.#context, event, this.#sessions.get(event.id) ?? null);
      if (result.failed === undefined) {
        await keystore.completeEvent({ id: event.id, outcome: result.outcome });
        this.#sessions.delete(event.id);
        log.info({ ...about, outcome: result.outcome }, 'Event processed');
      } else {
        await keystore.failEvent({
          id: event.id,
          outcome: result.outcome,
          error: result.failed,
          retryAt: null,
        });
        log.error(
          { ...about, outcome: result.outcome, reason: result.failed },
          'Event failed: someone has to act',
        );
      }
    } catch (error) {
      await this.#retryLater(event, error);
    }
  }

  async #retryLater(event: LeasedEvent, error: unknown): Promise<void> {
    const { keystore, log } = this.#context;
    const outcome = error instanceof ProblemError ? error.code : 'error';
    const pause = Math.min(FIRST_RETRY_MS * 2 ** (event.attempts - 1), LONGEST_RETRY_MS);
    const now = Date.now();
    const giveUp = now - event.receivedAt > GIVE_UP_AFTER_MS;
    const retryAt = giveUp ? null : now + pause * (0.5 + Math.random() / 2);
    log[giveUp ? 'error' : 'warn'](
      { event: event.id, type: event.type, attempt: event.attempts, err: error, retryAt },
      giveUp ? 'Event failed: given up after three days' : 'Event not processed yet; trying again',
    );
    try {
      const message = error instanceof Error ? error.message : String(error);
      await keystore.failEvent({
        id: event.id,
        outcome,
        error: message,
        retryAt: retryAt && Math.round(retryAt),
      });
    } catch (storeError) {
      // The lease runs out by itself, and the event is taken up again then.
      log.error({ event: event.id, err: storeError }, 'The event inbox cannot be written');
    }
  }
}

/** What each kind of event makes us look at. */
async function handle(context: SettleContext, event: LeasedEvent, session: string | null): Promise<Result> {
  const actor = `stripe:${event.id}`;
  switch (event.type) {
    case 'checkout.session.completed':
    case 'checkout.session.async_payment_succeeded':
    case 'checkout.session.async_payment_failed':
    case 'checkout.session.expired': {
      const sessionId = session ?? (await lookAtEvent(context.stripe, event.id))?.objectId;
      if (!sessionId) return { outcome: 'not_found', failed: 'Stripe does not know this event any more.' };
      const settlement = await settle(context, sessionId, actor);
      if (settlement.outcome === 'unknown_price' || settlement.outcome === 'wrong_mode_price') {
        return {
          outcome: settlement.outcome,
          failed: unmappedPrice(settlement.outcome, settlement.priceIds),
        };
      }
      return { outcome: settlement.outcome };
    }
    case 'customer.subscription.created':
    case 'customer.subscription.updated':
    case 'customer.subscription.deleted': {
      if (event.objectId === null) return { outcome: 'unhandled' };
      const { outcome, priceIds } = await settleSubscription(context, event.objectId, actor);
      if (outcome === 'unknown_price' || outcome === 'wrong_mode_price') {
        return { outcome, failed: unmappedPrice(outcome, priceIds) };
      }
      return { outcome };
    }
    default:
      return { outcome: 'unhandled' };
  }
}

function unmappedPrice(outcome: 'unknown_price' | 'wrong_mode_price', priceIds: readonly string[]): string {
  const prices = priceIds.join(', ') || 'The price';
  return outcome === 'unknown_price'
    ? `${prices} stands for no plan. Add it to STRIPE_PRICE_MAP or the plan file, restart, and resend the event.`
    : `${prices} is mapped for the other mode only. Map it for this mode, restart, and resend the event.`;
}
