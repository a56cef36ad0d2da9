import { LRUCache } from 'lru-cache';
import { type KeyFacts, monthEndMs, monthStartHour, type UsageRow } from '../keystore/keystore.ts';

/** Where a key stands in its quota of the calendar month (UTC). */
export type QuotaState = {
  limit: number;
  used: number;
  remaining: number;
  /** Milliseconds since the epoch. */
  resetsAt: number;
  resetSeconds: number;
  /** The length of this month. */
  windowSeconds: number;
};

/** What a rotation chain has used this month, as far as this process knows. */
type Tally = {
  monthStartHour: number;
  /** In the ledger, by every process. */
  written: number;
  /** Counted here and not in the ledger yet. */
  unwritten: number;
  /** The ledger's total for a key's current hour when this process last wrote to it. */
  seen: Map<string, { hour: number; total: number }>;
};

const HOUR_MS = 3_600_000;

/**
 * Counts requests against monthly quotas, per rotation chain: what the ledger holds, plus what this process counted and
 * has not written yet. Each request is in exactly one of the two.
 */
export class Quotas {
  readonly #tallies: LRUCache<string, Tally>;
  #month = { start: 0, end: 0, startHour: 0 };

  /** @param capacity rotation chains remembered; one that is forgotten is read from the ledger again */
  constructor(capacity: number) {
    this.#tallies = new LRUCache({ max: capacity });
  }

  /**
   * Takes over the ledger's total that was read with a key's facts.
   *
   * @param exact whether no write of this process was under way while they were read; otherwise it cannot be told
   *   which of our own requests the total holds already, and it is left alone
   */
  learn(facts: KeyFacts, exact: boolean): void {
    const tally = this.#tallies.get(facts.rootId);
    if (!tally || !exact || tally.monthStartHour !== facts.monthStartHour) return;
    tally.written = facts.usedThisMonth;
    tally.seen.clear();
  }

  /** Counts one request. `false`, and nothing counted, when the quota has nothing left. */
  spend(facts: KeyFacts, limit: number | null, now: number): boolean {
    const tally = this.#tally(facts, now);
    if (limit !== null && tally.written + tally.unwritten >= limit) return false;
    tally.unwritten++;
    return true;
  }

  /** Where a key stands; `null` for a plan without a quota. */
  look(facts: KeyFacts, limit: number | null, now: number): QuotaState | null {
    if (limit === null) return null;
    const tally = this.#tally(facts, now);
    const used = tally.written + tally.unwritten;
    const { start, end } = this.#month;
    return {
      limit,
      used,
      remaining: Math.max(0, limit - used),
      resetsAt: end,
      resetSeconds: Math.max(1, Math.ceil((end - now) / 1000)),
      windowSeconds: (end - start) / 1000,
    };
  }

  /**
   * Moves what is now in the ledger from one column to the other, and learns from the hour's total what other processes
   * wrote meanwhile.
   */
  written(rootId: string, row: UsageRow, totalRequests: number): void {
    const tally = this.#tallies.get(rootId);
    if (!tally || row.hour < tally.monthStartHour) return;
    const seen = tally.seen.get(row.keyId);
    const byOthers = seen?.hour === row.hour ? Math.max(0, totalRequests - seen.total - row.requests) : 0;
    tally.unwritten = Math.max(0, tally.unwritten - row.requests);
    tally.written += row.requests + byOthers;
    tally.seen.set(row.keyId, { hour: row.hour, total: totalRequests });
  }

  #tally(facts: KeyFacts, now: number): Tally {
    // Never back: a request that waited across midnight counts in the new month.
    if (now >= this.#month.end) {
      const startHour = monthStartHour(now);
      this.#month = { start: startHour * HOUR_MS, end: monthEndMs(now), startHour };
    }
    const { startHour } = this.#month;
    let tally = this.#tallies.get(facts.rootId);
    if (!tally || tally.monthStartHour !== startHour) {
      tally = {
        monthStartHour: startHour,
        written: facts.monthStartHour === startHour ? facts.usedThisMonth : 0,
        unwritten: 0,
        seen: new Map(),
      };
      this.#tallies.set(facts.rootId, tally);
    }
    return tally;
  }
}
