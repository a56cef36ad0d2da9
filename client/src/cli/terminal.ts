const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const PLAIN_FRAMES = ['-', '\\', '|', '/'];
const FRAME_MS = 80;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be found
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';
const CODES: Record<Style, [number, number]> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
};

type Stream = { write(text: string): unknown; isTTY?: boolean; columns?: number };

/** Text that came from elsewhere, without what a terminal would obey. */
export function printable(text: string): string {
  return text.replace(CONTROLS, '');
}

/**
 * What people see. Colours and movement on a terminal that has them, and the same words without elsewhere. What was asked for
 * goes to the output, all else to the error output.
 */
export class Terminal {
  readonly #out: Stream;
  readonly #err: Stream;
  readonly #env: Readonly<Record<string, string | undefined>>;
  readonly #unicode: boolean;

  constructor(out: Stream, err: Stream, env: Readonly<Record<string, string | undefined>>) {
    this.#out = out;
    this.#err = err;
    this.#env = env;
    const { LC_ALL, LC_CTYPE, LANG } = env;
    this.#unicode = process.platform === 'win32' || /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '');
  }

  /** Whether somebody looks on. */
  get interactive(): boolean {
    return this.#out.isTTY === true;
  }

  line(text = ''): void {
    this.#out.write(`${text}\n`);
  }

  json(value: unknown): void {
    this.line(JSON.stringify(value, null, 2));
  }

  /** Something that was done. */
  done(text: string): void {
    this.line(`${this.style('green', this.#unicode ? '✓' : '*')} ${text}`);
  }

  /** What went wrong, and below it what to do about it. */
  problem(text: string, remedy: string | null, more: string | null = null): void {
    const on = this.#err;
    const sign = this.#unicode ? '✗' : 'x';
    on.write(`${paint(on, this.#env, 'red', sign)} ${text}\n`);
    if (remedy !== null) on.write(`  ${remedy}\n`);
    if (more !== null) on.write(`  ${paint(on, this.#env, 'dim', more)}\n`);
  }

  /** A remark beside the output. */
  note(text: string): void {
    this.#err.write(`${text}\n`);
  }

  /** Names on the left, what they stand for on the right. */
  facts(rows: readonly (readonly [name: string, value: string])[]): void {
    const width = Math.max(...rows.map(([name]) => name.length));
    for (const [name, value] of rows) this.line(`  ${this.style('dim', name.padEnd(width))}  ${value}`);
  }

  table(rows: readonly (readonly string[])[]): void {
    const widths = (rows[0] ?? []).map((_, column) =>
      Math.max(...rows.map((row) => row[column]?.length ?? 0)),
    );
    rows.forEach((row, i) => {
      const text = row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ');
      this.line(`  ${i === 0 ? this.style('dim', text.trimEnd()) : text.trimEnd()}`);
    });
  }

  style(style: Style, text: string): string {
    return paint(this.#out, this.#env, style, text);
  }

  /** Shows that something is waited for until the work is over. Elsewhere than on a terminal it is said once. */
  async waiting<T>(text: string, work: () => Promise<T>): Promise<T> {
    if (!this.interactive || this.#env.TERM === 'dumb') {
      this.line(text);
      return work();
    }
    // A line that wraps would not be drawn over.
    const shown = text.slice(0, (this.#out.columns ?? 80) - 3);
    const frames = this.#unicode ? FRAMES : PLAIN_FRAMES;
    let frame = 0;
    const draw = () => {
      this.#out.write(`\r${this.style('cyan', frames[frame++ % frames.length] as string)} ${shown}`);
    };
    draw();
    const timer = setInterval(draw, FRAME_MS);
    try {
      return await work();
    } finally {
      clearInterval(timer);
      this.#out.write('\r\x1b[K');
    }
  }
}

function paint(
  on: Stream,
  env: Readonly<Record<string, string | undefined>>,
  style: Style,
  text: string,
): string {
  if (on.isTTY !== true || env.NO_COLOR || env.TERM === 'dumb') return text;
  const [begin, end] = CODES[style];
  return `\x1b[${begin}m${text}\x1b[${end}m`;
}
