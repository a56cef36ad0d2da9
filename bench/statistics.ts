/** Several measurements of one thing, as they are quoted: the median, with the smallest and largest beside it. */
export type Measured = { median: number; min: number; max: number; runs: number };

export function measured(values: readonly number[]): Measured {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const median =
    sorted.length % 2
      ? (sorted[middle] ?? Number.NaN)
      : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN, runs: sorted.length };
}

/** A row of the report: `what   median unit   (min to max, n runs)`. */
export function row(what: string, { median, min, max, runs }: Measured, unit: string): string {
  const spread = `(${quoted(min)} to ${quoted(max)}, ${runs} runs)`;
  return `  ${what.padEnd(58)} ${quoted(median).padStart(8)} ${unit.padEnd(6)} ${spread}`;
}

/** A number as it is quoted: with no more digits than it has meaning. */
export function quoted(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en');
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
