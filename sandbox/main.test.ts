import { type ChildProcess, spawn } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';

// Room for a machine busy with other things: nothing here waits by time.

const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

function start(...args: string[]) {
  const child = spawn(process.execPath, [new URL('main.ts', import.meta.url).pathname, ...args]);
  children.push(child);
  const said = { out: '', err: '' };
  child.stdout.on('data', (text) => {
    said.out += text;
  });
  child.stderr.on('data', (text) => {
    said.err += text;
  });
  const exit = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  return { child, said, exit };
}

test('says its address and the webhook secret, answers, and stops on SIGTERM', async () => {
  const { child, said, exit } = start('--port', '0', '--forward-to', 'http://127.0.0.1:9/webhook');
  await expect.poll(() => said.out).toMatch(/^STRIPE_WEBHOOK_SECRET=whsec_[A-Za-z0-9]{32}$/m);
  const base = /^ {2}STRIPE_API_BASE=(http:\/\/127\.0\.0\.1:\d+)$/m.exec(said.out)?.[1];
  const response = await fetch(`${base}/v1/webhook_endpoints`, {
    headers: { authorization: 'Bearer sk_test_x' },
  });
  expect(await response.json()).toMatchObject({
    data: [{ url: 'http://127.0.0.1:9/webhook', enabled_events: ['*'] }],
  });
  child.kill('SIGTERM');
  expect(await exit).toBe(0);
  expect(said.err).toBe('');
});

test('a port in use is one clear line and exit code 1', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const { port } = other.address() as AddressInfo;
  const { said, exit } = start('--port', String(port));
  expect(await exit).toBe(1);
  expect(said.err).toMatch(new RegExp(`^Port ${port} is in use\\..*\n$`));
  expect(said.out).toBe('');
  other.close();
});

test.each([
  [['--port', 'many'], /The port must be a whole number/],
  [['--forward-to', 'localhost'], /--forward-to needs an address/],
  [['--colour'], /Unknown option/],
])('the arguments %j are refused', async (args, message) => {
  const { said, exit } = start(...args);
  expect(await exit).toBe(1);
  expect(said.err).toMatch(message);
});
