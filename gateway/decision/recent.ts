type Table<K, V> = Pick<Map<K, V>, 'size' | 'get'> & {
  set(key: K, value: V): unknown;
  delete(key: K): unknown;
};

/**
 * A map that keeps what was used most recently, up to a number of entries. What is looked up costs one look in a map: the
 * order of use is known only by halves. Once the newer half is full, the older one is dropped as a whole, except for what
 * was used meanwhile. (With 1,000,000 entries, keeping the exact order cost more than everything else in a decision.)
 */
export class Recent<K, V> {
  readonly #half: number;
  readonly #create: () => Table<K, V>;
  #newer: Table<K, V>;
  /** Changes when the older half is dropped, or all. What was used since then is still here, unless it was removed. */
  turns = 0;
  #older: Table<K, V>;

  /**
   * @param capacity entries at most
   * @param create makes an empty table: a map, or whatever is quicker for such keys
   */
  constructor(capacity: number, create: () => Table<K, V> = () => new Map()) {
    this.#half = Math.max(1, Math.floor(capacity / 2));
    this.#create = create;
    this.#newer = create();
    this.#older = create();
  }

  /** Entries kept; one that was set in both halves is counted twice. */
  get size(): number {
    return this.#newer.size + this.#older.size;
  }

  get(key: K): V | undefined {
    const found = this.#newer.get(key);
    if (found !== undefined) return found;
    const old = this.#older.get(key);
    if (old === undefined) return undefined;
    // Or what replaces it would leave it in memory.
    this.#older.delete(key);
    this.set(key, old);
    return old;
  }

  set(key: K, value: V): void {
    this.#newer.set(key, value);
    if (this.#newer.size <= this.#half) return;
    this.turns++;
    this.#older = this.#newer;
    this.#newer = this.#create();
    this.#newer.set(key, value);
    this.#older.delete(key);
  }

  delete(key: K): void {
    this.#newer.delete(key);
    this.#older.delete(key);
  }

  clear(): void {
    this.turns++;
    this.#newer = this.#create();
    this.#older = this.#create();
  }
}
