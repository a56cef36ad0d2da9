import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { nginxStatic } from './contenders/nginx.ts';
import { tollgateFastLane } from './contenders/tollgate.ts';
import { report } from './report.ts';
import { type Figure, type Results, readResults } from './results.ts';

function results(bench: string, figures: Figure[], more: Partial<Results> = {}): Map<string, Results> {
  const found: Results = {
    bench,
    takenAt: '2026-11-21T10:00:00.000Z',
    quick: false,
    machine: { processor: 'a processor', cores: 3, memoryGib: 5, system: 'Linux 7', node: 'v26' },
    figures,
    conditions: { connections: 61 },
    madeOf: { [nginxStatic.name]: 'nginx 9.8.7' },
    leftOut: [{ name: 'somebody', why: 'not installed' }],
    ...more,
  };
  return new Map([[bench, found]]);
}

const rate = (subject: string, runs: number[]): Figure => ({
  subject,
  measure: 'requests a second',
  unit: '/s',
  runs,
});

it('docs/performance.md and its chart are what bench/results gives', () => {
  const found = readResults();
  if (found.size === 0) expect(existsSync('docs/performance.md'), 'a report of no results').toBe(false);
  else
    for (const [file, text] of Object.entries(report(found)))
      expect(readFileSync(`docs/${file}`, 'utf8'), `docs/${file}: run node bench/report.ts`).toBe(text);
});

it('shows medians with their spread, in the table and in the chart', () => {
  const files = report(results('gateway', [rate(nginxStatic.name, [40_100, 52_300, 41_200])]));
  expect(files['performance.md']).toContain(
    `| ${nginxStatic.name} | 41,200 /s <sub>40,100 to 52,300</sub> |`,
  );
  expect(files['performance.svg']).toContain('41,200 /s');
});

it('sets a ratio beside its aim, and says when it is missed', () => {
  const both = (own: number) =>
    report(results('gateway', [rate(nginxStatic.name, [50_000]), rate(tollgateFastLane.name, [own])]))[
      'performance.md'
    ];
  expect(both(45_000)).toMatch(/\| 0\.90 \| at least 0\.8 \| met \|/);
  expect(both(35_000)).toMatch(/\| 0\.70 \| at least 0\.8 \| \*\*missed\*\* \|/);
});

it('takes a ratio round by round, and shows how far the rounds are apart', () => {
  // Of medians it would be 1.
  const both = [
    rate(nginxStatic.name, [20_000, 50_000, 80_000]),
    rate(tollgateFastLane.name, [50_000, 30_000, 64_000]),
  ];
  expect(report(results('gateway', both))['performance.md']).toContain(
    '| 0.80 <sub>0.60 to 2.50</sub> | at least 0.8 | met |',
  );
});

it('names machine, conditions, versions and who is missing', () => {
  const text = report(results('gateway', [rate(nginxStatic.name, [1])]))['performance.md'];
  for (const part of [
    '2026-11-21',
    'a processor, 3 cores',
    'connections: 61',
    'nginx 9.8.7',
    'somebody: not',
  ])
    expect(text).toContain(part);
});

it('leaves out what was not measured', () => {
  const text = report(results('memory', [{ subject: 'x', measure: 'm', unit: 'MiB', runs: [7] }]));
  expect(Object.keys(text)).toEqual(['performance.md']);
  expect(text['performance.md']).toContain('## Memory');
  expect(text['performance.md']).not.toContain('## Full load');
});
