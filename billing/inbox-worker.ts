import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { LRUCache } from 'lru-cache';
import type { LeasedEvent } from '../keystore/keystore.ts';
import { ProblemError } from '../shared/problems.ts';
import { type Handled, handleEvent, type InboxContext } from './handle-event.ts';

/** How soon another process may take over the events of one that was killed, milliseconds. */
const LEASE_MS = 20_000;
/** How often one that lives says so, milliseconds. */
const RENEW_MS = 5000;
/** Customers worked on at once: enough to keep Stripe busy, few enough for its limit of 25 requests a second in test mode. */
const CONCURRENCY = 8;
const IDLE_POLL_MS = 1000;
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 300_000;
/** Stripe itself stops delivering after three days. */
const GIVE_UP_AFTER_MS = 3 * 86_400_000;

/**
 * Works off the event inbox: leases what is due, looks at Stripe at what each event names, writes what is true now.
 * The events of one customer are worked on one after the other, and those about one object together: all of them are
 * from before the look, so one look serves them all. A failure of Stripe's or ours is tried again with growing, scattered
 * pauses; one that needs a person is kept as failed.
 */
export class InboxWorker {
  readonly #context: InboxContext;
  readonly #owner = `${hostname()}:${process.pid}:${randomBytes(4).toString('hex')}`;
  readonly #active = new Set<Promise<void>>();
  /** Events leased and not worked off: only their leases are renewed. */
  readonly #underWay = new Set<string>();
  readonly #sessions = new LRUCache<string, string>({ max: 10_000, ttl: 600_000 });
  #timer: NodeJS.Timeout | undefined;
  #renewing: NodeJS.Timeout | undefined;
  #filling: Promise<void> = Promise.resolve();
  #leasing = false;
  #leaseAgain = false;
  #stopped = false;

  constructor(context: InboxContext) {
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

  /** Works until nothing is due any more, here or in a process that has leased it. What waits for a later try is left. */
  async drain(): Promise<void> {
    for (;;) {
      this.wake();
      await this.#filling;
      if (this.#active.size === 0) return;
      await Promise.race(this.#active);
    }
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
    clearInterval(this.#renewing);
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
        const groups = await this.#context.keystore.leaseEvents({
          owner: this.#owner,
          limit: CONCURRENCY - this.#active.size,
          leaseMs: LEASE_MS,
          mails: this.#context.mail != null,
        });
        if (this.#stopped) return;
        if (groups.length > 0) this.#leaseAgain = true;
        for (const events of groups) this.#run(events);
      }
    } catch (error) {
      this.#context.log.error({ err: error }, 'The event inbox cannot be read; trying again');
    } finally {
      this.#leasing = false;
    }
  }

  #run(events: readonly LeasedEvent[]): void {
    for (const { id } of events) this.#underWay.add(id);
    const work = this.#processGroup(events).finally(() => {
      for (const { id } of events) this.#underWay.delete(id);
      this.#active.delete(work);
      this.wake();
    });
    this.#active.add(work);
    this.#renewing ??= setInterval(() => void this.#renew(), RENEW_MS).unref();
  }

  async #renew(): Promise<void> {
    if (this.#underWay.size === 0) return;
    try {
      const ids = [...this.#underWay];
      await this.#context.keystore.renewLeases({ owner: this.#owner, ids, leaseMs: LEASE_MS });
    } catch (error) {
      this.#context.log.warn({ err: error }, 'Leases could not be renewed: another process may take over');
    }
  }

  async #processGroup(events: readonly LeasedEvent[]): Promise<void> {
    const left = [...Map.groupBy(events, (event) => event.objectKey ?? event.id).values()];
    for (let same = left.shift(); same && !this.#stopped; same = left.shift()) {
      const error = await this.#process(same);
      for (const { id } of same) this.#underWay.delete(id);
      // A Stripe that does not answer for one object does not for the next: nobody waits for that again and again.
      if (!(error instanceof ProblemError) || error.code !== 'stripe_unavailable') continue;
      for (const others of left.splice(0)) await this.#retryLater(others, error);
    }
  }

  /** Works on events about one object. Returns what went wrong and is tried again later. */
  async #process(events: readonly LeasedEvent[]): Promise<unknown> {
    const { keystore, log, metrics } = this.#context;
    const ids = events.map((event) => event.id);
    const [first] = events as [LeasedEvent, ...LeasedEvent[]];
    const about = { ...requestsOf(events), events: ids, type: first.type, attempt: first.attempts };
    try {
      const { outcome, failed } = await this.#handle(events);
      if (failed === undefined) {
        await keystore.completeEvents({ ids, outcome });
        for (const event of events) metrics?.eventWorkedOn(event, 'processed', outcome);
        for (const id of ids) this.#sessions.delete(id);
        log.info({ ...about, outcome }, 'Event processed');
      } else {
        await keystore.failEvents({ ids, outcome, error: failed, retryAt: null });
        for (const event of events) metrics?.eventWorkedOn(event, 'failed', outcome);
        log.error({ ...about, outcome, reason: failed }, 'Event failed: someone has to act');
      }
      return undefined;
    } catch (error) {
      await this.#retryLater(events, error);
      return error;
    }
  }

  #handle(events: readonly LeasedEvent[]): Promise<Handled> {
    const remembered = events.find((event) => this.#sessions.has(event.id));
    const event = remembered ?? (events[0] as LeasedEvent);
    const { requestId } = event;
    const context =
      requestId === null
        ? this.#context
        : { ...this.#context, log: this.#context.log.child({ request_id: requestId }), requestId };
    return handleEvent(context, event, this.#sessions.get(event.id) ?? null);
  }

  async #retryLater(events: readonly LeasedEvent[], error: unknown): Promise<void> {
    const now = Date.now();
    const isOld = ({ receivedAt }: LeasedEvent) => now - receivedAt > GIVE_UP_AFTER_MS;
    await this.#putBack(events.filter(isOld), error, null);
    const fresh = events.filter((event) => !isOld(event));
    const attempts = Math.min(...fresh.map((event) => event.attempts));
    const pause = Math.min(FIRST_RETRY_MS * 2 ** (attempts - 1), LONGEST_RETRY_MS);
    await this.#putBack(fresh, error, Math.round(now + pause * (0.5 + Math.random() / 2)));
  }

  /** Has events tried again at a moment, or never (`null`). */
  async #putBack(events: readonly LeasedEvent[], error: unknown, retryAt: number | null): Promise<void> {
    const [first] = events;
    if (!first) return;
    const { keystore, log, metrics } = this.#context;
    const ids = events.map((event) => event.id);
    log[retryAt === null ? 'error' : 'warn'](
      { ...requestsOf(events), events: ids, type: first.type, attempt: first.attempts, err: error, retryAt },
      retryAt === null ? 'Event failed: given up after three days' : 'Event not processed yet; trying again',
    );
    try {
      const outcome = error instanceof ProblemError ? error.code : 'error';
      const result = retryAt === null ? 'failed' : 'retried';
      for (const event of events) metrics?.eventWorkedOn(event, result, outcome);
      const message = error instanceof Error ? error.message : String(error);
      await keystore.failEvents({ ids, outcome, error: message, retryAt });
    } catch (storeError) {
      // The lease runs out by itself, and the events are taken up again then.
      log.error({ events: ids, err: storeError }, 'The event inbox cannot be written');
    }
  }
}

/** The requests that brought events, for the log: by them it is one story from the webhook to the key. */
function requestsOf(events: readonly LeasedEvent[]): { request_id?: string; request_ids?: string[] } {
  const ids = events.map(({ requestId }) => requestId).filter((id) => id !== null);
  const [only] = ids;
  if (only === undefined) return {};
  return ids.length === 1 ? { request_id: only } : { request_ids: ids };
}
