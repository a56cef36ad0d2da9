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

/**
 * Starts a program with these environment variables and no others but PATH and where the test run keeps its files.
 *
 * @param within the command that runs it, such as `ip netns exec name`; none when empty
 * @param input what it reads on its standard input
 */
export function startProgram(
  script: string,
  env: Record<string, string> = {},
  args: string[] = [],
  within: string[] = [],
  input?: string,
): RunningProgram {
  const [command = '', ...rest] = [...within, process.execPath, join(ROOT, script), ...args];
  const child = spawn(command, rest, {
    // Not the project's own folder: a developer's .env must not reach the tests.
    cwd: WORKING_FOLDER,
    env: { PATH, TMPDIR, NODE_COMPILE_CACHE, PLANS_FILE: join(ROOT, 'plans.yaml'), ...env },
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  child.stdin?.end(input);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      text += chunk;
    });
  }
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
  within: string[] = [],
): Promise<RunningProgram> {
  const program = startProgram(script, env, args, within);
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

/** Runs a program to its end. @param input what it reads from standard input */
export async function runProgram(
  script: string,
  env: Record<string, string> = {},
  args: string[] = [],
  input?: string,
): Promise<{ code: number | null; output: string }> {
  const program = startProgram(script, env, args, [], input);
  const code = await program.ended;
  return { code, output: program.output() };
}

/** What a piece of JavaScript prints in a process of its own. */
export async function printedBy(script: string): Promise<string> {
  const child = spawn(process.execPath, ['-e', script], { env: {} });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output += chunk;
  });
  await new Promise((resolve) => child.on('close', resolve));
  return output;
}
