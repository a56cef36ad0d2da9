import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/longest-first.ts';
import { SummaryReporter } from './test/summary-reporter.ts';

/** Tests of what a proxy meets run a second time, with the fast lane on, but for these, which set it themselves. */
const SETTING_THE_LANE = [
  'answered-requests-are-let-go',
  'cors',
  'many-at-once',
  'queue-is-bounded',
  'route-policies',
  'smuggling',
  'two-servers-share-the-load',
  'upstream-that-dies',
  'upstream-timeouts',
];

/** Tests of the keystore, whatever it is kept in: they run a second time on PostgreSQL. */
const KEYSTORE = [
  'backup-record',
  'change-feed',
  'console-users',
  'copy',
  'customers',
  'devices',
  'event-inbox',
  'event-types',
  'income',
  'key-overrides',
  'key-records',
  'key-standings',
  'keys',
  'keystore',
  'meta',
  'payments',
  'purchases',
  'recoveries',
  'refusals',
  'second-factor',
  'subscriptions',
  'traffic',
  'trials',
  'usage-ledger',
];

/** Tests of several processes on one keystore: so do they. */
const SEVERAL_PROCESSES = [
  'change-reaches-another-process',
  'quota-across-gateways',
  'rotated-keys-share-limits',
  'two-processes-provision-one-session',
];

const NOT_OURS = ['**/node_modules/**', 'data/**'];

/** Puts a module of the gateway under observation, which must not be loaded already. */
const ALONE = ['gateway/routes/many-routes.test.ts'];

/** These files, none of which has gone by another name since. @throws Error when one is not there */
function present(files: string[]): string[] {
  const missing = files.find((file) => !existsSync(join(import.meta.dirname, file)));
  if (missing) throw new Error(`vitest.config.ts names ${missing}, which is not there`);
  return files;
}

export default defineConfig({
  test: {
    exclude: NOT_OURS,
    globalSetup: ['test/temporary-folders.ts', 'test/postgres-database.ts'],
    setupFiles: ['test/replay.ts', 'test/patience.ts'],
    sequence: { sequencer: LongestFirst },
    // The files share processes: loading what they all need takes longer than most of them run.
    isolate: false,
    // Most tests wait for a process or a browser of their own rather than compute; in CI, where they do more, less so.
    maxWorkers: Math.max(process.env.CI ? 3 : 4, availableParallelism()),
    // Some start twenty programs one after the other, and a machine may be five times as slow as another. What is wrong shows
    // at once: a test that says how long it waits says that it is to be so quick.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    expect: { poll: { timeout: 120_000 } },
    reporters: ['default', new SummaryReporter()],
    projects: [
      { extends: true, test: { name: 'all', include: ['**/*.test.ts'], exclude: [...NOT_OURS, ...ALONE] } },
      { extends: true, test: { name: 'alone', include: ALONE, isolate: true } },
      {
        extends: true,
        test: {
          name: 'postgres',
          include: [
            ...present(KEYSTORE.map((name) => `keystore/${name}.test.ts`)),
            ...present(SEVERAL_PROCESSES.map((name) => `test/${name}.test.ts`)),
          ],
          env: { TEST_KEYSTORE: 'postgres' },
        },
      },
      {
        extends: true,
        test: {
          name: 'fast lane',
          include: ['gateway/situations/*.test.ts'],
          exclude: SETTING_THE_LANE.map((name) => `gateway/situations/${name}.test.ts`),
          env: { TEST_FAST_LANE: 'on' },
        },
      },
    ],
  },
});
