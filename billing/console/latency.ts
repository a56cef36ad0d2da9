/** How many answers took no longer than `upTo` seconds, and longer than `above`. */
export type Bucket = { above: number; upTo: number; count: number };

/** Reads a bucket as the gateway names it: `0.005-0.01`, or `60-` without an end. `undefined`: it is none. */
export function bucketOf(name: string, count: number): Bucket | undefined {
  const [, above, upTo] = /^([\d.]+)-([\d.]*)$/.exec(name) ?? [];
  if (above === undefined) return undefined;
  return { above: Number(above), upTo: upTo ? Number(upTo) : Number.POSITIVE_INFINITY, count };
}

/**
 * How long a part of all answers took at the most, in seconds: estimated as if those of a bucket were spread evenly over it, as
 * Prometheus does. `null`: there were none.
 *
 * @param part from 0 to 1
 */
export function percentile(buckets: readonly Bucket[], part: number): number | null {
  const sorted = buckets.toSorted((a, b) => a.above - b.above);
  const wanted = part * sorted.reduce((sum, { count }) => sum + count, 0);
  let below = 0;
  for (const { above, upTo, count } of sorted) {
    if (count > 0 && below + count >= wanted) {
      if (upTo === Number.POSITIVE_INFINITY) return above;
      return above + ((upTo - above) * (wanted - below)) / count;
    }
    below += count;
  }
  return null;
}

/** `0.8 ms`, `12 ms`, `1.5 s`. */
export function secondsText(seconds: number): string {
  if (seconds === 0) return '0';
  const [value, unit] = seconds < 0.9995 ? [seconds * 1000, 'ms'] : [seconds, 's'];
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)} ${unit}`;
}
