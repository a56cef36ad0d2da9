import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const ROOT = join(import.meta.dirname, '..');

/** Whether processes can be kept to one core each, so that they do not take time from each other. */
export const PIN = existsSync('/usr/bin/taskset');

export type Running = { child: ChildProcess; url: string };

/** Starts a program of the project on a core, and waits for the address it says it listens on. */
export async function start(
  args: string[],
  env: Record<string, string>,
  core: number,
  started: ChildProcess[],
): Promise<Running> {
  const [command, ...rest] = onCore(core, args);
  const child = spawn(command, rest, {
    cwd: ROOT,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  started.push(child);
  let printed = '';
  let url: string | undefined;
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      // What comes after the address is read too, so that the program never waits for a reader.
      if (url) return;
      printed += chunk;
      url = /listen\w* (?:at |on )?(http:\/\/[^\s,]+)/i.exec(printed)?.[1];
      if (url) resolve();
    });
    child.on('close', (code) => reject(new Error(`${args[0]} ended with ${code}: ${printed}`)));
  });
  return { child, url: url as unknown as string };
}

/** Runs a program of the project on a core to its end; the JSON it prints. */
export async function run<T>(args: string[], core: number): Promise<T> {
  const [command, ...rest] = onCore(core, args);
  const { stdout } = await promisify(execFile)(command, rest, { cwd: ROOT });
  return JSON.parse(stdout) as T;
}

function onCore(core: number, args: string[]): [string, ...string[]] {
  return PIN ? ['taskset', '-c', String(core), process.execPath, ...args] : [process.execPath, ...args];
}
