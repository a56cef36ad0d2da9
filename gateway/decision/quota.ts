import { hourOf, type KeyFacts, monthEndMs, monthStartHour, type UsageRow } from '../../keystore/keystore.ts';
import type { Plan } from '../../shared/plans.ts';
import type { Chain, Key } from './key.ts';

/** How many requests a plan includes, and in what. */
export type Allowance = Pick<Plan, 'quota' | 'quotaPer'>;

/** Where a key stands in its quota: of the calendar month (UTC), or of all that its purchase bought, which never renews. */
export type QuotaState = { limit: number; used: number; remaining: number } & (
  | {
      per: 'month';
      /** Milliseconds since the epoch. */
      resetsAt: number;
      resetSeconds: number;
      /** The length of this month. */
      windowSeconds: number;
    }
  | { per: 'purchase'; resetsAt: null }
);

/** What a rotation chain has used since an hour, as far as this process knows. */
export type Tally = {
  /** The first hour of the month, or {@link EVER}. */
  startHour: number;
  /** In the ledger, by every process. */
  written: number;
  /** Counted here and not in the ledger yet. */
  unwritten: number;
  /** The quota that was last asked about. */
  quota: number;
  /** Nothing of it has been written yet. */
  young: boolean;
  /** The last hour of which `written` held all when the ledger was read. */
  readHour: number;
  /** What was last seen of its keys. Nearly all chains are of one key. */
  seen: Seen | null;
};

/** The ledger's total for a key's current hour when this process last read it, or wrote to it. */
type Seen = { readonly keyId: string; hour: number; total: number; readonly next: Seen | null };

/** See {@link Quotas.isPressing}. */
const PRESSING_SHARE = 0.01;

const HOUR_MS = 3_600_000;
/** Where the count of what a purchase bought begins: before the first hour there is. */
const EVER = 0;

/**
 * Counts requests against quotas, per rotation chain: what the ledger holds, plus what this process counted and has not
 * written yet. Each request is in exactly one of the two.
 */
export class Quotas {
  #month = { start: 0, end: 0, startHour: 0 };
  readonly #onOutdated: (keyId: string) => void;

  /**
   * @param onOutdated called when others may have counted in an hour that is past what nobody has told here: the ledger
   *   has it a few seconds later
   */
  constructor(onOutdated: (keyId: string) => void = () => {}) {
    this.#onOutdated = onOutdated;
  }

  /**
   * Takes over the ledger's total that was read with a key's facts.
   *
   * @param exact whether no write of this process was under way while they were read; otherwise it cannot be told
   *   which of our own requests the total holds already, and it is left alone
   */
  learn(facts: Key, exact: boolean): void {
    const { tally } = facts.chain;
    if (tally === null || !exact) return;
    const used = usedSince(facts, tally.startHour);
    if (used === null) return;
    tally.written = used;
    tally.readHour = facts.readInHour;
    tally.seen = seenIn(facts);
  }

  /**
   * Counts `cost` requests. `false`, and nothing counted, when the quota has less than `needed` left; nothing needed,
   * nothing refused.
   */
  spend(facts: Key, allowance: Allowance, now: number, cost = 1, needed = cost): boolean {
    const { quota } = allowance;
    // What is counted against nothing need not be remembered: the ledger has it.
    if (quota === null) return true;
    const tally = this.#tally(facts, quota, allowance, now);
    tally.quota = quota;
    if (needed > 0 && tally.written + tally.unwritten + needed > quota) return false;
    tally.unwritten += cost;
    return true;
  }

  /**
   * Whether other processes have to know soon what is not in the ledger yet, as it is more than a hundredth of what was
   * left. Less than that can wait for seconds: a quota that is used up meanwhile goes by ten times as much in half a second.
   */
  isPressing({ tally }: Chain): boolean {
    if (tally === null) return false;
    const { quota, written, unwritten } = tally;
    return unwritten !== 0 && Math.abs(unwritten) >= (quota - written - unwritten) * PRESSING_SHARE;
  }

  /** Counts what a request turned out to cost beyond what was counted at `countedAt`; negative: gives it back. */
  settle(facts: Key, allowance: Allowance, difference: number, countedAt: number, now: number): void {
    const { quota } = allowance;
    if (quota === null) return;
    const tally = this.#tally(facts, quota, allowance, now);
    if (hourOf(countedAt) >= tally.startHour) tally.unwritten += difference;
  }

  /** Where a key stands; `null` for a plan without a quota. */
  look(facts: Key, allowance: Allowance, now: number): QuotaState | null {
    const limit = allowance.quota;
    if (limit === null) return null;
    const tally = this.#tally(facts, limit, allowance, now);
    const used = tally.written + tally.unwritten;
    const remaining = Math.max(0, limit - used);
    if (tally.startHour === EVER) return { per: 'purchase', limit, used, remaining, resetsAt: null };
    const { start, end } = this.#month;
    return {
      per: 'month',
      limit,
      used,
      remaining,
      resetsAt: end,
      resetSeconds: Math.max(1, Math.ceil((end - now) / 1000)),
      windowSeconds: (end - start) / 1000,
    };
  }

  /**
   * Moves what is now in the ledger from one column to the other, and learns from the hour's total what other processes
   * wrote meanwhile.
   */
  written({ tally }: Chain, row: UsageRow, totalRequests: number): void {
    if (tally === null || row.hour < tally.startHour) return;
    const { keyId, hour } = row;
    let seen = tally.seen;
    while (seen !== null && seen.keyId !== keyId) seen = seen.next;
    // Of an hour that began since the ledger was read, all is new.
    const isNew = hour > Math.max(tally.readHour, seen?.hour ?? 0);
    const known = isNew ? 0 : seen?.hour === hour ? seen.total : totalRequests;
    const byOthers = Math.max(0, totalRequests - known - row.requests);
    tally.unwritten -= row.requests;
    // What was counted before it was remembered here is not in `unwritten`, but in the first row that is written.
    if (tally.young) tally.unwritten = Math.max(0, tally.unwritten);
    tally.young = false;
    tally.written += row.requests + byOthers;
    if (seen === null) tally.seen = { keyId, hour, total: totalRequests, next: tally.seen };
    else if (hour >= seen.hour) {
      seen.hour = hour;
      seen.total = totalRequests;
    }
    if (isNew) this.#onOutdated(keyId);
  }

  #tally(facts: Key, quota: number, { quotaPer }: Allowance, now: number): Tally {
    // Never back: a request that waited across midnight counts in the new month.
    if (now >= this.#month.end) {
      const startHour = monthStartHour(now);
      this.#month = { start: startHour * HOUR_MS, end: monthEndMs(now), startHour };
    }
    // A subscription is bought anew with each period: what it used in all its life is nobody's limit.
    const bought = quotaPer === 'purchase' && facts.usedInAll !== null;
    const startHour = bought ? EVER : this.#month.startHour;
    let { tally } = facts.chain;
    if (tally === null || tally.startHour !== startHour) {
      tally = {
        startHour,
        written: usedSince(facts, startHour) ?? 0,
        unwritten: 0,
        quota,
        young: true,
        readHour: facts.readInHour,
        seen: seenIn(facts),
      };
      facts.chain.tally = tally;
      if (facts.readInHour !== hourOf(now)) this.#onOutdated(facts.id);
    }
    return tally;
  }
}

function seenIn({ id, readInHour, usedThisHour }: KeyFacts): Seen {
  return { keyId: id, hour: readInHour, total: usedThisHour, next: null };
}

/** What the ledger held since that hour when the facts were read; `null` when they tell of another month. */
function usedSince(facts: KeyFacts, startHour: number): number | null {
  if (startHour === EVER) return facts.usedInAll;
  return facts.monthStartHour === startHour ? facts.usedThisMonth : null;
}
