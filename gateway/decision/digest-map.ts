/** The first 128 bits of a digest, of which one gives way to mark a place as taken: nobody finds two keys that share the rest. */
const WORDS = 4;
const TAKEN = 1;
const FEWEST_PLACES = 64;

/**
 * Values by SHA-256 digest. A look goes to two places in memory, however many values there are, where a Map of as many goes to
 * half a dozen: its buckets, its entries, the keys of all that it passes, and the characters of each that may be the same.
 * (With a million keys, going there is most of what a decision costs.)
 *
 * Open addressing with linear probing. What was deleted keeps its place until the table grows.
 */
export class DigestMap<V> {
  /** {@link WORDS} for each place; the first is 0 where a place is free. */
  #words = new Int32Array(WORDS * FEWEST_PLACES);
  #values: (V | undefined)[] = new Array(FEWEST_PLACES).fill(undefined);
  #places = FEWEST_PLACES;
  #taken = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @param digest 32 bytes, as latin1 */
  get(digest: string): V | undefined {
    return this.#values[this.#placeOf(wordAt(digest, 0) | TAKEN, digest)];
  }

  set(digest: string, value: V): void {
    const first = wordAt(digest, 0) | TAKEN;
    let place = this.#placeOf(first, digest);
    if (this.#words[place * WORDS] === 0) {
      if ((this.#taken + 1) * 4 > this.#places * 3) {
        this.#grow();
        place = this.#placeOf(first, digest);
      }
      this.#take(place, first, wordAt(digest, 4), wordAt(digest, 8), wordAt(digest, 12));
    }
    if (this.#values[place] === undefined) this.#size++;
    this.#values[place] = value;
  }

  delete(digest: string): void {
    const place = this.#placeOf(wordAt(digest, 0) | TAKEN, digest);
    if (this.#values[place] === undefined) return;
    this.#values[place] = undefined;
    this.#size--;
  }

  /** Where a digest is, or may be put. */
  #placeOf(first: number, digest: string): number {
    const second = wordAt(digest, 4);
    const third = wordAt(digest, 8);
    const fourth = wordAt(digest, 12);
    const words = this.#words;
    const last = this.#places - 1;
    for (let place = second & last; ; place = (place + 1) & last) {
      const at = place * WORDS;
      const there = words[at];
      if (there === 0) return place;
      if (there === first && words[at + 1] === second && words[at + 2] === third && words[at + 3] === fourth)
        return place;
    }
  }

  #take(place: number, first: number, second: number, third: number, fourth: number): void {
    const at = place * WORDS;
    this.#words[at] = first;
    this.#words[at + 1] = second;
    this.#words[at + 2] = third;
    this.#words[at + 3] = fourth;
    this.#taken++;
  }

  /** Makes room for twice as many as there are, without what was deleted. */
  #grow(): void {
    const words = this.#words;
    const values = this.#values;
    let places = FEWEST_PLACES;
    while ((this.#size + 1) * 2 > places) places *= 2;
    this.#words = new Int32Array(WORDS * places);
    this.#values = new Array(places).fill(undefined);
    this.#places = places;
    this.#taken = 0;
    const last = places - 1;
    for (let from = 0; from < values.length; from++) {
      const value = values[from];
      if (value === undefined) continue;
      const at = from * WORDS;
      const second = words[at + 1] as number;
      let place = second & last;
      while (this.#words[place * WORDS] !== 0) place = (place + 1) & last;
      this.#take(place, words[at] as number, second, words[at + 2] as number, words[at + 3] as number);
      this.#values[place] = value;
    }
  }
}

/** Four bytes of a latin1 string as a signed integer. */
function wordAt(digest: string, at: number): number {
  return (
    (digest.charCodeAt(at) << 24) |
    (digest.charCodeAt(at + 1) << 16) |
    (digest.charCodeAt(at + 2) << 8) |
    digest.charCodeAt(at + 3)
  );
}
