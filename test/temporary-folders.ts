import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Gives a test run one folder for all that it leaves behind, and removes it in the end. */
export function setup(): void {
  process.env.TMPDIR = mkdtempSync(join(tmpdir(), 'tollgate-tests-'));
}

export function teardown(): void {
  rmSync(process.env.TMPDIR as string, { recursive: true, force: true });
}
