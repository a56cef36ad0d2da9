import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openKeystore } from '../keystore/keystore.ts';
import { freePort } from '../scripts/free-port.ts';
import { createLogger } from '../shared/log.ts';
import { measured, row } from './statistics.ts';

const STORED = 100_000;
/** Keys in use while 100,000 are stored. */
const IN_USE = 1000;
const ROUNDS = 5;
const SECONDS = 4;
const SECRET = 'YmVuY2htYXJrIHNlY3JldCwgbm90IHVzZWQgYW55d2hlcmUgZWxzZQ==';
const ROOT = join(import.meta.dirname, '..');
/** The measured process has a core of its own; load and upstream share the other. */
const PIN = existsSync('/usr/bin/taskset');

type Running = { child: ChildProcess; url: string };

/**
 * Requests a second through the gateway to the demo API with 1 and with 100,000 keys in the store, beside a bare
 * node:http and undici pass-through in the same rounds. Each run has fresh processes; a wrong answer fails the run.
 */
export async function benchGateway(): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-bench-'));
  const started: ChildProcess[] = [];
  try {
    const plans = join(folder, 'plans.yaml');
    writeFileSync(
      plans,
      'plans: { bench: { name: Bench, limits: [{ requests: 1000000000, per: minute }] } }\n',
    );
    const one = await seed(folder, 'one', 1, 1);
    const many = await seed(folder, 'many', STORED, IN_USE);
    const upstream = await start(['bench/upstream.ts'], {}, 1, started);
    const results = {
      one: { bare: [] as number[], gateway: [] as number[] },
      many: { bare: [] as number[], gateway: [] as number[] },
    };
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, store] of Object.entries({ one, many }) as ['one' | 'many', typeof one][]) {
        const bare = await start(['bench/pass-through.ts', upstream.url], {}, 0, started);
        results[name].bare.push(await load(bare.url, store.keyFile, SECONDS));
        await stop(bare.child);
        const gateway = await startGateway(store.url, plans, upstream.url, started);
        await load(gateway.url, store.keyFile, 0);
        results[name].gateway.push(await load(gateway.url, store.keyFile, SECONDS));
        await stop(gateway.child);
      }
    }
    return (['one', 'many'] as const).flatMap((name) => {
      const [bare, gateway] = [measured(results[name].bare), measured(results[name].gateway)];
      const stored = name === 'one' ? '1 key' : `${STORED.toLocaleString('en')} keys`;
      const inUse = name === 'one' ? '' : `, ${IN_USE.toLocaleString('en')} in use`;
      return [
        `${row(`Gateway, ${stored} in the store${inUse}`, gateway, '/s')}  ${(gateway.median / bare.median).toFixed(2)} of bare`,
        row('  the same load through a bare node:http + undici proxy', bare, '/s'),
      ];
    });
  } finally {
    for (const child of started) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

async function seed(
  folder: string,
  name: string,
  stored: number,
  inUse: number,
): Promise<{ url: string; keyFile: string }> {
  const url = `sqlite:${join(folder, `${name}.sqlite`)}`;
  const settings = { url, serverSecret: SECRET, revealTtlMs: 1, log: createLogger({ level: 'silent' }) };
  const key = { mode: 'test' as const, prefix: 'tg', planId: 'bench', name: null, expiresAt: null };
  const store = await openKeystore({ ...settings, keyHash: { memoryKib: 4096, passes: 1, lanes: 1 } });
  const used = await store.createKeys({ keys: Array(inUse).fill(key), actor: 'bench' });
  await store.close();
  // The rest lies in the store unused, so its hashes may be cheap ones.
  const filler = await openKeystore({ ...settings, keyHash: { memoryKib: 8, passes: 1, lanes: 1 } });
  for (let left = stored - inUse; left > 0; left -= 1000) {
    await filler.createKeys({ keys: Array(Math.min(1000, left)).fill(key), actor: 'bench' });
  }
  await filler.close();
  const keyFile = join(folder, `${name}.keys`);
  writeFileSync(keyFile, used.map((created) => created.plaintext).join('\n'));
  return { url, keyFile };
}

async function startGateway(
  keystoreUrl: string,
  plans: string,
  upstreamUrl: string,
  started: ChildProcess[],
): Promise<Running> {
  return start(
    ['gateway/main.ts'],
    {
      KEYSTORE_URL: keystoreUrl,
      TOLLGATE_SECRET: SECRET,
      PLANS_FILE: plans,
      UPSTREAM_URL: upstreamUrl,
      GATEWAY_PORT: String(await freePort()),
      INTERNAL_PORT: '0',
      LOG_LEVEL: 'info',
    },
    0,
    started,
  );
}

async function start(
  args: string[],
  env: Record<string, string>,
  core: number,
  started: ChildProcess[],
): Promise<Running> {
  const command = PIN
    ? ['taskset', '-c', String(core), process.execPath, ...args]
    : [process.execPath, ...args];
  const child = spawn(command[0] as string, command.slice(1), {
    cwd: ROOT,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  started.push(child);
  let printed = '';
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      printed += chunk;
      const found = /listen\w* (?:at )?(http:\/\/\S+)/.exec(printed)?.[1];
      if (found) resolve(found);
    });
    child.on('close', (code) => reject(new Error(`${args[0]} ended with ${code}: ${printed}`)));
  });
  return { child, url };
}

async function stop(child: ChildProcess): Promise<void> {
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  await closed;
}

async function load(url: string, keyFile: string, seconds: number): Promise<number> {
  const args = ['bench/load.ts', url, keyFile, String(seconds)];
  const command = PIN ? ['taskset', '-c', '1', process.execPath, ...args] : [process.execPath, ...args];
  const { stdout } = await promisify(execFile)(command[0] as string, command.slice(1), { cwd: ROOT });
  const { perSecond, ok, other } = JSON.parse(stdout) as { perSecond: number; ok: number; other: number };
  if (other > 0 || ok === 0) throw new Error(`${other} requests were not answered 200`);
  return perSecond;
}
