import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Closes a run with what was skipped and why, and with one plain line of counts. In CI a skipped test is a failure. */
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
    if (skipped.length > 0 && process.env.CI) {
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
