import type { Logger } from '../../shared/log.ts';
import { CounterServerAway } from './counter-server.ts';

type Options<Call> = {
  /** For the log and for errors. */
  server: string;
  /** How long an answer is waited for once the call is sent, milliseconds. */
  limitMs: number;
  /** Sends calls together; an answer, or what went wrong, for each of them in their order. */
  send(calls: readonly Call[]): Promise<readonly (readonly number[] | Error)[]>;
  /** It has just turned out to be away: now it has to be found out when it is back. */
  onAway(): void;
  log: Logger;
};

type Waiting<Call> = {
  call: Call;
  /** When it was sent, by `performance.now()`. */
  since: number;
  resolve(answer: readonly number[]): void;
  reject(error: CounterServerAway): void;
};

const LOOK_MS = 5;

/**
 * Calls to a counter server that wait for their answers. Those of one turn of the event loop go out together. One that is
 * not answered in time means that the server is away: until it answers again, nobody waits for it.
 */
export class CounterCalls<Call> {
  readonly #options: Options<Call>;
  /** Sent or about to be, oldest first. */
  #waiting = new Set<Waiting<Call>>();
  #gathered: Waiting<Call>[] = [];
  #up = false;
  #everUp = false;
  #closed = false;
  #looking: NodeJS.Timeout | undefined;
  /** What was last wrong with the server. */
  fault = 'no connection yet';

  constructor(options: Options<Call>) {
    this.#options = options;
  }

  /** Whether the server answers. */
  get up(): boolean {
    return this.#up;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** @throws CounterServerAway as a rejection: at once when the server is away, and after the limit when it turns out to be */
  call(call: Call): Promise<readonly number[]> {
    if (!this.#up) return Promise.reject(new CounterServerAway(this.#options.server, this.fault));
    return new Promise((resolve, reject) => {
      const waiting = { call, since: Number.POSITIVE_INFINITY, resolve, reject };
      this.#waiting.add(waiting);
      if (this.#gathered.push(waiting) === 1) setImmediate(() => this.#send());
      this.#looking ??= setInterval(() => this.#look(), LOOK_MS);
    });
  }

  /** The server is away: nobody waits for it any longer. */
  away(why: string): void {
    const { server, log, onAway } = this.#options;
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const { reject } of waiting) reject(new CounterServerAway(server, why));
    if (!this.#up) return;
    this.#up = false;
    this.fault = why;
    if (this.#closed) return;
    log.error({ reason: why }, `${server} is away; limits are decided without it`);
    onAway();
  }

  /** The server answers. */
  back(): void {
    this.#up = true;
    if (this.#everUp) this.#options.log.info(`${this.#options.server} is back`);
    this.#everUp = true;
  }

  close(): void {
    this.#closed = true;
    this.away('closed');
  }

  #send(): void {
    const sent = this.#gathered;
    this.#gathered = [];
    const now = performance.now();
    for (const waiting of sent) waiting.since = now;
    this.#options.send(sent.map(({ call }) => call)).then(
      (answers) => {
        for (const [i, waiting] of sent.entries())
          this.#answered(waiting, answers[i] ?? new Error('no answer'));
      },
      (error: unknown) => this.away((error as Error).message),
    );
  }

  #answered(waiting: Waiting<Call>, answer: readonly number[] | Error): void {
    if (!this.#waiting.delete(waiting)) return;
    if (!(answer instanceof Error)) waiting.resolve(answer);
    else {
      waiting.reject(new CounterServerAway(this.#options.server, answer.message, { cause: answer }));
      this.away(answer.message);
    }
  }

  #look(): void {
    const { limitMs } = this.#options;
    const oldest = this.#waiting.values().next().value;
    if (oldest === undefined) {
      clearInterval(this.#looking);
      this.#looking = undefined;
    } else if (performance.now() - oldest.since > limitMs) {
      // Answers that have arrived while this process was busy are read first.
      setImmediate(() => {
        if (this.#waiting.has(oldest)) this.away(`no answer within ${limitMs} ms`);
      });
    }
  }
}
