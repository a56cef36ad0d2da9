/** Names of this length and longer ones are told apart by their first letter only. */
const LENGTHS = 32;

/**
 * A set of header names. Of nearly all names that are not in it, length and first letter say so: most headers are of no
 * interest to a gateway, and to make each of them lower case and look it up would be a good part of what a request costs
 * (V8 makes a string that comes from outside one of its own before it looks it up).
 */
export class HeaderNames {
  readonly #names: ReadonlySet<string>;
  /** For each length, a bit for each first letter. */
  readonly #letters = new Int32Array(LENGTHS + 1);

  /**
   * @param names in lower case
   * @param letters names that begin with one of these may be of interest too, whatever their length
   */
  constructor(names: Iterable<string>, letters = '') {
    this.#names = new Set(names);
    for (const letter of letters) {
      for (let length = 0; length <= LENGTHS; length++) this.#add(length, letter);
    }
    for (const name of this.#names) this.#add(Math.min(name.length, LENGTHS), name);
  }

  #add(length: number, name: string): void {
    this.#letters[length] = (this.#letters[length] as number) | bitOf(name.charCodeAt(0));
  }

  /** Whether a name of so many characters, of which this is the first, may be of interest. In any case. */
  mayHave(length: number, first: number): boolean {
    return ((this.#letters[length < LENGTHS ? length : LENGTHS] as number) & bitOf(first)) !== 0;
  }

  /** @param name in lower case */
  has(name: string): boolean {
    return this.#names.has(name);
  }

  [Symbol.iterator](): Iterator<string> {
    return this.#names[Symbol.iterator]();
  }
}

/** A letter has the same one in either case. Other characters share one with some letter: they are looked up in vain. */
function bitOf(character: number): number {
  return 1 << (character & 31);
}
