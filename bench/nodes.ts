import type { ChildProcess } from 'node:child_process';
import { freePort } from '../scripts/free-port.ts';
import { missingProgram, programFile } from './contenders/contender.ts';
import { SERVER_SECRET } from './keys.ts';
import { type Cores, type Running, start, startServer } from './processes.ts';

/** A gateway as one of several. */
export type Node = Running & { internalUrl: string };

/** Starts gateways that share what `env` names: a keystore, a Redis. Keys are hashed at the least cost there is. */
export async function startNodes(
  count: number,
  env: Record<string, string>,
  cores: Cores,
  started: ChildProcess[],
): Promise<Node[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const internalPort = await freePort();
      const own = {
        TOLLGATE_SECRET: SERVER_SECRET,
        KEY_HASH: 'm=8,t=1,p=1',
        ROUTES_FILE: 'off',
        GATEWAY_PORT: String(await freePort()),
        INTERNAL_PORT: String(internalPort),
      };
      const running = await start(['gateway/main.ts'], { ...env, ...own }, cores, started);
      return { ...running, internalUrl: `http://127.0.0.1:${internalPort}` };
    }),
  );
}

/** Why there is no Redis to be had here; `null`: there is. */
export const REDIS_MISSING = missingProgram('redis-server');

/** A Redis of a benchmark's own. Keeps nothing on disk. */
export async function startRedisServer(
  folder: string,
  cores: Cores,
  started: ChildProcess[],
): Promise<{ url: string; port: number; child: ChildProcess }> {
  const port = await freePort();
  const child = await startRedisAt(port, folder, cores, started);
  return { url: `redis://127.0.0.1:${port}`, port, child };
}

/** As {@link startRedisServer}, at a port. */
export function startRedisAt(
  port: number,
  folder: string,
  cores: Cores,
  started: ChildProcess[],
): Promise<ChildProcess> {
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder];
  return startServer([programFile('redis-server') as string, ...args], port, cores, started);
}
