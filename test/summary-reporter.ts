import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** How the reason of a test begins that compares with reference data which a clone need not have beside it. */
export const NOT_PART_OF_THE_PROJECT = 'reference data that is not part of the project';

/**
 * Closes a run with what was skipped and why, and with one plain line of counts. In CI a skipped test is a failure, unless
 * it lacks nothing but that reference data.
 */
export class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const count = (state: string) => tests.filter((test) => test.result().state === state).length;
    const brokenModules = modules.filter(
      (module) => module.state() === 'failed' && !someTestFailed(module),
    ).length;
    const skipped = tests.filter((test) => test.result().state === 'skipped');
    for (const test of skipped)
      console.log(`Skipped: ${test.module.relativeModuleId} > ${test.fullName}: ${reason(test)}`);
    if (process.env.CI && skipped.some((test) => !reason(test).startsWith(NOT_PART_OF_THE_PROJECT))) {
      console.log('In CI nothing may be skipped.');
      process.exitCode = 1;
    }
    const failed = count('failed') + brokenModules + unhandledErrors.length;
    console.log(
      `\n${count('passed')} passed, ${failed} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}`,
    );
  }
}

function someTestFailed(module: TestModule): boolean {
  return [...module.children.allTests('failed')].length > 0;
}

function reason(test: TestCase): string {
  const result = test.result();
  return (result.state === 'skipped' && result.note) || 'no reason given';
}
