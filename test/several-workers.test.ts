import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { afterEach, describe, expect, it, onTestFailed } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { freePort } from '../scripts/free-port.ts';
import { closeAll, closeLater, startUpstream, TEST_PLANS } from './gateways.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET, TEST_KEY, temporaryFolder } from './keystores.ts';
import { runProgram, startProgramUntil } from './processes.ts';
import { needsRedis, startRedis } from './redis-servers.ts';
import { eventually } from './servers.ts';

afterEach(closeAll);

const WORKERS = 2;
const PLANS = `${TEST_PLANS}  live: { name: Live, websocket: { messages: [{ messages: 6, per: hour }] } }\n`;

/** A gateway of several workers, as its operator starts it. */
async function startWorkers(env: Record<string, string> = {}) {
  const plansFile = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(plansFile, PLANS);
  const keystoreUrl = newKeystoreUrl();
  const keystore = closeLater(await openTestKeystore({ url: keystoreUrl }));
  const program = await startProgramUntil(/listens at/, 'gateway/main.ts', {
    GATEWAY_WORKERS: String(WORKERS),
    KEYSTORE_URL: keystoreUrl,
    TOLLGATE_SECRET: SERVER_SECRET,
    GATEWAY_PORT: '0',
    INTERNAL_PORT: '0',
    ROUTES_FILE: 'off',
    PLANS_FILE: plansFile,
    // A line for each request, which says whose it was.
    LOG_LEVEL: 'debug',
    ...env,
  });
  onTestFailed(() => void process.stderr.write(program.output().slice(-5000)));
  closeLater({ close: async () => void program.child.kill('SIGKILL') });
  const [, url, metricsUrl] = /listens at (\S+) and .* Metrics: (\S+)/.exec(program.output()) as unknown as [
    string,
    string,
    string,
  ];
  // More connections than workers: they get them in turn.
  const agent = new Agent({ connections: 30 });
  closeLater({ close: () => agent.destroy() });
  const get = async (key: string, path = '/') => {
    const { statusCode, body } = await request(url + path, {
      dispatcher: agent,
      headers: { 'X-API-Key': key },
    });
    return { status: statusCode, text: await body.text() };
  };
  return {
    program,
    keystore,
    url,
    get,
    /** How many of so many requests at once were answered with which status. */
    async statuses(key: string, count: number): Promise<Record<number, number>> {
      const counts: Record<number, number> = {};
      for (const { status } of await Promise.all(Array.from({ length: count }, () => get(key))))
        counts[status] = (counts[status] ?? 0) + 1;
      return counts;
    },
    /** What any of them says would become of a request with a key. */
    async why(keyId: string): Promise<unknown> {
      const address = new URL(`/why?key_id=${keyId}`, metricsUrl);
      return (await fetch(address, { headers: { Connection: 'close' } })).json();
    },
    key: (planId: string) => keystore.createKey({ ...TEST_KEY, planId }),
    async metrics(): Promise<string> {
      const answer = await fetch(metricsUrl, {
        headers: { Connection: 'close' },
        signal: AbortSignal.timeout(3000),
      });
      expect(answer.status).toBe(200);
      return answer.text();
    },
    /** How many lines with this in them each worker has logged, of those that have. */
    linesOfWorkers(sign: string): Map<string, number> {
      const counts = new Map<string, number>();
      for (const line of program.output().split('\n')) {
        const worker = line.includes(sign) && /"worker":(\d+)/.exec(line)?.[1];
        if (worker) counts.set(worker, (counts.get(worker) ?? 0) + 1);
      }
      return counts;
    },
    /** Process ids. */
    workers: () =>
      execFileSync('pgrep', ['-P', String(program.child.pid)], { encoding: 'utf8' })
        .trim()
        .split('\n')
        .map(Number),
  };
}

/** The value of the line that begins so. */
function figure(metrics: string, beginning: string): number | undefined {
  const line = metrics.split('\n').find((each) => each.startsWith(`${beginning} `));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
}

const FORWARDED = 'tollgate_gateway_requests_total{outcome="forwarded",status="2xx"}';

describe('a gateway of several workers', () => {
  it('each of them says what would become of a request, as all count, and all write down what they refuse', async () => {
    const upstream = await startUpstream();
    const gateway = await startWorkers({ UPSTREAM_URL: upstream.url });
    const { plaintext, id } = await gateway.key('small');
    expect(await gateway.statuses(plaintext, 30)).toEqual({ 200: 5, 429: 25 });
    for (let i = 0; i < 6; i++)
      expect(await gateway.why(id)).toMatchObject({ code: 'rate_limited', limits: [{ remaining: 0 }, {}] });
    // Each writes down the first five that it refuses within a second.
    const refused = () => [...gateway.linesOfWorkers('"code":"rate_limited"').values()];
    await eventually(() => expect(refused().reduce((sum, each) => sum + each, 0)).toBe(25));
    expect(refused()).toHaveLength(WORKERS);
    const written = refused().reduce((sum, each) => sum + Math.min(5, each), 0);
    await eventually(async () =>
      expect((await gateway.keystore.listRefusals({ keyId: id, limit: 99 })).length).toBeGreaterThanOrEqual(
        written,
      ),
    );
    const [refusal] = await gateway.keystore.listRefusals({ keyId: id, limit: 1 });
    expect(refusal).toMatchObject({ code: 'rate_limited', path: '/', route: 'default' });
  });

  it('of 3N concurrent requests exactly N are admitted, and usage and metrics say so', async () => {
    const upstream = await startUpstream();
    const gateway = await startWorkers({ UPSTREAM_URL: upstream.url, GATEWAY_WORKERS: '3' });
    const { plaintext, id } = await gateway.key('large');
    expect(await gateway.statuses(plaintext, 150)).toEqual({ 200: 50, 429: 100 });
    expect(upstream.requests).toHaveLength(50);
    expect(gateway.linesOfWorkers('"msg":"request"').size).toBe(3);
    expect(JSON.parse((await gateway.get(plaintext, '/quota')).text)).toMatchObject({
      limits: [{ remaining: 0 }, { remaining: 30 }],
    });
    await eventually(async () => expect(figure(await gateway.metrics(), FORWARDED)).toBe(50));
    // Whoever is asked: each of them in turn.
    for (let asked = 0; asked < 6; asked++) {
      const metrics = await gateway.metrics();
      expect(figure(metrics, FORWARDED)).toBe(50);
      expect(figure(metrics, 'tollgate_gateway_refusals_total{code="rate_limited"}')).toBe(100);
      expect(figure(metrics, 'tollgate_gateway_upstream_seconds_count')).toBe(50);
      expect(figure(metrics, 'tollgate_gateway_upstream_seconds_bucket{le="+Inf"}')).toBe(50);
      expect(figure(metrics, 'tollgate_gateway_limit_decisions_total{by="primary"}')).toBe(150);
      expect(figure(metrics, 'tollgate_gateway_keystore_up')).toBe(1);
      expect(figure(metrics, 'tollgate_gateway_primary_up')).toBe(1);
      expect(figure(metrics, 'tollgate_gateway_workers')).toBe(3);
    }
    expect(await gateway.program.stop()).toBe(0);
    expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 50 });
  });

  it('messages on WebSockets are counted for all workers together', async () => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    closeLater({ close: async () => void server.close() });
    await once(server, 'listening');
    let received = 0;
    server.on('connection', (socket) => socket.on('message', () => received++));
    const { port } = server.address() as { port: number };
    const gateway = await startWorkers({ UPSTREAM_URL: `http://127.0.0.1:${port}` });
    const { plaintext } = await gateway.key('live');
    const sockets = await Promise.all(
      Array.from({ length: WORKERS }, async () => {
        const socket = new WebSocket(gateway.url, { headers: { 'X-API-Key': plaintext } });
        closeLater({ close: async () => socket.terminate() });
        await once(socket, 'open');
        return socket;
      }),
    );
    const closed = sockets.map((socket) => once(socket, 'close'));
    for (let sent = 0; sent < 6; sent++) {
      sockets[sent % 2]?.send('hello');
      await eventually(() => expect(received).toBe(sent + 1));
    }
    // Each has sent three of six, and the one that is too many is the last.
    for (const socket of sockets) socket.send('one more');
    expect((await Promise.all(closed)).map(([code]) => code)).toEqual([1008, 1008]);
  });

  it('a worker that is killed is replaced; requests go on, and nothing that was counted is forgotten', async () => {
    const upstream = await startUpstream();
    const gateway = await startWorkers({ UPSTREAM_URL: upstream.url });
    const open = await gateway.key('open');
    const small = await gateway.key('small');
    expect(await gateway.statuses(small.plaintext, 9)).toEqual({ 200: 5, 429: 4 });
    expect(await gateway.statuses(open.plaintext, 30)).toEqual({ 200: 30 });
    await eventually(async () => expect(figure(await gateway.metrics(), FORWARDED)).toBe(35));
    const before = gateway.workers();
    expect(before).toHaveLength(WORKERS);
    for (const [i, pid] of before.entries()) {
      // What it counted since somebody last asked dies with it.
      const counted = 35 + 31 * i;
      await eventually(async () =>
        expect(figure(await gateway.metrics(), FORWARDED)).toBeGreaterThanOrEqual(counted),
      );
      process.kill(pid, 'SIGKILL');
      await eventually(async () => {
        const metrics = await gateway.metrics();
        expect(figure(metrics, 'tollgate_gateway_worker_deaths_total')).toBe(i + 1);
        expect(figure(metrics, 'tollgate_gateway_workers')).toBe(WORKERS);
        expect(figure(metrics, FORWARDED)).toBeGreaterThanOrEqual(counted);
      });
      // Connections to the one that died are broken; a client makes new ones.
      await eventually(async () => expect((await gateway.get(open.plaintext)).status).toBe(200));
      expect(await gateway.statuses(open.plaintext, 30)).toEqual({ 200: 30 });
    }
    expect(gateway.workers().some((pid) => before.includes(pid))).toBe(false);
    expect(await gateway.statuses(small.plaintext, 6)).toEqual({ 429: 6 });
    expect(gateway.program.output()).toContain('A worker died; another one takes its place');
    expect(await gateway.program.stop()).toBe(0);
  });

  it('a worker that hangs holds up no metrics, and stands in them with what it said last', async () => {
    const upstream = await startUpstream();
    const gateway = await startWorkers({ UPSTREAM_URL: upstream.url });
    const { plaintext } = await gateway.key('open');
    await gateway.statuses(plaintext, 60);
    await eventually(async () => expect(figure(await gateway.metrics(), FORWARDED)).toBe(60));
    const [hung] = gateway.workers() as [number];
    process.kill(hung, 'SIGSTOP');
    try {
      // The one connection that it is handed gets no answer.
      await eventually(async () => expect(figure(await gateway.metrics(), FORWARDED)).toBe(60));
    } finally {
      process.kill(hung, 'SIGCONT');
    }
  });

  it('SIGHUP puts the routes file into force in all of them', async () => {
    const [one, two] = [await startUpstream((_, res) => res.end('one')), await startUpstream()];
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'elsewhere'));
    const file = join(folder, 'elsewhere', 'file');
    const routeTo = (url: string) => writeFileSync(file, `routes:\n  - { path: /, upstreams: ['${url}'] }\n`);
    routeTo(one.url);
    // Changes of what it links to are not noticed: only the signal tells.
    symlinkSync(file, join(folder, 'routes.yaml'));
    const gateway = await startWorkers({ ROUTES_FILE: join(folder, 'routes.yaml') });
    const { plaintext } = await gateway.key('open');
    expect(await gateway.statuses(plaintext, 30)).toEqual({ 200: 30 });
    expect(one.requests).toHaveLength(30);
    routeTo(two.url);
    gateway.program.child.kill('SIGHUP');
    await eventually(() => expect(gateway.linesOfWorkers('Other routes are in force').size).toBe(WORKERS));
    expect(await gateway.statuses(plaintext, 30)).toEqual({ 200: 30 });
    expect(two.requests).toHaveLength(30);
    expect(one.requests).toHaveLength(30);
  });

  it('SIGTERM, to all processes as service managers send it: what is under way is finished and counted', async () => {
    const waiting: (() => void)[] = [];
    const upstream = await startUpstream((_, res) => void waiting.push(() => res.end('late')));
    const gateway = await startWorkers({ UPSTREAM_URL: upstream.url });
    const { plaintext, id } = await gateway.key('open');
    const answers = gateway.statuses(plaintext, 30);
    await eventually(() => expect(waiting).toHaveLength(30));
    for (const pid of [...gateway.workers(), gateway.program.child.pid as number])
      process.kill(pid, 'SIGTERM');
    // Node's cluster leaves a connection without an answer that comes just as the last worker stops listening.
    const askedNow = () => fetch(`${gateway.url}/ready`, { signal: AbortSignal.timeout(2000) });
    await eventually(() => expect(askedNow()).rejects.toMatchObject({ cause: { code: 'ECONNREFUSED' } }));
    for (const answer of waiting) answer();
    expect(await answers).toEqual({ 200: 30 });
    expect(await gateway.program.ended).toBe(0);
    expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 30 });
  });

  it('when the primary is killed, workers finish what is under way, write usage and end', async () => {
    const waiting: (() => void)[] = [];
    const upstream = await startUpstream((_, res) => void waiting.push(() => res.end('late')));
    const gateway = await startWorkers({ UPSTREAM_URL: upstream.url });
    const { plaintext, id } = await gateway.key('open');
    const answers = gateway.statuses(plaintext, 30);
    await eventually(() => expect(waiting).toHaveLength(30));
    gateway.program.child.kill('SIGKILL');
    for (const answer of waiting) answer();
    expect(await answers).toEqual({ 200: 30 });
    // Standard output is closed when the last of them has ended.
    await gateway.program.ended;
    expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 30 });
  });

  it('with Redis workers count there, and the primary counts nothing', async (context) => {
    needsRedis(context);
    const redis = closeLater(await startRedis());
    const upstream = await startUpstream();
    const gateway = await startWorkers({ UPSTREAM_URL: upstream.url, REDIS_URL: redis.url });
    const { plaintext } = await gateway.key('large');
    await gateway.statuses(plaintext, 30);
    expect(await redis.client.keys('tollgate:*')).toHaveLength(2);
    const metrics = await gateway.metrics();
    expect(figure(metrics, 'tollgate_gateway_redis_up')).toBe(1);
    expect(figure(metrics, 'tollgate_gateway_primary_up')).toBeUndefined();
  });
});

describe('refusing to start', () => {
  const env = { GATEWAY_WORKERS: '2', INTERNAL_PORT: '0', GATEWAY_PORT: '0', ROUTES_FILE: 'off' };

  it('a worker that cannot start: its reason, once, and its exit code', async () => {
    const file = join(temporaryFolder(), 'notes.txt');
    writeFileSync(file, 'Buy milk. '.repeat(500));
    const run = await runProgram('gateway/main.ts', { ...env, KEYSTORE_URL: `sqlite:${file}` });
    expect(run.output).toBe(
      `${file} is not a database, so not a Tollgate keystore. Set KEYSTORE_URL to another file.\n`,
    );
    expect(run.code).toBe(78);
  });

  it('a port that is taken: one clear line', async () => {
    const port = await freePort();
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve));
    closeLater({ close: () => new Promise((resolve) => void taken.close(() => resolve())) });
    const run = await runProgram('gateway/main.ts', {
      ...env,
      GATEWAY_PORT: String(port),
      KEYSTORE_URL: newKeystoreUrl(),
    });
    expect(run.output).toMatch(
      new RegExp(`^Port ${port} on 127\\.0\\.0\\.1 is taken by another program\\..*\\n$`),
    );
    expect(run.code).toBe(1);
  });

  it('npm start is one process: exit 78, and what to run instead', async () => {
    const run = await runProgram('scripts/start.ts', { ...env, KEYSTORE_URL: newKeystoreUrl() });
    expect(run.output).toContain('GATEWAY_WORKERS asks for 2 processes');
    expect(run.output).toContain('npm run gateway and npm run billing');
    expect(run.code).toBe(78);
  });
});
