import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { type Keystore, MAIL_TYPE } from '../keystore/keystore.ts';
import { SECONDS } from '../shared/request-metrics.ts';
import { STOP_CONDITION_IDS, type Stop } from './preflight/stop-conditions.ts';
import type { Drift } from './reconcile.ts';
import { isHandled } from './stripe-events.ts';

/** How long the keystore may take to say how the inbox stands. */
const KEYSTORE_MS = 2000;
/** Seconds from an event's arrival to the end of the work on it: some wait for Stripe, for hours. */
const EVENT_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400];

/** Billing's metrics. None has a key, an address or an id of Stripe's for a label. */
export class BillingMetrics {
  readonly #registry: Registry;
  readonly #keystore: Pick<Keystore, 'inboxDepth' | 'oldestPendingSince'>;
  readonly #received;
  readonly #worked;
  readonly #eventSeconds;
  readonly #stripeSeconds;
  readonly #checkouts;
  readonly #purchases;
  readonly #claims;
  readonly #drift;
  readonly #reconciles;
  readonly #reconciledAt;
  readonly #keystoreUp;
  readonly #inbox;
  readonly #oldest;
  readonly #stops;

  constructor(registry: Registry, keystore: Pick<Keystore, 'inboxDepth' | 'oldestPendingSince'>) {
    this.#registry = registry;
    this.#keystore = keystore;
    const registers = [registry];
    this.#received = new Counter({
      name: 'tollgate_billing_events_received_total',
      help: 'Events that came in at the webhook, by type: received, requeued or duplicate.',
      labelNames: ['type', 'outcome'],
      registers,
    });
    this.#worked = new Counter({
      name: 'tollgate_billing_events_total',
      help: 'Events and mails worked on, by type, what became of them (processed, retried, failed) and what that came to.',
      labelNames: ['type', 'result', 'outcome'],
      registers,
    });
    this.#eventSeconds = new Histogram({
      name: 'tollgate_billing_event_seconds',
      help: 'Time from the arrival of an event to the end of the work on it.',
      buckets: EVENT_SECONDS,
      registers,
    });
    this.#stripeSeconds = new Histogram({
      name: 'tollgate_billing_stripe_seconds',
      help: 'Calls to Stripe, by what they were about and the class of the status; none: no answer.',
      labelNames: ['resource', 'status'],
      buckets: SECONDS,
      registers,
    });
    this.#checkouts = new Counter({
      name: 'tollgate_billing_checkouts_total',
      help: 'Checkouts opened here, by plan.',
      labelNames: ['plan'],
      registers,
    });
    this.#purchases = new Counter({
      name: 'tollgate_billing_purchases_total',
      help: 'Purchases that got their key, by plan and by who came first: stripe is the webhook.',
      labelNames: ['plan', 'by'],
      registers,
    });
    this.#claims = new Counter({
      name: 'tollgate_billing_claims_total',
      help: 'Keys taken by their buyers, on the success page or by the program that began the purchase.',
      labelNames: ['by'],
      registers,
    });
    this.#drift = new Counter({
      name: 'tollgate_billing_reconcile_drift_total',
      help: 'What was not as at Stripe when it was compared, by what it was; open: somebody has to act.',
      labelNames: ['what', 'open'],
      registers,
    });
    this.#reconciles = new Counter({
      name: 'tollgate_billing_reconciles_total',
      help: 'Comparisons with Stripe, by whether they were finished.',
      labelNames: ['outcome'],
      registers,
    });
    this.#reconciledAt = new Gauge({
      name: 'tollgate_billing_reconciled_timestamp_seconds',
      help: 'When this process last finished comparing with Stripe; 0: not yet.',
      registers,
    });
    this.#keystoreUp = new Gauge({
      name: 'tollgate_billing_keystore_up',
      help: 'Whether the keystore answers (1) or not (0).',
      registers,
    });
    this.#inbox = new Gauge({
      name: 'tollgate_billing_inbox_events',
      help: 'Events in the inbox that wait (pending), or that somebody has to see to (failed). Each process says the same.',
      labelNames: ['status'],
      registers,
    });
    this.#oldest = new Gauge({
      name: 'tollgate_billing_inbox_oldest_seconds',
      help: 'How long the oldest waiting event has waited; 0: none waits. Each process says the same.',
      registers,
    });
    this.#stops = new Gauge({
      name: 'tollgate_billing_stop_conditions',
      help: 'Stop conditions, by name: 1 while it holds and checkouts are refused. None outside production.',
      labelNames: ['condition'],
      registers,
    });
  }

  /** All there is, in the format of Prometheus. */
  async text(): Promise<string> {
    const late = new Promise<never>((_, reject) =>
      setTimeout(() => reject(new Error('The keystore does not answer')), KEYSTORE_MS).unref(),
    );
    try {
      const { inboxDepth, oldestPendingSince } = this.#keystore;
      const [depth, since] = await Promise.race([Promise.all([inboxDepth(), oldestPendingSince()]), late]);
      this.#inbox.set({ status: 'pending' }, depth.pending);
      this.#inbox.set({ status: 'failed' }, depth.failed);
      this.#oldest.set(since === null ? 0 : Math.max(0, (Date.now() - since) / 1000));
      this.#keystoreUp.set(1);
    } catch {
      // What was last known would look as if nothing had happened.
      this.#inbox.reset();
      this.#oldest.remove();
      this.#keystoreUp.set(0);
    }
    return this.#registry.metrics();
  }

  eventReceived(type: string, outcome: 'received' | 'requeued' | 'duplicate'): void {
    this.#received.inc({ type: labelOf(type), outcome });
  }

  /** @param receivedAt milliseconds since the epoch */
  eventWorkedOn(
    { type, receivedAt }: { type: string; receivedAt: number },
    result: 'processed' | 'retried' | 'failed',
    outcome: string,
  ): void {
    this.#worked.inc({ type: labelOf(type), result, outcome });
    if (result === 'processed') this.#eventSeconds.observe(Math.max(0, (Date.now() - receivedAt) / 1000));
  }

  /** @param status `null`: there was no answer */
  stripeCalled(resource: string, status: number | null, seconds: number): void {
    const label = status === null ? 'none' : `${Math.trunc(status / 100)}xx`;
    this.#stripeSeconds.observe({ resource, status: status === 429 ? '429' : label }, seconds);
  }

  checkoutOpened(plan: string): void {
    this.#checkouts.inc({ plan });
  }

  /** @param actor as the audit log has it */
  purchaseProvisioned(plan: string | null, actor: string): void {
    this.#purchases.inc({ plan: plan ?? 'none', by: actor.split(':', 1)[0] as string });
  }

  keyClaimed(by: 'success_page' | 'program'): void {
    this.#claims.inc({ by });
  }

  reconciled(drift: readonly Drift[]): void {
    for (const { what, open } of drift) this.#drift.inc({ what, open: String(open) });
    this.#reconciles.inc({ outcome: 'finished' });
    this.#reconciledAt.setToCurrentTime();
  }

  /** @param stops those that hold */
  stopsLookedAt(stops: readonly Stop[]): void {
    for (const condition of STOP_CONDITION_IDS)
      this.#stops.set({ condition }, stops.some(({ id }) => id === condition) ? 1 : 0);
  }

  reconcileFailed(): void {
    this.#reconciles.inc({ outcome: 'failed' });
  }
}

/** Stripe makes up new types as it likes: those that nothing is done about are one. */
function labelOf(type: string): string {
  return isHandled(type) || type.startsWith(MAIL_TYPE) ? type : 'other';
}
