import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, ReplyError } from 'ioredis';
import type { Logger } from '../../shared/log.ts';
import { CounterCalls } from './counter-calls.ts';
import {
  CallFailed,
  type CounterServer,
  CounterServerAway,
  type Settle,
  type Spend,
} from './counter-server.ts';
import { SETTLE, SPEND } from './windows-script.ts';

/** A script by its hash, and its arguments. */
type Call = {
  sha: string;
  keys: readonly string[];
  args: readonly number[];
  /** Whether Redis answered that it does not do it. */
  refused: boolean;
  /** What hangs on such an answer, which may come after the call was given up. */
  onRefused: (() => void)[] | undefined;
};

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

/**
 * What is tried is a write: one that is out of memory, or is no primary any more, answers everything else. It is gone at once.
 */
const PROBE_KEY = 'tollgate:probe';
const PROBE_ARGS = [1, 0, 1, 1, 0, 0, 0];

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
    return this.#call({ sha: SPEND_SHA, keys, args: [cost, needed, ...windows.flat()] });
  }

  settle({ of, rootId, difference, agoMs, lengthsMs }: Settle): Promise<readonly number[]> {
    const keys = lengthsMs.map((lengthMs) => keyOf(of, rootId, lengthMs));
    return this.#call({ sha: SETTLE_SHA, keys, args: [difference, agoMs, ...lengthsMs] });
  }

  close(): void {
    this.#calls.close();
    this.#redis.disconnect();
  }

  async #call(asked: Pick<Call, 'sha' | 'keys' | 'args'>): Promise<readonly number[]> {
    const call: Call = { ...asked, refused: false, onRefused: undefined };
    try {
      return await this.#calls.call(call);
    } catch (error) {
      if (!(error instanceof CounterServerAway)) throw error;
      throw new CallFailed('Redis', this.#calls.fault, error, (then) => {
        if (call.refused) then();
        else {
          call.onRefused ??= [];
          call.onRefused.push(then);
        }
      });
    }
  }

  async #send(calls: readonly Call[]): Promise<(number[] | Error)[]> {
    const pipeline = this.#redis.pipeline();
    for (const { sha, keys, args } of calls) pipeline.call('evalsha', sha, keys.length, ...keys, ...args);
    const answers = (await pipeline.exec()) ?? [];
    for (const [i, [error]] of answers.entries()) {
      const call = calls[i];
      if (call === undefined || !(error instanceof ReplyError)) continue;
      call.refused = true;
      for (const then of call.onRefused ?? []) then();
    }
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
          redis.call('evalsha', SPEND_SHA, 1, PROBE_KEY, ...PROBE_ARGS),
        ]).then(
          () => true,
          (error: Error) => {
            this.#calls.fault = error.message;
            return false;
          },
        );
        if (await Promise.race([ready, sleep(LIMIT_MS, false, { ref: false })])) {
          this.#calls.back();
          return;
        }
      }
      // A connection through which nothing comes any more may stay so for minutes, and one to a primary that was demoted goes on
      // leading to it, whatever its name leads to now.
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
