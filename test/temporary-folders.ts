import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Gives a test run one folder for all that it leaves behind, and removes it in the end. What is compiled lies there, too: a
 * program that is started again and again is compiled once.
 */
export function setup(): void {
  process.env.TMPDIR = mkdtempSync(join(tmpdir(), 'tollgate-tests-'));
  // A database that does not run as root comes through to the folder that is its own.
  chmodSync(process.env.TMPDIR, 0o711);
  process.env.NODE_COMPILE_CACHE = join(process.env.TMPDIR, 'compiled');
}

export function teardown(): void {
  rmSync(process.env.TMPDIR as string, { recursive: true, force: true });
}
