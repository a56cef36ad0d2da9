import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/longest-first.ts';
import { SummaryReporter } from './test/summary-reporter.ts';

/** Tests of what a proxy meets: they run a second time, with the fast lane on, where they do not see to that themselves. */
const SITUATIONS = [
  'bodies',
  'client-leaves',
  'forwarding',
  'hostile-and-unlucky',
  'interim-answers',
  'limits-over-http',
  'listener',
  'long-lived',
  'odd-upstreams',
  'pipeline',
  'retries',
  'slow-readers',
  'stop',
];

const NOT_OURS = ['**/node_modules/**', 'data/**'];

/** Puts a module of the gateway under observation, which must not be loaded already. */
const ALONE = ['gateway/routes/many-routes.test.ts'];

export default defineConfig({
  test: {
    exclude: NOT_OURS,
    globalSetup: ['test/temporary-folders.ts'],
    setupFiles: ['test/replay.ts'],
    sequence: { sequencer: LongestFirst },
    // The files share processes: loading what they all need takes longer than most of them run.
    isolate: false,
    // Most tests wait for a process or a browser of their own rather than compute.
    maxWorkers: Math.max(3, availableParallelism()),
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['default', new SummaryReporter()],
    projects: [
      { extends: true, test: { name: 'all', include: ['**/*.test.ts'], exclude: [...NOT_OURS, ...ALONE] } },
      { extends: true, test: { name: 'alone', include: ALONE, isolate: true } },
      {
        extends: true,
        test: {
          name: 'fast lane',
          include: SITUATIONS.map((name) => `gateway/situations/${name}.test.ts`),
          env: { TEST_FAST_LANE: 'on' },
        },
      },
    ],
  },
});
