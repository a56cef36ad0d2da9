import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from './machine.ts';
import { type Measured, measured, quoted } from './statistics.ts';

/** One thing measured of one subject, once in each run. */
export type Figure = {
  /** Whose: a contender, or what a row is about. */
  subject: string;
  /** What: the heading of a column. */
  measure: string;
  unit: string;
  runs: number[];
};

/** What a benchmark found. */
export type Outcome = {
  figures: Figure[];
  /** How it was measured: what a reader needs to judge the figures. */
  conditions: Record<string, string | number>;
  /** What each contender is made of, with versions. */
  madeOf: Record<string, string>;
  /** Who could not take part, and why. */
  leftOut: { name: string; why: string }[];
};

/** An outcome that is a list of things measured, each in its own unit. */
export function listed(figures: readonly Omit<Figure, 'measure'>[]): Outcome {
  return {
    figures: figures.map((figure) => ({ ...figure, measure: 'measured' })),
    conditions: {},
    madeOf: {},
    leftOut: [],
  };
}

/** What `bench/results/<bench>.json` holds. */
export type Results = Outcome & { bench: string; takenAt: string; quick: boolean; machine: Machine };

export const RESULTS_FOLDER = join(import.meta.dirname, 'results');

export function writeResults(results: Results): void {
  mkdirSync(RESULTS_FOLDER, { recursive: true });
  writeFileSync(
    join(RESULTS_FOLDER, `${results.bench}.json`),
    `${JSON.stringify(results, null, 2).replace(/\[\s+(-?[\d.,\s-]+?)\s+\]/g, (_, list: string) => `[${list.replace(/\s+/g, ' ')}]`)}\n`,
  );
}

/** Every result there is, by the benchmark's name. */
export function readResults(): Map<string, Results> {
  const found = new Map<string, Results>();
  const files = existsSync(RESULTS_FOLDER) ? readdirSync(RESULTS_FOLDER) : [];
  for (const file of files.filter((name) => name.endsWith('.json'))) {
    const results = JSON.parse(readFileSync(join(RESULTS_FOLDER, file), 'utf8')) as Results;
    found.set(results.bench, results);
  }
  return found;
}

/** A benchmark's figures as rows by subject and columns by measure, both in the order they first appear. */
export function grid(figures: readonly Figure[]): {
  measures: string[];
  rows: { subject: string; cells: ((Measured & { unit: string }) | null)[] }[];
} {
  const measures = [...new Set(figures.map(({ measure }) => measure))];
  const subjects = [...new Set(figures.map(({ subject }) => subject))];
  const rows = subjects.map((subject) => ({
    subject,
    cells: measures.map((measure) => {
      const figure = figures.find((each) => each.subject === subject && each.measure === measure);
      return figure ? { ...measured(figure.runs), unit: figure.unit } : null;
    }),
  }));
  return { measures, rows };
}

/** The table as lines for a terminal: medians, with the smallest and largest run beside each. */
export function tableLines(figures: readonly Figure[]): string[] {
  const { measures, rows } = grid(figures);
  const texts = [
    ['', ...measures],
    ...rows.map(({ subject, cells }) => [
      subject,
      ...cells.map((cell) =>
        cell ? `${quoted(cell.median)} ${cell.unit} (${quoted(cell.min)} to ${quoted(cell.max)})` : '-',
      ),
    ]),
  ];
  const widths = (texts[0] as string[]).map((_, column) =>
    Math.max(...texts.map((line) => (line[column] as string).length)),
  );
  return texts.map((line) =>
    line
      .map((text, i) => text.padEnd(widths[i] as number))
      .join('  ')
      .trimEnd(),
  );
}
