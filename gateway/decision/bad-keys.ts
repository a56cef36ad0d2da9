import { LRUCache } from 'lru-cache';
import { addressGroup } from '../../shared/address-group.ts';

/** Wrong keys one client may present in a minute: room for a typo in a script, none for guessing. */
export const BAD_KEYS_A_MINUTE = 30;

const WINDOW_MS = 60_000;
/** Clients remembered at once: a flood from many addresses must not add more. */
const MAX_CLIENTS = 50_000;

/** Limits how many wrong keys come from one client address, so that trying keys cannot exhaust the machine. */
export class BadKeys {
  readonly #now: () => number;
  readonly #clients: LRUCache<string, { count: number; endsAt: number }>;

  /** @param now milliseconds since the epoch */
  constructor(maxClients = MAX_CLIENTS, now: () => number = Date.now) {
    this.#now = now;
    this.#clients = new LRUCache({ max: maxClients });
  }

  /** Seconds this client has to wait before another unknown key of its is looked at; 0: none. */
  waitSeconds(address: string): number {
    const current = this.#clients.get(addressGroup(address));
    if (current === undefined || current.count < BAD_KEYS_A_MINUTE) return 0;
    return Math.max(0, Math.ceil((current.endsAt - this.#now()) / 1000));
  }

  /** Counts a wrong key. */
  count(address: string): void {
    const client = addressGroup(address);
    const now = this.#now();
    const current = this.#clients.get(client);
    if (current === undefined || current.endsAt <= now) {
      this.#clients.set(client, { count: 1, endsAt: now + WINDOW_MS });
    } else current.count++;
  }

  /** Clients remembered. */
  get size(): number {
    return this.#clients.size;
  }
}
