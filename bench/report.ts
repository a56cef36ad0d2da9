// docs/performance.md and its chart, made from bench/results. Run by itself: node bench/report.ts
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { barChart, type Kind, unitText } from './chart.ts';
import { CONTENDERS } from './contenders/all.ts';
import { tollgateBehindNginx, tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { AFTER, BEFORE, SECTIONS } from './report-prose.ts';
import { type Figure, grid, type Results, readResults } from './results.ts';
import { quoted } from './statistics.ts';
import { judged, targetText } from './targets.ts';

const DOCS = join(import.meta.dirname, '..', 'docs');
const CHART = 'performance.svg';
const MOST_COLUMNS = 8;
const TOLLGATES: ReadonlySet<string> = new Set(
  [tollgateNodeHttp, tollgateFastLane, tollgateBehindNginx].map(({ name }) => name),
);

/** Writes `docs/performance.md` and the chart beside it. */
export function writeReport(): void {
  mkdirSync(DOCS, { recursive: true });
  for (const [file, text] of Object.entries(report(readResults()))) writeFileSync(join(DOCS, file), text);
}

/** The report's files, by name. Every figure in them is from the results; the words around them are not. */
export function report(results: ReadonlyMap<string, Results>): Record<string, string> {
  const parts = [BEFORE];
  for (const [bench, { title, before, after }] of Object.entries(SECTIONS)) {
    const found = results.get(bench);
    if (!found) continue;
    parts.push(`## ${title}`, before);
    if (bench === 'gateway') parts.push(`![${title}: the table below as bars](${CHART})`);
    parts.push(tables(found), targets(found), after, provenance(found));
  }
  parts.push(AFTER);
  const files: Record<string, string> = {
    'performance.md': `${parts.filter((part) => part !== '').join('\n\n')}\n`,
  };
  const gateway = results.get('gateway');
  if (gateway) {
    const title = 'Requests a second on one core, and processor time a request';
    files[CHART] = barChart(gateway, 'requests a second', 'CPU a request', title, kindOf);
  }
  return files;
}

function kindOf(subject: string): Kind | null {
  if (TOLLGATES.has(subject)) return { className: 'own', legend: 'Tollgate' };
  const contender = CONTENDERS.find(({ name }) => name === subject);
  if (!contender) return null;
  return contender.works
    ? { className: 'peer', legend: 'the same work' }
    : { className: 'limit', legend: "no work: Node's own limits" };
}

/** Subjects with nothing in common stand in tables of their own. */
function tables({ figures }: Results): string {
  return related(figures)
    .map((some) => table(grid(some)))
    .join('\n\n');
}

/** Figures in groups whose subjects have measures in common, in the order in which they come. */
function related(figures: readonly Figure[]): Figure[][] {
  const groups: { measures: Set<string>; figures: Figure[] }[] = [];
  for (const figuresOfOne of Map.groupBy(figures, ({ subject }) => subject).values()) {
    const measures = new Set(figuresOfOne.map(({ measure }) => measure));
    const group = groups.find((each) => !each.measures.isDisjointFrom(measures));
    if (!group) groups.push({ measures, figures: figuresOfOne });
    else {
      group.figures.push(...figuresOfOne);
      for (const measure of measures) group.measures.add(measure);
    }
  }
  return groups.map((group) => group.figures);
}

/** A line for each subject; where there are more measures than a page is wide, a line for each of these. */
function table({ measures, rows }: ReturnType<typeof grid>): string {
  const name = (subject: string) => (TOLLGATES.has(subject) ? `**${subject}**` : subject);
  if (measures.length > MOST_COLUMNS && rows.length < measures.length) {
    return markdown(
      rows.map(({ subject }) => name(subject)),
      measures.map((measure, i) => [measure, ...rows.map(({ cells }) => cellText(cells[i]))]),
    );
  }
  return markdown(
    measures.length === 1 ? ['median'] : measures,
    rows.map(({ subject, cells }) => [name(subject), ...cells.map(cellText)]),
  );
}

function markdown(head: readonly string[], lines: readonly (readonly string[])[]): string {
  return [
    `| | ${head.join(' | ')} |`,
    `| --- |${' ---: |'.repeat(head.length)}`,
    ...lines.map((cells) => `| ${cells.join(' | ')} |`),
  ].join('\n');
}

function cellText(cell: ReturnType<typeof grid>['rows'][0]['cells'][0] | undefined): string {
  if (!cell) return '';
  const { median, min, max, runs, unit } = cell;
  const spread = runs > 1 ? ` <sub>${quoted(min)} to ${quoted(max)}</sub>` : '';
  return `${quoted(median)} ${unitText(unit)}${spread}`;
}

function targets({ bench, figures }: Results): string {
  const all = judged(bench, figures);
  if (all.length === 0) return '';
  return [
    '| Ratio or figure | measured | aim | |',
    '| --- | ---: | ---: | --- |',
    ...all.map(({ target, value, spread, unit, met }) => {
      const { subject, of, measure } = target;
      const what = of === null ? `${subject}: ${measure}` : `${subject} / ${of}, ${measure}`;
      const verdict = met === null ? '' : met ? 'met' : '**missed**';
      const between = spread === null ? '' : ` <sub>${quoted(spread.min)} to ${quoted(spread.max)}</sub>`;
      const text = `${quoted(value)}${unit && ` ${unitText(unit)}`}${between}`;
      return `| ${what} | ${text} | ${targetText(target, unitText(unit))} | ${verdict} |`;
    }),
  ].join('\n');
}

/** What a figure is worth nothing without: when, on what, how, with which versions, and who is missing. */
function provenance({ takenAt, machine, conditions, madeOf, leftOut }: Results): string {
  const { processor, cores, memoryGib, system, node } = machine;
  const lines = [
    `- ${takenAt.slice(0, 10)}; ${processor}, ${cores} cores, ${memoryGib} GiB; ${system}; Node ${node}`,
    ...Object.entries(conditions).map(([what, value]) => `- ${what}: ${shown(value)}`),
    ...Object.entries(madeOf).map(([name, what]) => `- ${name}: ${what}`),
    ...leftOut.map(({ name, why }) => `- **left out**: ${name}: ${why}`),
  ];
  return `<details><summary>Machine, conditions and versions</summary>\n\n${lines.join('\n')}\n\n</details>`;
}

function shown(value: string | number): string {
  return typeof value === 'number' ? value.toLocaleString('en') : value;
}

if (import.meta.main) writeReport();
