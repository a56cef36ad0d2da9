/** The name among those known that a mistyped one was most likely meant to be; `null`: none is near. */
export function nearestName(mistyped: string, known: readonly string[]): string | null {
  const written = mistyped.toLowerCase().replaceAll('-', '_');
  let nearest: string | null = null;
  let least = Math.max(2, Math.floor(written.length / 3)) + 1;
  for (const name of known) {
    const distance = name.startsWith(written) || written.startsWith(name) ? 1 : edits(written, name);
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  }
  return nearest;
}

/** How many characters have to be added, left out or replaced to get from one word to the other. */
function edits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (const [i, character] of [...from].entries()) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      const replaced = (row[j] as number) + (character === to[j] ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] as number) + 1, (next[j] as number) + 1));
    }
    row = next;
  }
  return row[to.length] as number;
}
