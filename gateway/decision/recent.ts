/**
 * A map that keeps what was used most recently, up to a number of entries. What is looked up costs one look in a map: the
 * order of use is known only by halves. Once the newer half is full, the older one is dropped as a whole, except for what
 * was used meanwhile. (With 1,000,000 entries, keeping the exact order cost more than everything else in a decision.)
 */
export class Recent<K, V> {
  readonly #half: number;
  #newer = new Map<K, V>();
  /** Changes when the older half is dropped, or all. What was used since then is still here, unless it was removed. */
  turns = 0;
  #older = new Map<K, V>();

  /** @param capacity entries at most */
  constructor(capacity: number) {
    this.#half = Math.max(1, Math.floor(capacity / 2));
  }

  /** Entries kept; one that was used in both halves may be counted twice. */
  get size(): number {
    return this.#newer.size + this.#older.size;
  }

  get(key: K): V | undefined {
    const found = this.#newer.get(key);
    if (found !== undefined) return found;
    const old = this.#older.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  set(key: K, value: V): void {
    this.#newer.set(key, value);
    if (this.#newer.size <= this.#half) return;
    this.turns++;
    this.#older = this.#newer;
    this.#newer = new Map([[key, value]]);
    this.#older.delete(key);
  }

  delete(key: K): void {
    this.#newer.delete(key);
    this.#older.delete(key);
  }

  clear(): void {
    this.turns++;
    this.#newer.clear();
    this.#older.clear();
  }
}
