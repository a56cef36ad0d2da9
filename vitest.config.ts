import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
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

export default defineConfig({
  test: {
    exclude: ['**/node_modules/**', 'data/**'],
    globalSetup: ['test/temporary-folders.ts'],
    setupFiles: ['test/replay.ts'],
    // Most tests wait for a process or a browser of their own rather than compute.
    maxWorkers: Math.max(3, availableParallelism()),
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['default', new SummaryReporter()],
    projects: [
      { extends: true, test: { name: 'all', include: ['**/*.test.ts'] } },
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
