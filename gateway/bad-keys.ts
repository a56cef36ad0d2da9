import { LRUCache } from 'lru-cache';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { addressGroup } from '../shared/address-group.ts';

/** Wrong keys one client may present in a minute: room for a typo in a script, none for guessing. */
export const BAD_KEYS_A_MINUTE = 30;

/** Clients remembered at once. Each costs a counter with its timer, so a flood from many addresses must not add more. */
const MAX_CLIENTS = 50_000;

/** Limits how many wrong keys come from one client address, so that trying keys cannot exhaust the machine. */
export class BadKeys {
  readonly #counter = new RateLimiterMemory({
    points: Number.MAX_SAFE_INTEGER,
    duration: 60,
    keyPrefix: '',
  });
  readonly #clients: LRUCache<string, true>;

  constructor(maxClients = MAX_CLIENTS) {
    this.#clients = new LRUCache({
      max: maxClients,
      dispose: (_value, client) => void this.#counter.delete(client),
    });
  }

  /** Seconds this client has to wait before another unknown key of its is looked at; 0: none. */
  async waitSeconds(address: string): Promise<number> {
    const current = await this.#counter.get(addressGroup(address));
    if (current === null || current.consumedPoints < BAD_KEYS_A_MINUTE || current.msBeforeNext <= 0) return 0;
    return Math.ceil(current.msBeforeNext / 1000);
  }

  /** Counts a wrong key. */
  count(address: string): void {
    const client = addressGroup(address);
    this.#clients.set(client, true);
    void this.#counter.consume(client, 1);
  }

  /** Clients remembered. */
  get size(): number {
    return this.#clients.size;
  }
}
