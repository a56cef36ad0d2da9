const WIDTH = 24;
/** On a terminal a line is drawn anew so often at the most. */
const DRAW_MS = 100;

/** Shows how far something is: a bar on a terminal, a line for each part elsewhere. To stderr, so that output stays clean. */
export class Progress {
  readonly #bar = process.stderr.isTTY;
  #part = '';
  #drawnAt = 0;

  /** @param part what is being done; a new one begins a new line */
  show(part: string, done: number, total: number): void {
    if (part !== this.#part) {
      this.end();
      this.#part = part;
    }
    const complete = done >= total;
    if (!this.#bar) {
      if (complete) process.stderr.write(`${part}: ${total.toLocaleString('en')}\n`);
      return;
    }
    const now = performance.now();
    if (!complete && now - this.#drawnAt < DRAW_MS) return;
    this.#drawnAt = now;
    const full = Math.round((WIDTH * done) / total);
    const counts = `${done.toLocaleString('en')} of ${total.toLocaleString('en')}`;
    process.stderr.write(
      `\r\x1b[K${part.padEnd(24)} ${'█'.repeat(full)}${'░'.repeat(WIDTH - full)} ${counts}`,
    );
  }

  /** Leaves the last line as it is. */
  end(): void {
    if (this.#bar && this.#part !== '') process.stderr.write('\n');
    this.#part = '';
  }
}
