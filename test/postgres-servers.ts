import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import type { TestContext } from 'vitest';
import { freePort } from '../scripts/free-port.ts';
import { temporaryFolder } from './keystores.ts';

/** A PostgreSQL of a test's own, which it may do to as it likes. */
export type TestPostgres = {
  /** The address of a keystore in it. */
  url: string;
  /** It hangs, with all its connections: they stand, and nothing is answered. */
  suspend(): void;
  resume(): void;
  /** As if its machine had lost power. */
  kill(): Promise<void>;
  /** After {@link kill}: with what was committed. */
  restart(): Promise<void>;
  close(): Promise<void>;
};

/** Debian keeps the programs of each version in a folder of its own. */
const BIN = (() => {
  const root = '/usr/lib/postgresql';
  const version = existsSync(root) ? readdirSync(root).sort().at(-1) : undefined;
  return version === undefined ? null : join(root, version, 'bin');
})();

/** Why there is no PostgreSQL of one's own to be had here; `null`: there is. */
export const POSTGRES_MISSING =
  BIN === null ? 'the PostgreSQL server is not installed (apt-get install -y postgresql)' : null;

/** For `beforeEach`: skips a test that needs a PostgreSQL of its own where none is installed. */
export function needsOwnPostgres({ skip }: Pick<TestContext, 'skip'>): void {
  if (POSTGRES_MISSING !== null) skip(POSTGRES_MISSING);
}

export async function startPostgres(): Promise<TestPostgres> {
  const bin = BIN as string;
  const port = await freePort();
  const folder = temporaryFolder();
  // It does not run as root.
  const user = process.getuid?.() === 0 ? userNamed('postgres') : undefined;
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  chmodSync(folder, 0o700);
  const data = join(folder, 'data');
  const made = spawnSync(join(bin, 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-N'], {
    ...user,
    cwd: folder,
  });
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
  let child: ChildProcess;
  const begin = async () => {
    // What a killed server wrote is with the system; only a machine that loses power would lose it.
    const args = ['-D', data, '-p', String(port), '-h', '127.0.0.1', '-k', folder, '-c', 'fsync=off'];
    child = spawn(join(bin, 'postgres'), args, { ...user, cwd: folder, stdio: 'ignore', detached: true });
    while (!(await answers(port))) await pause(20);
  };
  /** The server and a process for each connection. */
  const signal = (name: NodeJS.Signals) => {
    for (const pid of [child.pid as number, ...childrenOf(child.pid as number)]) {
      try {
        process.kill(pid, name);
      } catch {
        // It ended meanwhile.
      }
    }
  };
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    signal('SIGKILL');
    await ended;
  };
  await begin();
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    suspend: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
    kill,
    restart: begin,
    close: kill,
  };
}

function userNamed(name: string): { uid: number; gid: number } {
  const id = (flag: string) => Number(spawnSync('id', [flag, name], { encoding: 'utf8' }).stdout);
  return { uid: id('-u'), gid: id('-g') };
}

function childrenOf(pid: number): number[] {
  const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' });
  return stdout.trim().split(/\s+/).filter(Boolean).map(Number);
}

async function answers(port: number): Promise<boolean> {
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}
