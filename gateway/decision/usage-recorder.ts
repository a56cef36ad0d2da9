import { randomUUID } from 'node:crypto';
import { setImmediate as breath, setTimeout as sleep } from 'node:timers/promises';
import { hourOf, type Keystore, type UsageRow } from '../../keystore/keystore.ts';
import type { Logger } from '../../shared/log.ts';
import type { Chain, Key } from './key.ts';

/** What a key consumed in an hour and is not in the ledger yet. */
export type Count = {
  readonly keyId: string;
  /** Which part of the ledger its row is in, from 0 to below {@link PARTS}: by the beginning of the key's id. */
  readonly part: number;
  chain: Chain;
  readonly hour: number;
  requests: number;
  refused: number;
  /** It is among those that are written next; it may be empty by then. */
  dirty: boolean;
  /** It is among those that are written soon. */
  pressing: boolean;
  /** Part of it was handed to the ledger, which has not said so far that it is committed. */
  unsure: boolean;
  /** It was empty and is forgotten: what is added to it is lost. */
  over: boolean;
};

type TakenRow = UsageRow & { readonly count: Count };
/** Rows as they were handed to the ledger, under the id by which it knows them when they come again. */
type Batch = TakenRow[] & { readonly batchId: string };

/** How often counts go to the ledger, at the most, and at the least. A crash loses as much. */
const FLUSH_MS = 500;
const MAX_FLUSH_MS = 5000;
/**
 * How long it takes at the most to write all of them. What just missed its turn waits for the next one: as long as this, for the
 * next round to begin, and for those of the same {@link PARTS_AT_ONCE} that come before it; and timers are late.
 */
const MAX_ROUND_MS = MAX_FLUSH_MS - 3 * FLUSH_MS;
/**
 * Writing takes this part of the time at the most, a little at a time, unless that would take longer than
 * {@link MAX_ROUND_MS}: in one go it would hold up requests on a machine with one core.
 */
const SHARE = 1 / 40;
/**
 * Rows written at once: few, since on a machine with one core requests wait for them, and other writers do anywhere. Where a
 * write takes its time whatever is in it, as on a slow disk, more of them: none may take more than this part of its time.
 */
const MIN_BATCH = 100;
const MAX_BATCH = 250;
const CROWDED = 1 / 4;
/** Of two characters of ASCII each. */
const PARTS = 2 ** 14;
/** Parts in turn that are looked through at once for what is to be written. */
const PARTS_AT_ONCE = 2 ** 10;
/** Later than any write: whether what was written is in the ledger will be known with the next answer. */
const NOBODY_KNOWS = 2 ** 30;

/** How long a stop goes on trying when the keystore refuses to write. */
const REFUSED_LIMIT_MS = 400;
/**
 * How long a stop waits for a write that is neither done nor refused: somebody else's step may hold it up for as long as
 * `BUSY_LIMIT_MS` of `keystore/store.ts`, and the process has `STOP_LIMIT_MS` of `shared/service.ts` for all of its stop.
 */
const PENDING_LIMIT_MS = 11_000;
const CLOSE_POLL_MS = 100;

/**
 * Counts what each key consumes, in memory, and adds it to the ledger: twice a second, or less often when that would take
 * too much of the time. What other processes have to know soon, as a quota may be near its end, is written twice a second
 * all the same. A count leaves memory only when the ledger says that its row is committed. What it did not say that of may be
 * there all the same, as an answer can get lost: it is handed in again as it was, before anything else, until the ledger does.
 * So a failure neither loses nor repeats anything. Memory is bounded by the keys in use within an hour, times the hours of an outage.
 */
export class UsageRecorder {
  readonly #keystore: Pick<Keystore, 'recordUsage'>;
  readonly #log: Logger;
  readonly #onWritten: (chain: Chain, row: UsageRow, totalRequests: number) => void;
  readonly #isPressing: (chain: Chain) => boolean;
  readonly #current = new Map<string, Count>();
  /** What is to be written, by {@link PARTS_AT_ONCE}. */
  readonly #dirty: Count[][] = Array.from({ length: PARTS / PARTS_AT_ONCE }, () => []);
  /** The newest hour that anything was counted in, and the one up to which empty counts are forgotten. */
  #hour = 0;
  #forgottenBefore = 0;
  /** Of hours that are past, by key and hour: no two of the same, or their rows would be taken for others' use. */
  #earlier = new Map<string, Count>();
  #pressing: Count[] = [];
  #flushing: Promise<boolean> | undefined;
  /** Ends the pauses of the flush that is under way. */
  #hurry = new AbortController();
  #timer: NodeJS.Timeout;
  #writes = 0;
  #writing = false;
  /** When everything is written next, on the clock of `performance.now`. */
  #nextAt = 0;
  /** When rows were last written, on the same clock. */
  #writtenAt = 0;
  #failing = false;
  /** What failed, to be written again. */
  #unsure: Batch | undefined;
  /** Nobody else's ids begin so. */
  readonly #name = randomUUID();
  #batches = 0;
  #batch = MIN_BATCH;
  /** When pressing counts are written next, on the same clock. */
  #pressingAt = 0;
  /** Flushes that failed, since the start. */
  failures = 0;
  /** When everything counted was last in the ledger, milliseconds since the epoch. */
  lastFlushedAt = Date.now();

  /**
   * @param options.onWritten called for each row that is in the ledger, with its hour's total over all processes
   * @param options.isPressing whether the counts of a rotation chain may not wait for more than the shortest interval
   */
  constructor(options: {
    keystore: Pick<Keystore, 'recordUsage'>;
    log: Logger;
    onWritten: (chain: Chain, row: UsageRow, totalRequests: number) => void;
    isPressing: (chain: Chain) => boolean;
  }) {
    this.#keystore = options.keystore;
    this.#log = options.log;
    this.#onWritten = options.onWritten;
    this.#isPressing = options.isPressing;
    this.#timer = setInterval(() => this.#tick(), FLUSH_MS);
    this.#timer.unref();
  }

  /** Counts one request of a key, admitted or refused. @param cost as how many an admitted one counts */
  count(key: Key, admitted: boolean, now: number, cost = 1): void {
    const count = this.#of(key, hourOf(now));
    if (!admitted) {
      count.refused++;
      return;
    }
    count.requests += cost;
    this.#lookWhetherPressing(count);
  }

  /** Counts what a request turned out to cost beyond what was counted at that time; negative: takes it back. */
  settle(key: Key, difference: number, countedAt: number): void {
    const count = this.#of(key, hourOf(countedAt));
    count.requests += difference;
    this.#lookWhetherPressing(count);
  }

  #lookWhetherPressing(count: Count): void {
    if (count.pressing || !this.#isPressing(count.chain)) return;
    count.pressing = true;
    this.#pressing.push(count);
  }

  #of(key: Key, hour: number): Count {
    let count = key.count;
    if (count === null || count.hour !== hour || count.over) {
      count = this.#find(key, hour);
      key.count = count;
    }
    if (!count.dirty) {
      count.dirty = true;
      (this.#dirty[Math.floor(count.part / PARTS_AT_ONCE)] as Count[]).push(count);
    }
    return count;
  }

  #find({ id, chain }: Key, hour: number): Count {
    const current = this.#current.get(id);
    const counted = current?.hour === hour ? current : this.#earlier.get(placeOf(id, hour));
    if (counted !== undefined) {
      counted.chain = chain;
      return counted;
    }
    const count: Count = {
      keyId: id,
      part: ((id.charCodeAt(0) & 127) << 7) | (id.charCodeAt(1) & 127),
      chain,
      hour,
      requests: 0,
      refused: 0,
      dirty: false,
      pressing: false,
      unsure: false,
      over: false,
    };
    this.#hour = Math.max(this.#hour, hour);
    // What is settled or decided late belongs to an hour that is past.
    if (current !== undefined && hour < current.hour) this.#earlier.set(placeOf(id, hour), count);
    else {
      if (current?.dirty) this.#earlier.set(placeOf(id, current.hour), current);
      else if (current !== undefined) current.over = true;
      this.#current.set(id, count);
    }
    return count;
  }

  /** The number of the write that is under way, or else of the one to come. */
  get pendingWrite(): number {
    return this.#writing ? this.#writes : this.#writes + 1;
  }

  /** Adds all counts to the ledger. Never throws; what could not be written stays counted. Returns whether all could. */
  async flush(): Promise<boolean> {
    if (this.#flushing) {
      this.#hurry.abort();
      // It may be of the pressing counts only.
      await this.#flushing;
    }
    const flushing = this.#begin(true);
    this.#hurry.abort();
    return flushing;
  }

  #tick(): void {
    if (this.#flushing) return;
    void this.#begin(performance.now() >= this.#nextAt);
  }

  #begin(all: boolean): Promise<boolean> {
    if (this.#flushing === undefined) {
      this.#hurry = new AbortController();
      this.#flushing = this.#flush(all).finally(() => {
        this.#flushing = undefined;
      });
    }
    return this.#flushing;
  }

  /** Writes what is left and stops. Logs what had to be given up when the keystore does not come back in time. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    const begun = performance.now();
    const standstill = () => performance.now() - Math.max(begun, this.#writtenAt);
    let refusedSince: number | undefined;
    let written = await this.#flushWithin(standstill);
    while (written === false) {
      const now = performance.now();
      if (refusedSince === undefined || this.#writtenAt > refusedSince) refusedSince = now;
      // What was refused only after a long wait is tried again only if there is time for another such wait.
      if (now - refusedSince > REFUSED_LIMIT_MS || standstill() > PENDING_LIMIT_MS / 2) break;
      await sleep(20);
      written = await this.#flushWithin(standstill);
    }
    const left = this.#dirty.flatMap((_, at) => this.#take(at));
    if (left.length === 0) return;
    const requests = left.reduce((sum, count) => sum + count.requests, 0);
    this.#log.error(
      { keys: left.length, requests },
      written === undefined
        ? 'Usage could not be written before the stop: it is lost, but for what the write under way still brings'
        : 'Usage could not be written before the stop and is lost',
    );
  }

  /** Whether all could be written; `undefined`: a write is still under way, and nothing has been written for too long. */
  async #flushWithin(standstill: () => number): Promise<boolean | undefined> {
    const flushing = this.flush();
    for (;;) {
      const written = await Promise.race([flushing, sleep(CLOSE_POLL_MS)]);
      if (written !== undefined) return written;
      if (standstill() > PENDING_LIMIT_MS) return undefined;
    }
  }

  /** @param all whether to write all counts there are, and not only the pressing ones */
  async #flush(all: boolean): Promise<boolean> {
    const begunAt = performance.now();
    const begunAtTime = Date.now();
    try {
      let spent = this.#unsure === undefined ? 0 : await this.#add(this.#unsure);
      spent += await this.#writePressing();
      if (all) spent += await this.#writeAll();
      // A turn in which there was nothing to write says nothing of the ledger.
      if (this.#failing && spent > 0) {
        this.#log.info('Usage is written to the ledger again');
        this.#failing = false;
      }
      if (!all) return true;
      // A little early rather than a whole turn of the timer late.
      this.#nextAt = begunAt + Math.min(spent / SHARE, MAX_ROUND_MS) - FLUSH_MS / 2;
      this.lastFlushedAt = begunAtTime;
      return true;
    } catch (error) {
      this.failures++;
      if (!this.#failing) this.#log.error({ err: error }, 'Usage cannot be written; counting on in memory');
      this.#failing = true;
      return false;
    }
  }

  /**
   * Writes what is counted by the time that its turn comes, in the order of the ledger. Milliseconds that the ledger took, without
   * the pauses in between.
   */
  async #writeAll(): Promise<number> {
    let spent = 0;
    // What was slow may not be so any more.
    this.#batch = Math.max(MIN_BATCH, Math.floor(this.#batch / 2));
    const until = performance.now() + MAX_ROUND_MS;
    let counts: Count[] = [];
    for (let at = 0; at < this.#dirty.length; at++) {
      const isLast = at === this.#dirty.length - 1;
      counts = [...counts, ...this.#take(at)];
      let start = 0;
      while (start < counts.length) {
        const batch = this.#hurry.signal.aborted ? MAX_BATCH : this.#batch;
        // Few of them share a write with what comes next.
        if (!isLast && counts.length - start < batch) break;
        const took = await this.#record(counts.slice(start, start + batch));
        spent += took;
        start += batch;
        let left = Math.max(0, counts.length - start);
        for (let later = at + 1; later < this.#dirty.length; later++)
          left += (this.#dirty[later] as Count[]).length;
        // More may have come since it began.
        const itsTime = Math.max(0, until - performance.now()) * (batch / Math.max(left, batch));
        if (took > itsTime * CROWDED) this.#batch = Math.min(MAX_BATCH, batch * 2);
        if (left > 0) spent += await this.#pause(Math.min(took / SHARE, itsTime));
      }
      counts = counts.slice(start);
    }
    this.#forgetPastHours();
    return spent;
  }

  /** Waits, and sees to it that pressing counts do not. Milliseconds that the ledger took meanwhile. */
  async #pause(ms: number): Promise<number> {
    let spent = 0;
    const until = performance.now() + ms;
    const { signal } = this.#hurry;
    while (!signal.aborted) {
      if (performance.now() >= this.#pressingAt) spent += await this.#writePressing();
      const now = performance.now();
      if (now >= until) break;
      const wait = Math.ceil(Math.min(until, this.#pressingAt) - now);
      await sleep(wait, undefined, { signal, ref: false }).catch(() => {});
    }
    // Whatever else there is to do in this process.
    if (signal.aborted) await breath();
    return spent;
  }

  async #writePressing(): Promise<number> {
    this.#pressingAt = performance.now() + FLUSH_MS;
    const pressing = this.#pressing;
    this.#pressing = [];
    for (const count of pressing) count.pressing = false;
    let spent = 0;
    for (let start = 0; start < pressing.length; start += MAX_BATCH)
      spent += await this.#record(pressing.slice(start, start + MAX_BATCH));
    return spent;
  }

  /** Writes what some counts hold by now. Milliseconds that the ledger took. */
  async #record(counts: readonly Count[]): Promise<number> {
    const rows = counts.filter(isNotEmpty).map(rowOf);
    if (rows.length === 0) return 0;
    return this.#add(Object.assign(rows, { batchId: `${this.#name}-${++this.#batches}` }));
  }

  async #add(batch: Batch): Promise<number> {
    const begun = performance.now();
    this.#writes++;
    this.#writing = true;
    for (const { count } of batch) {
      count.unsure = true;
      count.chain.writtenIn = this.#writes;
    }
    try {
      await this.#keystore.recordUsage(batch, (row, totalRequests) => {
        const { count } = row;
        count.unsure = false;
        count.requests -= row.requests;
        count.refused -= row.refused;
        this.#onWritten(count.chain, row, totalRequests);
      });
      this.#unsure = undefined;
    } catch (error) {
      const unsure = batch.filter(({ count }) => count.unsure);
      this.#unsure = unsure.length === 0 ? undefined : Object.assign(unsure, { batchId: batch.batchId });
      for (const { count } of unsure) count.chain.writtenIn = NOBODY_KNOWS;
      throw error;
    } finally {
      this.#writing = false;
    }
    this.#writtenAt = performance.now();
    return this.#writtenAt - begun;
  }

  /**
   * The counts to write of some parts, in the order of the ledger. What is written at once is then on few of its pages, where any
   * hundred of many rows would be on nearly as many: of each page that a row changes, the whole is written.
   */
  #take(at: number): Count[] {
    const taken: Count[] = [];
    for (const count of this.#dirty[at] as Count[]) {
      // Empty for now only, when what was handed in was taken back meanwhile.
      if (count.unsure || isNotEmpty(count)) taken.push(count);
      else {
        count.dirty = false;
        if (this.#earlier.size > 0 && this.#earlier.delete(placeOf(count.keyId, count.hour)))
          count.over = true;
      }
    }
    // Most of them are in order since the last time.
    this.#dirty[at] = taken.sort((a, b) => a.part - b.part);
    return taken.slice();
  }

  /** Counts stay for their hour: most keys that are used are used again, and a count costs more to make than to keep. */
  #forgetPastHours(): void {
    if (this.#forgottenBefore === this.#hour) return;
    this.#forgottenBefore = this.#hour;
    for (const [keyId, count] of this.#current) {
      if (count.dirty || count.hour >= this.#hour) continue;
      count.over = true;
      this.#current.delete(keyId);
    }
  }
}

function rowOf(count: Count): TakenRow {
  const { keyId, hour, requests, refused } = count;
  return { keyId, hour, requests, refused, count };
}

function placeOf(keyId: string, hour: number): string {
  return `${keyId} ${hour}`;
}

/** Taking back can leave less than nothing, to be taken from what is in the ledger. */
function isNotEmpty({ requests, refused }: Count): boolean {
  return requests !== 0 || refused !== 0;
}
