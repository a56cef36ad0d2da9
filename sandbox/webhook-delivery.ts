import { randomInt } from 'node:crypto';
import type { StripeEvent } from './events.ts';
import { seededRandom, shuffled } from './shuffle.ts';
import { thinOf } from './thin-events.ts';
import { isThin, listensTo, secretOf, type WebhookEndpoint } from './webhook-endpoints.ts';
import { signatureHeader } from './webhook-signature.ts';

export const deliveryModes = [
  'concurrent',
  'in_order',
  'shuffled',
  'duplicated',
  'delayed',
  'dropped',
  'wrong_signature',
  'paused',
] as const;

export interface DeliveryMode {
  mode: (typeof deliveryModes)[number];
  /** For `delayed`: how long each event is held, in milliseconds. */
  delay_ms: number;
  /** For `shuffled`: how long events are gathered before they go out in another order, in milliseconds. */
  window_ms: number;
  /** For `duplicated` and `shuffled`: how often each event is sent. */
  copies: number;
  /** For `dropped`: which part of the events is lost, 0 to 1. */
  drop_fraction: number;
  /** Makes `shuffled` and `dropped` repeat themselves. */
  seed: number;
}

export const defaultMode: DeliveryMode = {
  mode: 'concurrent',
  delay_ms: 1000,
  window_ms: 50,
  copies: 1,
  drop_fraction: 1,
  seed: 1,
};

export interface Attempt {
  at_ms: number;
  /** The status answered; null when there was no answer. */
  status: number | null;
  error: string | null;
  duration_ms: number;
  signature: 'valid' | 'wrong';
}

export type DeliveryState = 'held' | 'sending' | 'retrying' | 'delivered' | 'failed' | 'dropped';

interface Delivery {
  event: StripeEvent;
  endpoint: WebhookEndpoint;
  state: DeliveryState;
  attempts: Attempt[];
  timer: NodeJS.Timeout | undefined;
}

export interface DeliveryOptions {
  /** Waits before the second, third, ... attempt, in milliseconds of real time. */
  retryMs?: number[];
  /** How long an endpoint may take to answer. */
  timeoutMs?: number;
}

/** Stripe retries for days; here the first retries come within seconds, so that a developer sees them. */
const defaultRetryMs = [1000, 2000, 5000, 15_000, 60_000, 300_000, 900_000];
const defaultTimeoutMs = 10_000;

/**
 * Sends events to webhook endpoints: signed, concurrently and in no particular order, again with growing waits after
 * anything but a 2xx (https://docs.stripe.com/webhooks#retries). Redirects are answers like any other failure.
 */
export class WebhookDelivery {
  readonly #retryMs: number[];
  readonly #timeoutMs: number;
  #deliveries: Delivery[] = [];
  #mode: DeliveryMode = { ...defaultMode };
  #random = seededRandom(1);
  #gathered: Delivery[] = [];
  #window: NodeJS.Timeout | undefined;
  #queues = new Map<WebhookEndpoint, Promise<void>>();
  #inFlight = new Set<Promise<void>>();
  #abort = new AbortController();

  constructor({ retryMs = defaultRetryMs, timeoutMs = defaultTimeoutMs }: DeliveryOptions = {}) {
    this.#retryMs = retryMs;
    this.#timeoutMs = timeoutMs;
  }

  /** Takes an event into delivery to every endpoint that listens to it. */
  send(event: StripeEvent, endpoints: WebhookEndpoint[]): void {
    for (const endpoint of endpoints) {
      if (!listensTo(endpoint, event)) continue;
      event.pending_webhooks += 1;
      const delivery: Delivery = { event, endpoint, state: 'held', attempts: [], timer: undefined };
      this.#deliveries.push(delivery);
      this.#dispatch(delivery);
    }
  }

  /** Changes the mode from now on. What a mode held back goes out, unless the new mode is `paused` too. */
  setMode(mode: DeliveryMode): void {
    this.#mode = mode;
    this.#random = seededRandom(mode.seed);
    if (mode.mode === 'paused') return;
    for (const delivery of this.#deliveries) {
      if (delivery.state === 'held' && !delivery.timer && !this.#gathered.includes(delivery)) {
        this.#dispatch(delivery);
      }
    }
  }

  get mode(): DeliveryMode {
    return this.#mode;
  }

  /**
   * Attempts everything held or waiting for a retry now, and what comes of it, each delivery once.
   * `order` other than `concurrent` sends one after the other.
   */
  async flush(
    order: 'concurrent' | 'created' | 'reversed' | 'shuffled',
    seed = 1,
  ): Promise<{ attempted: number; delivered: number; failed: number }> {
    const tried = new Set<Delivery>();
    while (!this.#abort.signal.aborted) {
      await Promise.all(this.#inFlight);
      const waiting = this.#deliveries.filter(
        (delivery) => !tried.has(delivery) && (delivery.state === 'held' || delivery.state === 'retrying'),
      );
      if (waiting.length === 0) break;
      const ordered =
        order === 'reversed'
          ? waiting.reverse()
          : order === 'shuffled'
            ? shuffled(waiting, seededRandom(seed))
            : waiting;
      for (const delivery of ordered) {
        tried.add(delivery);
        this.#hold(delivery);
        const attempt = this.#attempt(delivery);
        if (order !== 'concurrent') await attempt;
      }
    }
    const delivered = [...tried].filter(({ state }) => state === 'delivered').length;
    return { attempted: tried.size, delivered, failed: tried.size - delivered };
  }

  /** Sends one event again, to every endpoint it was meant for and any that listens now. */
  async redeliver(event: StripeEvent, endpoints: WebhookEndpoint[]): Promise<Attempt[]> {
    const attempts: Attempt[] = [];
    for (const endpoint of endpoints) {
      if (!listensTo(endpoint, event)) continue;
      let delivery = this.#deliveries.find((one) => one.event === event && one.endpoint === endpoint);
      if (!delivery) {
        event.pending_webhooks += 1;
        delivery = { event, endpoint, state: 'held', attempts: [], timer: undefined };
        this.#deliveries.push(delivery);
      }
      this.#hold(delivery);
      await this.#attempt(delivery);
      attempts.push(delivery.attempts.at(-1) as Attempt);
    }
    return attempts;
  }

  /** What was and is to be delivered, oldest first. */
  report(): object[] {
    return this.#deliveries.map(({ event, endpoint, state, attempts }) => ({
      event: event.id,
      type: event.type,
      endpoint: endpoint.id,
      state,
      attempts,
    }));
  }

  /** Forgets all deliveries and goes back to the default mode. */
  reset(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    for (const delivery of this.#deliveries) clearTimeout(delivery.timer);
    clearTimeout(this.#window);
    this.#window = undefined;
    this.#deliveries = [];
    this.#gathered = [];
    this.#queues.clear();
    this.#mode = { ...defaultMode };
  }

  /** Stops attempts and retries. */
  close(): void {
    this.reset();
    this.#abort.abort();
  }

  #dispatch(delivery: Delivery): void {
    const { mode, delay_ms, drop_fraction, copies } = this.#mode;
    if (mode === 'paused') return;
    if (mode === 'dropped' && this.#random() < drop_fraction) delivery.state = 'dropped';
    else if (mode === 'delayed') this.#later(delivery, delay_ms);
    else if (mode === 'shuffled') this.#gather(delivery);
    else if (mode === 'in_order') this.#queue(delivery);
    else
      for (let copy = 0; copy < (mode === 'duplicated' ? Math.max(2, copies) : 1); copy++)
        void this.#attempt(delivery);
  }

  #later(delivery: Delivery, ms: number): void {
    delivery.timer = setTimeout(() => {
      delivery.timer = undefined;
      void this.#attempt(delivery);
    }, ms);
    delivery.timer.unref();
  }

  #gather(delivery: Delivery): void {
    for (let copy = 0; copy < this.#mode.copies; copy++) this.#gathered.push(delivery);
    this.#window ??= setTimeout(() => {
      this.#window = undefined;
      const batch = shuffled(this.#gathered, this.#random);
      this.#gathered = [];
      for (const one of batch) this.#queue(one);
    }, this.#mode.window_ms).unref();
  }

  #queue(delivery: Delivery): void {
    const before = this.#queues.get(delivery.endpoint) ?? Promise.resolve();
    delivery.state = 'sending';
    this.#queues.set(delivery.endpoint, this.#track(before.then(() => this.#attempt(delivery))));
  }

  #hold(delivery: Delivery): void {
    clearTimeout(delivery.timer);
    delivery.timer = undefined;
    this.#gathered = this.#gathered.filter((one) => one !== delivery);
  }

  #track(work: Promise<void>): Promise<void> {
    this.#inFlight.add(work);
    void work.finally(() => this.#inFlight.delete(work));
    return work;
  }

  #attempt(delivery: Delivery): Promise<void> {
    delivery.state = 'sending';
    return this.#track(this.#post(delivery));
  }

  async #post(delivery: Delivery): Promise<void> {
    const { event, endpoint } = delivery;
    const stop = this.#abort.signal;
    if (stop.aborted) return;
    const wrong = this.#mode.mode === 'wrong_signature';
    const payload = JSON.stringify(isThin(endpoint) ? thinOf(event) : event, null, 2);
    // The signature carries real time, not the sandbox's: the receiver checks its age against its own clock.
    const now = Math.floor(Date.now() / 1000);
    const secret = wrong ? `whsec_wrong${randomInt(1e9)}` : secretOf(endpoint);
    const attempt: Attempt = {
      at_ms: Date.now(),
      status: null,
      error: null,
      duration_ms: 0,
      signature: wrong ? 'wrong' : 'valid',
    };
    try {
      const response = await fetch(endpoint.url, {
        method: 'POST',
        redirect: 'manual',
        body: payload,
        signal: AbortSignal.any([stop, AbortSignal.timeout(this.#timeoutMs)]),
        headers: {
          'Content-Type': 'application/json; charset=utf-8',
          'User-Agent': 'Stripe/1.0 (+https://stripe.com/docs/webhooks)',
          'Stripe-Signature': signatureHeader(payload, secret, now),
          Accept: '*/*; q=0.5, application/xml',
          'Cache-Control': 'no-cache',
        },
      });
      attempt.status = response.status;
      await response.arrayBuffer();
    } catch (error) {
      attempt.error = reason(error);
    }
    if (stop.aborted) return;
    attempt.duration_ms = Date.now() - attempt.at_ms;
    delivery.attempts.push(attempt);
    this.#conclude(delivery, attempt);
  }

  #conclude(delivery: Delivery, attempt: Attempt): void {
    const delivered =
      attempt.status !== null && attempt.status >= 200 && attempt.status < 300 && !attempt.error;
    const before = delivery.attempts
      .slice(0, -1)
      .some(({ status }) => status !== null && status < 300 && status >= 200);
    if (delivered && !before) delivery.event.pending_webhooks -= 1;
    if (delivered || before) {
      delivery.state = 'delivered';
      return;
    }
    const wait = this.#retryMs[delivery.attempts.length - 1];
    delivery.state = wait === undefined ? 'failed' : 'retrying';
    if (wait !== undefined && !delivery.timer) this.#later(delivery, wait);
  }
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  if (error.name === 'TimeoutError') return 'timeout';
  const cause = error.cause as { code?: string } | undefined;
  return cause?.code ?? error.message;
}
