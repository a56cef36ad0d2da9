import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const ROOT = join(import.meta.dirname, '..');
/** How long a program may take to listen. */
const START_MS = 30_000;
/** How long a program may take to stop before it is killed. */
const STOP_MS = 10_000;

/** Whether processes can be kept to one core each, so that they do not take time from each other. */
export const PIN = existsSync('/usr/bin/taskset') && availableParallelism() > 1;

/** A core by its number, or several as taskset(1) lists them. */
export type Cores = number | string;

export type Running = { child: ChildProcess; url: string };

const alive = new Set<ChildProcess>();
const folders = new Set<string>();
// Whatever ends the run, also Ctrl-C or a failure, nothing it started outlives it.
process.on('exit', () => {
  for (const child of alive) killTree(child);
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder of its own, removed at the end of the run. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-bench-'));
  folders.add(folder);
  return folder;
}

/** Starts a program of the project on a core, and waits for the address it says it listens on. */
export async function start(
  args: string[],
  env: Record<string, string>,
  core: Cores,
  started: ChildProcess[],
): Promise<Running> {
  const child = onCore(core, [process.execPath, ...args], env);
  started.push(child);
  let printed = '';
  let url: string | undefined;
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on('data', (chunk) => {
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

/**
 * Starts any program on a core and waits until it accepts connections on a port of the loopback address.
 *
 * @param command the program and its arguments; `node` is the Node that runs the benchmark
 */
export async function startServer(
  [program = '', ...args]: string[],
  port: number,
  core: Cores,
  started: ChildProcess[],
): Promise<ChildProcess> {
  const child = onCore(core, [program === 'node' ? process.execPath : program, ...args], {});
  started.push(child);
  child.stdout?.resume();
  const giveUp = Date.now() + START_MS;
  while (!(await accepts(port))) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`${program} ${args.join(' ')} ended with ${child.exitCode ?? child.signalCode}`);
    if (Date.now() > giveUp) throw new Error(`${program} ${args.join(' ')} does not listen on port ${port}`);
    await pause(20);
  }
  return child;
}

/** Asks a program to stop and waits for its end. */
export async function stop(child: ChildProcess): Promise<void> {
  if (!alive.has(child)) return;
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(killTree, STOP_MS, child);
  await closed;
  clearTimeout(timer);
}

/** Runs a program of the project on a core to its end; the JSON it prints. */
export async function run<T>(args: string[], core: number): Promise<T> {
  return JSON.parse(await output([process.execPath, ...args], core)) as T;
}

/** Runs any program on a core to its end; what it prints. @throws Error when it does not end with 0 */
export async function output(command: string[], core: number): Promise<string> {
  const [program, ...args] = pinned(core, command);
  const options = { cwd: ROOT, maxBuffer: 64 * 1024 * 1024 };
  const running = promisify(execFile)(program, args, options);
  alive.add(running.child);
  running.child.once('close', () => alive.delete(running.child));
  return (await running).stdout;
}

/** Processor time that programs and all their children have used so far, microseconds; to 10 ms. Linux only. */
export function cpuMicroseconds(children: readonly ChildProcess[]): number {
  let ticks = 0;
  for (const child of children) {
    for (const pid of tree(child.pid as number)) {
      const [, user, system] = statOf(pid);
      ticks += user + system;
    }
  }
  // USER_HZ is 100 on every Linux that Node runs on.
  return ticks * 10_000;
}

/** Memory that a program and its children hold right now, bytes. Linux only. */
export function residentBytes(child: ChildProcess): number {
  let pages = 0;
  for (const pid of tree(child.pid as number)) {
    pages += Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]);
  }
  return pages * 4096;
}

function onCore(core: Cores, command: string[], env: Record<string, string>): ChildProcess {
  const [program, ...args] = pinned(core, command);
  const child = spawn(program, args, {
    cwd: ROOT,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  alive.add(child);
  child.once('close', () => alive.delete(child));
  child.once('error', () => alive.delete(child));
  return child;
}

function pinned(core: Cores, command: string[]): [string, ...string[]] {
  return (PIN ? ['taskset', '-c', String(core), ...command] : command) as [string, ...string[]];
}

async function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function tree(pid: number): number[] {
  const file = `/proc/${pid}/task/${pid}/children`;
  const children = existsSync(file) ? readFileSync(file, 'latin1').trim() : '';
  return [pid, ...(children === '' ? [] : children.split(' ').flatMap((child) => tree(Number(child))))];
}

/** `[comm, utime, stime]` of proc_pid_stat(5), in ticks. The name may hold spaces, so what follows it is counted. */
function statOf(pid: number): [string, number, number] {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return [text.slice(0, text.lastIndexOf(')')), Number(fields[11]), Number(fields[12])];
}

function killTree(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  for (const pid of tree(child.pid)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself meanwhile.
    }
  }
}
