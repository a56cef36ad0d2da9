import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { freePort } from '../scripts/free-port.ts';
import { SERVER_SECRET, temporaryFolder } from './keystores.ts';
import { licencePlansFile } from './licences.ts';
import { runProgram, startProgramUntil } from './processes.ts';
import { eventually } from './servers.ts';

const PORTS = [
  'GATEWAY_PORT',
  'BILLING_PORT',
  'SANDBOX_PORT',
  'INTERNAL_PORT',
  'BILLING_INTERNAL_PORT',
] as const;
type Ports = Record<(typeof PORTS)[number], string>;

async function freePorts(): Promise<Ports> {
  const entries = await Promise.all(PORTS.map(async (name) => [name, String(await freePort())]));
  return Object.fromEntries(entries) as Ports;
}

describe('npm start', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)(
    'says where everything is, and %s stops it cleanly',
    async (signal) => {
      const folder = temporaryFolder();
      const env = { ...(await freePorts()), KEYSTORE_URL: `sqlite:${folder}/keystore.sqlite` };
      const program = await startProgramUntil(/Ctrl-C stops everything/, 'scripts/start.ts', env);
      const banner = program.output();
      for (const expected of [
        `http://127.0.0.1:${env.BILLING_PORT}/`,
        `http://127.0.0.1:${env.GATEWAY_PORT}`,
        `http://127.0.0.1:${env.INTERNAL_PORT}/metrics, http://127.0.0.1:${env.BILLING_INTERNAL_PORT}/metrics`,
        'built-in sandbox',
        'STRIPE_SECRET_KEY is unset',
        'built-in demo API',
        'UPSTREAM_URL is unset',
        `${folder}/keystore.sqlite`,
        'Next:',
      ]) {
        expect(banner).toContain(expected);
      }
      expect((await fetch(`http://127.0.0.1:${env.BILLING_PORT}/`)).status).toBe(200);
      expect((await fetch(`http://127.0.0.1:${env.GATEWAY_PORT}/whoami`)).status).toBe(401);
      expect(await program.stop(signal)).toBe(0);
      await expect(fetch(`http://127.0.0.1:${env.GATEWAY_PORT}/whoami`)).rejects.toThrow();
      expect(existsSync(join(folder, 'keystore.sqlite-wal'))).toBe(false);
      expect(readFileSync(join(folder, 'tollgate.log'), 'utf8')).toContain('Billing listens');
    },
  );

  it('closing its terminal stops it too', async () => {
    const { PATH } = process.env;
    const env = {
      ...(await freePorts()),
      PATH,
      PLANS_FILE: join(process.cwd(), 'plans.yaml'),
      KEYSTORE_URL: `sqlite:${temporaryFolder()}/k.sqlite`,
    };
    // `script` is the terminal: when it goes, so does what runs in it.
    const terminal = spawn(
      'script',
      ['-qfec', `exec ${process.execPath} ${join(process.cwd(), 'scripts/start.ts')}`, '/dev/null'],
      { env, cwd: temporaryFolder(), stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let output = '';
    terminal.stdout.on('data', (chunk) => {
      output += chunk;
    });
    await eventually(() => expect(output).toContain('Ctrl-C stops everything'));
    terminal.kill('SIGKILL');
    await eventually(async () => {
      await expect(fetch(`http://127.0.0.1:${env.GATEWAY_PORT}/whoami`)).rejects.toThrow();
      await expect(fetch(`http://127.0.0.1:${env.BILLING_PORT}/`)).rejects.toThrow();
    });
  });

  it('a port that is taken: one clear line, and nothing left behind', async () => {
    const taken = createServer();
    const env = await freePorts();
    await new Promise<void>((resolve) => taken.listen(Number(env.GATEWAY_PORT), '127.0.0.1', resolve));
    const run = await runProgram('scripts/start.ts', {
      ...env,
      KEYSTORE_URL: `sqlite:${temporaryFolder()}/k.sqlite`,
    });
    expect(run.code).toBe(1);
    expect(run.output).toMatch(
      new RegExp(`^Port ${env.GATEWAY_PORT} on 127\\.0\\.0\\.1 is taken by another program\\..*\\n$`),
    );
    await new Promise((resolve) => taken.close(resolve));
  });
});

describe('refusing to start', () => {
  it.each(['scripts/start.ts', 'gateway/main.ts', 'billing/main.ts', 'licensing/main.ts'])(
    '%s in production on unsafe settings: exit 78, every reason at once',
    async (script) => {
      const run = await runProgram(script, {
        NODE_ENV: 'production',
        KEYSTORE_URL: 'sqlite:./k.sqlite',
        PUBLIC_GATEWAY_URL: 'http://api.example.com',
      });
      expect(run.code).toBe(78);
      for (const name of [
        'KEYSTORE_URL',
        'TOLLGATE_SECRET',
        'PUBLIC_BILLING_URL',
        'PUBLIC_GATEWAY_URL must be https',
      ]) {
        expect(run.output).toContain(name);
      }
      expect(run.output).not.toContain('    at ');
    },
  );

  it('licences in production without a key to sign with; licensing where no plan grants devices', async () => {
    const env = {
      KEYSTORE_URL: `sqlite:${temporaryFolder()}/k.sqlite`,
      TOLLGATE_SECRET: SERVER_SECRET,
      PUBLIC_BILLING_URL: 'https://buy.example.com',
      PUBLIC_GATEWAY_URL: 'https://api.example.com',
    };
    const unsigned = await runProgram('licensing/main.ts', {
      ...env,
      NODE_ENV: 'production',
      PLANS_FILE: licencePlansFile(),
    });
    expect(unsigned).toMatchObject({
      code: 78,
      output: expect.stringContaining('LICENSING_KEYS is required in production'),
    });
    expect(unsigned.output).toContain('npm run licences -- signing-key');
    expect(await runProgram('licensing/main.ts', env)).toMatchObject({
      code: 78,
      output: expect.stringContaining('PLANS_FILE has no plan that grants devices'),
    });
  });

  it('a keystore that is not one: exit 78 with the remedy', async () => {
    const file = join(temporaryFolder(), 'notes.txt');
    writeFileSync(file, 'Buy milk. '.repeat(500));
    const run = await runProgram('gateway/main.ts', {
      ...(await freePorts()),
      KEYSTORE_URL: `sqlite:${file}`,
    });
    expect(run.code).toBe(78);
    expect(run.output).toBe(
      `${file} is not a database, so not a Tollgate keystore. Set KEYSTORE_URL to another file.\n`,
    );
  });

  it('a live Stripe key on a keystore of test mode: exit 78, by name', async () => {
    const folder = temporaryFolder();
    const env = {
      ...(await freePorts()),
      KEYSTORE_URL: `sqlite:${folder}/k.sqlite`,
      STRIPE_WEBHOOK_SECRET: 'whsec_0123456789',
      TOLLGATE_SECRET: SERVER_SECRET,
      PUBLIC_BILLING_URL: 'https://buy.example.com',
      PUBLIC_GATEWAY_URL: 'https://api.example.com',
    };
    const test = await startProgramUntil(/Billing listens/, 'billing/main.ts', {
      ...env,
      STRIPE_SECRET_KEY: 'sk_test_0123456789',
    });
    expect(await test.stop()).toBe(0);
    const run = await runProgram('billing/main.ts', { ...env, STRIPE_SECRET_KEY: 'sk_live_0123456789' });
    expect(run.code).toBe(78);
    expect(run.output).toContain('is a keystore for test mode, and STRIPE_SECRET_KEY is a live key');
  });
});
