import { Socket } from 'node:net';
import { buildConnector, Client } from 'undici';
import type { HealthSpec, UpstreamSpec } from '../routes/route-spec.ts';
import type { Target } from './upstream-target.ts';

/** How much sooner a check may come, as a share of the interval: gateways started together ask at different times. */
const JITTER = 0.2;

/** What checks in a row come to. A server is taken for healthy until they say otherwise. */
export class Health {
  readonly #spec: Pick<HealthSpec, 'healthyAfter' | 'unhealthyAfter'>;
  #healthy = true;
  /** Checks in a row that said the opposite. */
  #against = 0;

  constructor(spec: Pick<HealthSpec, 'healthyAfter' | 'unhealthyAfter'>) {
    this.#spec = spec;
  }

  get healthy(): boolean {
    return this.#healthy;
  }

  /** Takes in the result of a check. @returns whether this changed the state */
  checked(well: boolean): boolean {
    if (well === this.#healthy) {
      this.#against = 0;
      return false;
    }
    this.#against++;
    const { healthyAfter, unhealthyAfter } = this.#spec;
    if (this.#against < (this.#healthy ? unhealthyAfter : healthyAfter)) return false;
    this.#healthy = well;
    this.#against = 0;
    return true;
  }
}

/**
 * Asks a server again and again how it is. Each time on a connection of its own, so that a server that no longer accepts
 * any is noticed, a busy pool does not delay the question, and a host name is looked up anew. Never keeps the process
 * running.
 */
export class HealthChecks {
  readonly #target: Target;
  readonly #upstream: UpstreamSpec;
  readonly #spec: HealthSpec;
  readonly #health: Health;
  readonly #onChange: (reason: string) => void;
  readonly #connect: buildConnector.connector;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #socket: Socket | undefined;

  /** @param onChange called after `target.healthy` changed, with what the last check found */
  constructor(target: Target, upstream: UpstreamSpec, spec: HealthSpec, onChange: (reason: string) => void) {
    this.#target = target;
    this.#upstream = upstream;
    this.#spec = spec;
    this.#health = new Health(spec);
    this.#onChange = onChange;
    this.#connect = buildConnector({
      ...target.tls,
      allowH2: upstream.http2,
      preferH2: true,
      timeout: spec.timeoutMs,
    });
    this.#checkLater();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#stop.abort();
    this.#socket?.destroy();
  }

  #checkLater(): void {
    const delay = this.#spec.intervalMs * (1 - Math.random() * JITTER);
    this.#timer = setTimeout(() => void this.#check(), delay);
    this.#timer.unref();
  }

  async #check(): Promise<void> {
    const wrong = await this.#ask();
    if (this.#stop.signal.aborted) return;
    if (this.#health.checked(wrong === null)) {
      this.#target.healthy = this.#health.healthy;
      this.#onChange(wrong ?? 'answered well');
    }
    this.#checkLater();
  }

  /** What is wrong; `null`: nothing. */
  async #ask(): Promise<string | null> {
    const { path, timeoutMs } = this.#spec;
    const { http2, secret } = this.#upstream;
    const client = new Client(this.#target.origin, {
      allowH2: http2,
      connect: (options, callback) => {
        const socket: unknown = this.#connect(options, callback);
        if (!(socket instanceof Socket)) return;
        this.#socket = socket;
        socket.unref();
      },
    });
    try {
      const { statusCode, body } = await client.request({
        method: 'GET',
        path: this.#target.basePath + path,
        headers: {
          'User-Agent': 'tollgate-health-check',
          // A server that wants the secret on every request wants it here too.
          ...(secret ? { [secret.header]: secret.value } : {}),
        },
        signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#stop.signal]),
      });
      // Its content says nothing, and may be long.
      body.on('error', () => {});
      return statusCode >= 200 && statusCode < 400 ? null : `answered ${statusCode}`;
    } catch (error) {
      const { name, message } = error as Error;
      return name === 'TimeoutError' ? `no answer within ${timeoutMs} ms` : message;
    } finally {
      void client.destroy();
      this.#socket?.destroy();
    }
  }
}
