import { performance } from 'node:perf_hooks';
import type { HealthSpec, UpstreamSpec } from '../routes/route-spec.ts';
import { HealthChecks } from './health-checks.ts';
import { RetryBudget } from './retry-budget.ts';
import { Target } from './upstream-target.ts';
import { type Waiter, WaitingRequests } from './waiting-requests.ts';

export { Target };

/** A request that waits for a server. Exactly one of the two is called, once, unless it leaves the group before. */
export type WaitingRequest = Waiter<Target>;

/** Told of changes in what is known of a server. */
export type OnServerChange = (target: Target, change: ServerChange) => void;
export type ServerChange = {
  event: 'healthy' | 'unhealthy' | 'circuit_opened' | 'circuit_closed';
  reason: string;
};

/** The servers behind a route: which of them takes the next request, and what is known of their health. */
export class UpstreamGroup {
  readonly spec: UpstreamSpec;
  readonly targets: readonly Target[];
  /** Retries so far. */
  retries = 0;
  readonly #waiting: WaitingRequests<Target>;
  readonly #budget: RetryBudget;
  readonly #checks: readonly HealthChecks[];
  readonly #onChange: OnServerChange;
  #next = 0;
  #draining = false;

  constructor(spec: UpstreamSpec, onChange: OnServerChange = () => {}) {
    this.spec = spec;
    this.#onChange = onChange;
    this.targets = spec.urls.map((url) => new Target(url, spec));
    this.#waiting = new WaitingRequests(
      spec.queueTimeoutMs,
      spec.maxConnections * spec.urls.length,
      () => new Overloaded(`No connection to the upstream was free within ${spec.queueTimeoutMs} ms`),
    );
    this.#budget = new RetryBudget(spec.retryBudget);
    const { health } = spec;
    this.#checks = health === null ? [] : this.targets.map((target) => this.#checksOf(target, health));
  }

  /** How many requests wait for a server. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * Takes the server that should have the next request: of those that are fit and have room, the one with the fewest
   * under way. Whoever gets it gives it back with {@link release}, once. `null`: there is none; see {@link wait}.
   *
   * @param tried one that is to be taken again only when there is no other
   * @param now by `performance.now()`
   */
  pick(tried?: Target, now = performance.now()): Target | null {
    if (tried !== undefined) return this.#take(now, tried) ?? this.#take(now, null);
    if (this.#waiting.size > 0) {
      // Those that came before are first, also where a server became fit by the passing of time.
      this.#drain();
      if (this.#waiting.size > 0) return null;
    }
    const target = this.#take(now, null);
    // Who finds none may come again by another way; it is counted when it waits.
    if (target !== null) this.#budget.request(now);
    return target;
  }

  /** Gives a server back: nothing more is under way there for whoever took it. */
  release(target: Target): void {
    target.pending--;
    if (this.#waiting.size > 0) this.#drain();
  }

  /**
   * Lets a request wait for a server that has room.
   *
   * @returns why it cannot: {@link NoServerFit} or {@link Overloaded}; `null` when it waits
   */
  wait(request: WaitingRequest): NoServerFit | Overloaded | null {
    const now = performance.now();
    if (!this.#anyFit(now)) return this.#noServerFit();
    if (!this.#waiting.add(request)) return new Overloaded('Too many requests wait for the upstream');
    this.#budget.request(now);
    return null;
  }

  /** A request no longer waits: its client left. */
  leave(request: WaitingRequest): void {
    this.#waiting.leave(request);
  }

  /** An answer began: the server is well. */
  succeeded(target: Target): void {
    const { circuit } = target;
    const closes = circuit.state !== 'closed';
    circuit.succeeded();
    if (closes) this.#changed(target, { event: 'circuit_closed', reason: 'answered a request' });
  }

  /**
   * The server did not answer, or its connection broke before it did.
   *
   * @param late it took too long: of the only server there is, that says less than of what was asked of it, and one
   *   client's slow requests must not take the API from all others
   */
  failed(target: Target, late: boolean): void {
    if (late && this.targets.length === 1) return;
    const { circuit } = target;
    const wasClosed = circuit.state === 'closed';
    circuit.failed(performance.now());
    if (wasClosed && circuit.state !== 'closed')
      this.#changed(target, { event: 'circuit_opened', reason: 'did not answer requests' });
  }

  /** Takes one retry out of the budget. `false`: there have been too many. */
  mayRetry(): boolean {
    const may = this.#budget.take(performance.now());
    if (may) this.retries++;
    return may;
  }

  /**
   * For a group that is replaced: ends what is idle now, and the rest as it becomes idle. Requests under way and those
   * that wait go on; one that was on its way here still gets its answer, on a connection of its own.
   */
  async close(): Promise<void> {
    for (const checks of this.#checks) checks.stop();
    await Promise.all(this.targets.map((target) => target.close()));
  }

  /** Ends all connections. */
  async destroy(): Promise<void> {
    for (const checks of this.#checks) checks.stop();
    this.#waiting.giveUp(new Overloaded('The gateway is stopping'));
    await Promise.all(this.targets.map((target) => target.destroy()));
  }

  /** The one with the fewest under way; among equals they take turns. */
  #take(now: number, except: Target | null): Target | null {
    const { targets } = this;
    const count = targets.length;
    let best: Target | null = null;
    let bestAt = 0;
    for (let i = 0; i < count; i++) {
      const at = (this.#next + i) % count;
      const target = targets[at] as Target;
      if (target === except || (best !== null && target.pending >= best.pending)) continue;
      if (!isFit(target, now) || !target.hasRoom) continue;
      best = target;
      bestAt = at;
    }
    if (best === null) return null;
    // A second attempt takes nobody's turn; else a server that fails would have every first one.
    if (except === null) this.#next = bestAt + 1;
    best.pending++;
    best.circuit.tried(now);
    return best;
  }

  #checksOf(target: Target, health: HealthSpec): HealthChecks {
    return new HealthChecks(target, this.spec, health, (reason) => {
      // The request that would find out is not needed any more.
      if (target.healthy) target.circuit.succeeded();
      this.#changed(target, { event: target.healthy ? 'healthy' : 'unhealthy', reason });
    });
  }

  #changed(target: Target, change: ServerChange): void {
    this.#onChange(target, change);
    if (this.#waiting.size === 0) return;
    if (this.#anyFit(performance.now())) this.#drain();
    else this.#waiting.giveUp(this.#noServerFit());
  }

  #anyFit(now: number): boolean {
    return this.targets.some((target) => isFit(target, now));
  }

  #noServerFit(): NoServerFit {
    const now = performance.now();
    const nextCheck = now + (this.spec.health?.intervalMs ?? 0);
    const soonest = Math.min(
      ...this.targets.map(({ healthy, circuit }) =>
        healthy ? circuit.nextTryAt : Math.max(nextCheck, circuit.nextTryAt),
      ),
    );
    return new NoServerFit(Math.max(1, Math.ceil((soonest - now) / 1000)));
  }

  /** Gives room to those that wait. Not within itself: a request may fail at once and give its room back. */
  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    try {
      while (this.#waiting.size > 0) {
        const target = this.#take(performance.now(), null);
        if (target === null) break;
        this.#waiting.next()?.onRoom(target);
      }
    } finally {
      this.#draining = false;
    }
  }
}

function isFit(target: Target, now: number): boolean {
  return target.healthy && target.circuit.admits(now);
}

/** Every server of a route is known not to answer. */
export class NoServerFit extends Error {
  /** When one may be tried again. */
  readonly retryAfterSeconds: number;

  constructor(retryAfterSeconds: number) {
    super('No server of this route is fit to answer');
    this.name = 'NoServerFit';
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** All connections that a route may have are in use. */
export class Overloaded extends Error {
  readonly retryAfterSeconds = 1;

  constructor(message: string) {
    super(message);
    this.name = 'Overloaded';
  }
}
