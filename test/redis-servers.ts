import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { TestContext } from 'vitest';
import { freePort } from '../scripts/free-port.ts';
import { temporaryFolder } from './keystores.ts';

/** A Redis of a test's own, which it may do to as it likes. */
export type TestRedis = {
  url: string;
  port: number;
  /** A connection past the gateway. */
  client: Redis;
  /** It hangs: connections stand, and nothing is answered. */
  suspend(): void;
  resume(): void;
  kill(): Promise<void>;
  /** After {@link kill}: empty, at the same address. */
  restart(): Promise<void>;
  close(): Promise<void>;
};

const isInstalled = spawnSync('redis-server', ['--version']).status === 0;

/** For `beforeEach`: skips a test that needs Redis where it is not installed. */
export function needsRedis({ skip }: Pick<TestContext, 'skip'>): void {
  if (!isInstalled) skip('redis-server is not installed');
}

/**
 * @param options.alsoAt another address to listen at
 * @param options.cluster whether it is a cluster, of one node, which takes only scripts whose keys are all in one slot
 */
export async function startRedis({ cluster = false, alsoAt = '' } = {}): Promise<TestRedis> {
  const port = await freePort();
  // By itself it takes one 10,000 above its own, which may be anybody's.
  const busPort = cluster ? await freePort() : 0;
  const folder = temporaryFolder();
  let child: ChildProcess;
  const begin = async () => {
    const args = ['--port', String(port), '--save', '', '--dir', folder, '--bind', '127.0.0.1'];
    if (alsoAt !== '') args.push(alsoAt, '--protected-mode', 'no');
    if (cluster) args.push('--cluster-enabled', 'yes', '--cluster-port', String(busPort));
    child = spawn('redis-server', args, { stdio: 'ignore' });
    await until(() => client.status === 'ready' || child.exitCode !== null);
    if (child.exitCode !== null)
      throw new Error(`redis-server ${args.join(' ')} ended with ${child.exitCode}`);
    if (!cluster) return;
    await client.call('cluster', 'addslotsrange', '0', '16383');
    while (!/cluster_state:ok/.test(String(await client.call('cluster', 'info')))) await pause(20);
  };
  const client = new Redis(port, { retryStrategy: () => 20, maxRetriesPerRequest: null });
  client.on('error', () => {});
  const kill = async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGCONT');
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await ended;
    await until(() => client.status !== 'ready');
  };
  await begin();
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    client,
    suspend: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    kill,
    restart: begin,
    async close() {
      client.disconnect();
      child.kill('SIGCONT');
      child.kill('SIGKILL');
    },
  };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(5);
}
