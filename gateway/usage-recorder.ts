import { setTimeout as sleep } from 'node:timers/promises';
import { hourOf, type KeyFacts, type Keystore, type UsageRow } from '../keystore/keystore.ts';
import type { Logger } from '../shared/log.ts';

type Count = { keyId: string; rootId: string; hour: number; requests: number; refused: number };

/** How often counts go to the ledger. A crash loses at most this much. */
const FLUSH_MS = 500;

/** How long a stop goes on trying when the keystore fails. */
const CLOSE_LIMIT_MS = 400;

/**
 * Counts what each key consumes, in memory, and adds it to the ledger twice a second. A count leaves memory only when
 * the ledger says that its row is committed, so a failure half-way neither loses nor repeats anything. Memory is bounded
 * by the keys in use, times the hours of an outage.
 */
export class UsageRecorder {
  readonly #keystore: Pick<Keystore, 'recordUsage'>;
  readonly #log: Logger;
  readonly #onWritten: (rootId: string, row: UsageRow, totalRequests: number) => void;
  readonly #current = new Map<string, Count>();
  #earlier: Count[] = [];
  #flushing: Promise<boolean> | undefined;
  #timer: NodeJS.Timeout;
  #epoch = 0;
  #failing = false;
  /** Flushes that failed, since the start. */
  failures = 0;
  /** When everything counted was last in the ledger, milliseconds since the epoch. */
  lastFlushedAt = Date.now();

  /** @param onWritten called for each row that is in the ledger, with its hour's total over all processes */
  constructor(options: {
    keystore: Pick<Keystore, 'recordUsage'>;
    log: Logger;
    onWritten: (rootId: string, row: UsageRow, totalRequests: number) => void;
  }) {
    this.#keystore = options.keystore;
    this.#log = options.log;
    this.#onWritten = options.onWritten;
    this.#timer = setInterval(() => void this.flush(), FLUSH_MS);
    this.#timer.unref();
  }

  /** Counts one request of a key, admitted or refused. @param cost as how many an admitted one counts */
  count(facts: KeyFacts, admitted: boolean, now: number, cost = 1): void {
    const count = this.#of(facts, hourOf(now));
    if (admitted) count.requests += cost;
    else count.refused++;
  }

  /** Counts what a request turned out to cost beyond what was counted at that time; negative: takes it back. */
  settle(facts: KeyFacts, difference: number, countedAt: number): void {
    this.#of(facts, hourOf(countedAt)).requests += difference;
  }

  #of(facts: KeyFacts, hour: number): Count {
    let count = this.#current.get(facts.id);
    if (count === undefined || count.hour !== hour) {
      if (count !== undefined) this.#earlier.push(count);
      count = { keyId: facts.id, rootId: facts.rootId, hour, requests: 0, refused: 0 };
      this.#current.set(facts.id, count);
    }
    return count;
  }

  /** Changes whenever a write begins or ends; odd while one is under way. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Adds all counts to the ledger. Never throws; what could not be written stays counted. Returns whether all could. */
  flush(): Promise<boolean> {
    this.#flushing ??= this.#flush().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  /** Writes what is left and stops. Logs what had to be given up when the keystore does not come back in time. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    const deadline = Date.now() + CLOSE_LIMIT_MS;
    const late = sleep(CLOSE_LIMIT_MS).then(() => false);
    if (this.#flushing) await Promise.race([this.#flushing, late]);
    while (!(await Promise.race([this.flush(), late])) && Date.now() < deadline) await sleep(50);
    const lost = this.#take();
    if (lost.size > 0) {
      const requests = [...lost.keys()].reduce((sum, row) => sum + row.requests, 0);
      this.#log.error(
        { keys: lost.size, requests },
        'Usage could not be written before the stop and is lost',
      );
    }
  }

  async #flush(): Promise<boolean> {
    const rows = this.#take();
    if (rows.size === 0) {
      this.lastFlushedAt = Date.now();
      return true;
    }
    this.#epoch++;
    try {
      await this.#keystore.recordUsage([...rows.keys()], (row, totalRequests) => {
        const count = rows.get(row) as Count;
        count.requests -= row.requests;
        count.refused -= row.refused;
        this.#onWritten(count.rootId, row, totalRequests);
      });
      if (this.#failing) this.#log.info('Usage is written to the ledger again');
      this.#failing = false;
      this.lastFlushedAt = Date.now();
      return true;
    } catch (error) {
      this.failures++;
      if (!this.#failing) this.#log.error({ err: error }, 'Usage cannot be written; counting on in memory');
      this.#failing = true;
      return false;
    } finally {
      this.#epoch++;
    }
  }

  /** The rows to write, each with the count that it will be taken from; forgets counts that are empty. */
  #take(): Map<UsageRow, Count> {
    this.#earlier = this.#earlier.filter(isNotEmpty);
    const rows = new Map<UsageRow, Count>();
    for (const count of [...this.#earlier, ...this.#current.values()]) {
      const { keyId, hour, requests, refused } = count;
      if (isNotEmpty(count)) rows.set({ keyId, hour, requests, refused }, count);
      else this.#current.delete(keyId);
    }
    return rows;
  }
}

/** Taking back can leave less than nothing, to be taken from what is in the ledger. */
function isNotEmpty({ requests, refused }: Count): boolean {
  return requests !== 0 || refused !== 0;
}
