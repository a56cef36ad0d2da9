import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const WORKING_FOLDER = mkdtempSync(join(tmpdir(), 'tollgate-test-'));

/** A program of the project in a process of its own. */
export type RunningProgram = {
  child: ChildProcess;
  /** What it has printed so far, both streams. */
  output(): string;
  /** Sends a signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  /** The exit code, once it has ended; `null` when a signal ended it. */
  ended: Promise<number | null>;
};

/** Of the test run, where it is of use to a program that is started: see temporary-folders.ts. */
const { PATH, TMPDIR, NODE_COMPILE_CACHE } = process.env;

/** Starts a program with these environment variables and no others but PATH and where the test run keeps its files. */
export function startProgram(
  script: string,
  env: Record<string, string> = {},
  args: string[] = [],
): RunningProgram {
  const child = spawn(process.execPath, [join(ROOT, script), ...args], {
    // Not the project's own folder: a developer's .env must not reach the tests.
    cwd: WORKING_FOLDER,
    env: { PATH, TMPDIR, NODE_COMPILE_CACHE, PLANS_FILE: join(ROOT, 'plans.yaml'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  child.stderr.on('data', (chunk) => {
    text += chunk;
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
  return {
    child,
    output: () => text,
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      return ended;
    },
    ended,
  };
}

/** As {@link startProgram}, once it has printed `sign`. @throws Error with its output when it ends before that */
export async function startProgramUntil(
  sign: RegExp,
  script: string,
  env: Record<string, string> = {},
  args: string[] = [],
): Promise<RunningProgram> {
  const program = startProgram(script, env, args);
  await new Promise<void>((resolve, reject) => {
    const look = () => {
      if (sign.test(program.output())) resolve();
    };
    program.child.stdout?.on('data', look);
    program.child.stderr?.on('data', look);
    void program.ended.then((code) =>
      reject(new Error(`${script} ended with ${code}:\n${program.output()}`)),
    );
  });
  return program;
}

/** Runs a program to its end. */
export async function runProgram(
  script: string,
  env: Record<string, string> = {},
  args: string[] = [],
): Promise<{ code: number | null; output: string }> {
  const program = startProgram(script, env, args);
  const code = await program.ended;
  return { code, output: program.output() };
}
