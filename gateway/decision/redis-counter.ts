import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Logger } from '../../shared/log.ts';
import { CounterCalls } from './counter-calls.ts';
import type { CounterServer, Settle, Spend } from './counter-server.ts';
import { SETTLE, SPEND } from './windows-script.ts';

/** A script by its hash, and its arguments. */
type Call = { sha: string; keys: readonly string[]; args: readonly number[] };

/**
 * How long an answer is waited for once the call is sent: it goes out with all others of its turn of the event loop. With what
 * it takes to find out, a decision takes less than 50 ms.
 */
const LIMIT_MS = 35;
/** While it is away: how often it is tried, and how long a connection may be silent before another one is made. */
const TRY_MS = 100;
const SILENT_MS = 400;
/** How long the first connection is waited for. */
const START_MS = 1000;

const SPEND_SHA = hash('sha1', SPEND);
const SETTLE_SHA = hash('sha1', SETTLE);

/** The Redis that several gateways count in: in one round trip for any number of windows. */
export class RedisCounter implements CounterServer {
  readonly name = 'redis';
  readonly #redis: Redis;
  readonly #log: Logger;
  readonly #calls: CounterCalls<Call>;

  /** @param url `redis://` or `rediss://` */
  constructor(url: string, log: Logger) {
    this.#log = log;
    this.#calls = new CounterCalls({
      server: 'Redis',
      limitMs: LIMIT_MS,
      send: (calls) => this.#send(calls),
      onAway: () => void this.#tryAgain(),
      log,
    });
    this.#redis = new Redis(url, {
      lazyConnect: true,
      connectionName: 'tollgate',
      // What fails is decided without it, at once; and a call that may have been carried out is never sent again.
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      connectTimeout: SILENT_MS,
      retryStrategy: () => TRY_MS,
    });
    this.#redis.on('error', (error: Error) => {
      this.#calls.fault = error.message || (error as NodeJS.ErrnoException).code || error.name;
    });
    this.#redis.on('close', () => this.#calls.away(this.#calls.fault));
  }

  get up(): boolean {
    return this.#calls.up;
  }

  async start(): Promise<void> {
    this.#redis.connect().catch(() => {});
    void this.#tryAgain();
    const giveUp = performance.now() + START_MS;
    while (!this.up && performance.now() < giveUp) await sleep(10);
    if (!this.up) this.#log.error({ reason: this.#calls.fault }, 'Redis does not answer; trying again');
  }

  spend({ of, rootId, cost, needed, windows }: Spend): Promise<readonly number[]> {
    const keys = windows.map(([, lengthMs]) => keyOf(of, rootId, lengthMs));
    return this.#calls.call({ sha: SPEND_SHA, keys, args: [cost, needed, ...windows.flat()] });
  }

  settle({ of, rootId, difference, agoMs, lengthsMs }: Settle): Promise<readonly number[]> {
    const keys = lengthsMs.map((lengthMs) => keyOf(of, rootId, lengthMs));
    return this.#calls.call({ sha: SETTLE_SHA, keys, args: [difference, agoMs, ...lengthsMs] });
  }

  close(): void {
    this.#calls.close();
    this.#redis.disconnect();
  }

  async #send(calls: readonly Call[]): Promise<(number[] | Error)[]> {
    const pipeline = this.#redis.pipeline();
    for (const { sha, keys, args } of calls) pipeline.call('evalsha', sha, keys.length, ...keys, ...args);
    const answers = (await pipeline.exec()) ?? [];
    return answers.map(([error, answer]) => error ?? (answer as number[]));
  }

  async #tryAgain(): Promise<void> {
    const redis = this.#redis;
    let silentSince = performance.now();
    while (!this.up && !this.#calls.closed) {
      if (redis.status === 'ready') {
        const ready = Promise.all([
          redis.script('LOAD', SPEND),
          redis.script('LOAD', SETTLE),
          redis.ping(),
        ]).then(
          () => true,
          () => false,
        );
        if (await Promise.race([ready, sleep(LIMIT_MS, false, { ref: false })])) {
          this.#calls.back();
          return;
        }
      }
      // A connection through which nothing comes any more may stay so for minutes.
      if (performance.now() - silentSince > SILENT_MS) {
        silentSince = performance.now();
        if (redis.status === 'ready' || redis.status === 'connect') redis.disconnect(true);
      }
      await sleep(TRY_MS, undefined, { ref: false });
    }
  }
}

/** All keys of a chain have the same hash tag, so that they are on one node of a cluster. */
function keyOf(of: Spend['of'], rootId: string, lengthMs: number): string {
  return `tollgate:{${rootId}}:${of}:${lengthMs / 1000}`;
}
