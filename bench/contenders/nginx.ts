import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port.ts';
import { type Cores, startServer } from '../processes.ts';
import {
  type Contender,
  debianVersion,
  FOLDER,
  filledIn,
  missingProgram,
  programFile,
  type Setup,
  type StartedContender,
} from './contender.ts';

/** A limit no benchmark reaches is a rate in seconds; a small one has to be counted by the minute. */
const RATES = (perKey: number) =>
  perKey < 1000
    ? { rate: `${perKey}r/m`, burst: perKey - 1 }
    : { rate: `${Math.min(1_000_000, perKey)}r/s`, burst: 1_000_000 };

export const nginxStatic: Contender = {
  name: 'nginx, static key map + limit_req',
  works: true,
  madeOf: () => `nginx ${debianVersion('nginx')}; keys in plain text in its map`,
  missing: () => missingProgram('nginx'),
  start: (setup) => startGuard('nginx-static.conf', setup, { keys: setup.keys.nginxMapFile }),
};

export const nginxLua: Contender = {
  name: 'nginx + Lua, SHA-256 keys in a shared dict',
  works: true,
  madeOf: () =>
    `nginx ${debianVersion('nginx')}, libnginx-mod-http-lua ${debianVersion('libnginx-mod-http-lua')}; SHA-256 of libcrypto through LuaJIT's ffi, as resty.sha256 has it`,
  missing: () =>
    missingProgram('nginx', 'nginx libnginx-mod-http-lua') ??
    (existsSync('/usr/lib/nginx/modules/ngx_http_lua_module.so')
      ? null
      : "nginx's Lua module is not installed: apt-get install -y libnginx-mod-http-lua"),
  start: (setup) =>
    startGuard('nginx-lua.conf', setup, {
      keys: setup.keys.pairFile,
      limit: setup.perKey,
      contenders: FOLDER,
    }),
};

export const nginxAuthRequest: Contender = {
  name: 'nginx + auth_request, not cached',
  works: true,
  madeOf: () => `nginx ${debianVersion('nginx')}; a verifier of plain node:http that also counts`,
  missing: () => missingProgram('nginx'),
  start: (setup) => startWithVerifier('nginx-auth-request.conf', setup),
};

export const nginxAuthRequestCached: Contender = {
  name: 'nginx + auth_request, answers cached',
  works: true,
  madeOf: () =>
    `nginx ${debianVersion('nginx')}; the same verifier, its answers cached for a minute, limit_req counts`,
  missing: () => missingProgram('nginx'),
  start: (setup) => startWithVerifier('nginx-auth-request-cached.conf', setup),
};

async function startWithVerifier(config: string, setup: Setup): Promise<StartedContender> {
  const port = await freePort();
  const verifier = await startServer(
    ['node', join(FOLDER, 'verifier.js'), String(port), setup.keys.pairFile, String(setup.perKey)],
    port,
    setup.core,
    setup.started,
  );
  const guard = await startGuard(config, setup, { verifier: `127.0.0.1:${port}`, verifierPath: '/' });
  return { url: guard.url, processes: [...guard.processes, verifier] };
}

/** Starts nginx with one of the configurations here, which gets what it asks for beside what all of them need. */
export async function startGuard(
  config: string,
  setup: Setup,
  values: Record<string, string | number>,
): Promise<StartedContender> {
  const port = await freePort();
  const child = await startNginx(
    filledIn(config, {
      ...nginxValues(setup.folder, port),
      ...RATES(setup.perKey),
      upstream: setup.upstream,
      ...values,
    }),
    setup.folder,
    port,
    setup.core,
    setup.started,
  );
  return { url: `http://127.0.0.1:${port}`, processes: [child] };
}

/** What every nginx configuration of the benchmarks asks for. */
export function nginxValues(folder: string, port: number): Record<string, string | number> {
  // Started as root, its workers would change to a user who may not read the folder.
  return { folder, port, user: process.getuid?.() === 0 ? 'user root;' : '' };
}

/** Starts nginx in the foreground, without anything of the machine's own configuration. */
export async function startNginx(
  config: string,
  folder: string,
  port: number,
  core: Cores,
  started: ChildProcess[],
): Promise<ChildProcess> {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, config);
  const program = programFile('nginx') as string;
  const command = [program, '-p', folder, '-c', file, '-g', 'daemon off;'];
  return startServer(command, port, core, started);
}
