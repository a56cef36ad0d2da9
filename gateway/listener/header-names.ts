/** Names of this length and longer ones are at first told apart by their first letter only. */
const LENGTHS = 32;
/** What tells first letters apart: the same in either case. */
const LETTER = 31;
const LETTERS = LETTER + 1;

/**
 * A set of header names. Of nearly all names that are not in it, length and first letter say so: most headers are of no
 * interest to a gateway, and to make each of them lower case and look it up would be a good part of what a request costs
 * (V8 makes a string that comes from outside one of its own before it looks it up).
 */
export class HeaderNames {
  readonly #names: ReadonlySet<string>;
  /** For each length, a bit for each first letter. */
  readonly #letters = new Int32Array(LENGTHS + 1);
  /** For each length, a bit for each first letter with which all names are of interest. */
  readonly #all: number;
  /** The names of each length and first letter. */
  readonly #alike: string[][] = Array.from({ length: (LENGTHS + 1) * LETTERS }, () => []);

  /**
   * @param names in lower case, of letters and dashes
   * @param letters names that begin with one of these may be of interest too, whatever their length
   */
  constructor(names: Iterable<string>, letters = '') {
    this.#names = new Set(names);
    let all = 0;
    for (const letter of letters) {
      all |= bitOf(letter.charCodeAt(0));
      for (let length = 0; length <= LENGTHS; length++) this.#add(length, letter);
    }
    this.#all = all;
    for (const name of this.#names) {
      const length = Math.min(name.length, LENGTHS);
      this.#add(length, name);
      this.#alike[length * LETTERS + (name.charCodeAt(0) & LETTER)]?.push(name);
    }
  }

  #add(length: number, name: string): void {
    this.#letters[length] = (this.#letters[length] as number) | bitOf(name.charCodeAt(0));
  }

  /** Whether a name of so many characters, of which this is the first, may be of interest. In any case. */
  mayHave(length: number, first: number): boolean {
    return ((this.#letters[length < LENGTHS ? length : LENGTHS] as number) & bitOf(first)) !== 0;
  }

  /**
   * The name between two places of a text, in lower case; `null`: it is of no interest.
   *
   * @param bytes nothing but characters of a name there (RFC 9110 section 5.6.2)
   * @param text the same, as latin1
   */
  nameAt(bytes: Uint8Array, text: string, from: number, to: number): string | null {
    const length = to - from;
    const first = bytes[from] as number;
    if (!this.mayHave(length, first)) return null;
    const row = length < LENGTHS ? length : LENGTHS;
    const alike = this.#alike[row * LETTERS + (first & LETTER)] as string[];
    for (let i = 0; i < alike.length; i++) {
      const name = alike[i] as string;
      if (name.length === length && standsAt(name, bytes, from)) return name;
    }
    return (this.#all & bitOf(first)) !== 0 ? text.slice(from, to).toLowerCase() : null;
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
  return 1 << (character & LETTER);
}

/** Whether a name in lower case stands there, in any case. */
function standsAt(name: string, bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < name.length; i++) {
    // This makes a letter lower case, and of all that may be in a name leaves digits and the dash as they are. Nothing else
    // becomes one of them.
    if (((bytes[at + i] as number) | 0x20) !== name.charCodeAt(i)) return false;
  }
  return true;
}
