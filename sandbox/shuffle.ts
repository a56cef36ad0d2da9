/** A repeatable source of numbers in [0, 1) (mulberry32): for the order of deliveries, never for ids. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A copy of `items` in an order drawn from `random` (Fisher and Yates). */
export function shuffled<T>(items: T[], random: () => number): T[] {
  const out = [...items];
  for (let last = out.length - 1; last > 0; last--) {
    const pick = Math.floor(random() * (last + 1));
    [out[last], out[pick]] = [out[pick] as T, out[last] as T];
  }
  return out;
}
