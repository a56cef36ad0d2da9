import { writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { closeAll, closeLater, startUpstream, TEST_PLANS } from './gateways.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET, TEST_KEY, temporaryFolder } from './keystores.ts';
import { type RunningProgram, startProgramUntil } from './processes.ts';

afterEach(closeAll);

/** A load balancer for TCP: a new connection goes to the first instance that says it is ready. */
async function startBalancer(instances: { port: number }[]) {
  const isReady = async ({ port }: { port: number }) =>
    (await fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined))?.status === 200;
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, async (client) => {
    client.on('error', () => {});
    for (const instance of instances) {
      if (!(await isReady(instance))) continue;
      const there = connect({ port: instance.port, host: '127.0.0.1', allowHalfOpen: true });
      there.on('error', () => client.destroy());
      client.on('close', () => there.destroy());
      client.pipe(there);
      there.pipe(client);
      return;
    }
    client.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({ close: () => new Promise((resolve) => void server.close(() => resolve())) });
  return (server.address() as AddressInfo).port;
}

/** Sends a request that may not be sent twice; returns its status. */
function post(port: number, agent: Agent, key: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const req = request({ port, agent, method: 'POST', path: '/', headers: { 'X-API-Key': key } }, (res) => {
      res.resume();
      res.on('end', () => resolve(res.statusCode as number));
      res.on('error', reject);
    });
    req.on('error', reject);
    req.end('body');
  });
}

it('clients that send without pause notice nothing', async () => {
  const upstream = await startUpstream((req, res) => {
    req.resume();
    // Some are always under way.
    setTimeout(() => res.end('{}'), 15);
  });
  const plansFile = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(plansFile, TEST_PLANS);
  const url = newKeystoreUrl();
  const keystore = closeLater(await openTestKeystore({ url }));
  const { plaintext, id } = await keystore.createKey(TEST_KEY);
  const instances: (RunningProgram & { port: number })[] = [];
  const start = async () => {
    const program = await startProgramUntil(/listens at/, 'gateway/main.ts', {
      KEYSTORE_URL: url,
      TOLLGATE_SECRET: SERVER_SECRET,
      UPSTREAM_URL: upstream.url,
      GATEWAY_PORT: '0',
      INTERNAL_PORT: '0',
      STOP_DELAY_SECONDS: '0.5',
      PLANS_FILE: plansFile,
    });
    closeLater({ close: async () => void program.child.kill('SIGKILL') });
    const port = Number(/listens at http:\/\/[^:]+:(\d+)/.exec(program.output())?.[1]);
    instances.push({ ...program, port });
  };
  await start();
  const port = await startBalancer(instances);
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const statuses = new Map<number | string, number>();
  let going = true;
  const clients = Array.from({ length: 8 }, async () => {
    while (going) {
      const status = await post(port, agent, plaintext).catch((error: Error) => error.message);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  });
  const answered = () => statuses.get(200) ?? 0;
  const more = async (count: number) => {
    const from = answered();
    await vi.waitFor(() => expect(answered()).toBeGreaterThan(from + count));
  };
  for (let replaced = 0; replaced < 2; replaced++) {
    await more(100);
    await start();
    const old = instances[0] as RunningProgram;
    old.child.kill('SIGTERM');
    expect(await old.ended).toBe(0);
    instances.shift();
  }
  await more(100);
  going = false;
  await Promise.all(clients);
  agent.destroy();
  expect([...statuses.keys()]).toEqual([200]);
  await (instances[0] as RunningProgram).stop();
  expect(await keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: answered() });
});
