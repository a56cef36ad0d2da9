import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../scripts/free-port.ts';
import { closeLater } from './gateways.ts';
import { temporaryFolder } from './keystores.ts';

export const PROXIES = ['nginx', 'Caddy', 'HAProxy'] as const;
export type ProxyName = (typeof PROXIES)[number];

/** Ports that a configuration is written for; in `docs/forward-auth.md` they are 8080, 8013 and 3000. */
export type ProxyPorts = { tollgate: number; api: number };

/** A proxy that runs with the configuration of the documentation. */
export type RunningProxy = {
  url: string;
  port: number;
  /** What it has printed. */
  output(): string;
};

const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'];

/** The proxy's program on this machine; `undefined` when there is none. */
export function findProxy(name: ProxyName): string | undefined {
  return FOLDERS.map((folder) => join(folder, name.toLowerCase())).find((path) => existsSync(path));
}

const DOCUMENT = readFileSync(join(import.meta.dirname, '../docs/forward-auth.md'), 'utf8');

/** The fenced blocks of a language in the document, as they are to be pasted. */
export function documented(language: string): string[] {
  const fences = new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms');
  return [...DOCUMENT.matchAll(fences)].map(([, block]) => block as string);
}

/** Starts a proxy on a free port, with what the document says and nothing changed in it but the ports. */
export async function startProxy(
  name: ProxyName,
  ports: ProxyPorts,
  { cached = false } = {},
): Promise<RunningProxy> {
  const folder = temporaryFolder();
  const port = await freePort();
  const own = (text: string) =>
    text
      .replaceAll('127.0.0.1:8013', `127.0.0.1:${ports.tollgate}`)
      .replaceAll('127.0.0.1:3000', `127.0.0.1:${ports.api}`)
      .replace(/\b8080\b/, `${port}`);
  const args = ARGUMENTS[name](folder, own, cached);
  const child = spawn(findProxy(name) as string, args, {
    cwd: folder,
    env: { PATH: process.env.PATH, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  closeLater({
    close: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  });
  await listening(child, port, () => output);
  return { url: `http://127.0.0.1:${port}`, port, output: () => output };
}

/** Writes what each needs to run unprivileged in a folder of its own; returns the arguments to start it with. */
const ARGUMENTS: Record<
  ProxyName,
  (folder: string, own: (text: string) => string, cached: boolean) => string[]
> = {
  nginx(folder, own, cached) {
    let [server = '', cachePath = '', cacheUse = ''] = documented('nginx');
    if (cached) {
      server = `${cachePath.replace('/dev/shm/tollgate', join(folder, 'cache'))}\n${server}`;
      server = server.replace(/(location = \/_tollgate \{\n)/, `$1${cacheUse}`);
    }
    mkdirSync(join(folder, 'logs'));
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((kind) => `${kind}_temp_path ${join(folder, kind)};`)
      .join('\n');
    const file = join(folder, 'nginx.conf');
    const user = userInfo().uid === 0 ? 'user root;' : '';
    writeFileSync(
      file,
      `daemon off;\nmaster_process off;\n${user}\npid ${join(folder, 'pid')};\nerror_log stderr warn;\nevents {}\nhttp {\naccess_log off;\n${temporary}\n${own(server)}\n}\n`,
    );
    return ['-p', folder, '-c', file, '-e', 'stderr'];
  },
  Caddy(folder, own) {
    const [site = ''] = documented('caddyfile');
    const file = join(folder, 'Caddyfile');
    writeFileSync(file, `{\n\tadmin off\n\tauto_https off\n}\n${own(site)}`);
    return ['run', '--config', file, '--adapter', 'caddyfile'];
  },
  HAProxy(folder, own) {
    const [config = ''] = documented('haproxy');
    const [script = ''] = documented('lua');
    const file = join(folder, 'haproxy.cfg');
    writeFileSync(join(folder, 'tollgate.lua'), own(script));
    writeFileSync(file, own(config).replace('/etc/haproxy/tollgate.lua', join(folder, 'tollgate.lua')));
    return ['-db', '-f', file];
  },
};

/** Waits until somebody accepts connections there. @throws Error with the program's output when it ended instead */
async function listening(child: ChildProcess, port: number, output: () => string): Promise<void> {
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended:\n${output()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
