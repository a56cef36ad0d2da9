import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Pool } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePort } from '../scripts/free-port.ts';
import { closeAll, closeLater, startTestGateway, startUpstream, type TestGateway } from './gateways.ts';
import { temporaryFolder } from './keystores.ts';
import { runProgram, startProgramUntil } from './processes.ts';
import { metric } from './servers.ts';

afterEach(closeAll);

let folder: string;
let file: string;
beforeEach(() => {
  folder = temporaryFolder();
  file = join(folder, 'routes.yaml');
});

/** Answers with its name, in two pieces. */
function startNamed(name: string) {
  return startUpstream((_req, res) => {
    res.writeHead(200, { 'X-Server': name });
    res.write(name);
    setImmediate(() => res.end('.'));
  });
}

const routeTo = (url: string, more = '') => `routes:\n  - { path: /, upstreams: ['${url}']${more} }\n`;

function startFrom(env: Record<string, string> = {}): Promise<TestGateway> {
  return startTestGateway({
    upstreamUrl: 'http://127.0.0.1:1',
    env: { UPSTREAM_URL: '', ROUTES_FILE: file, ...env },
  });
}

function replaceFile(text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

async function serverOf(gateway: TestGateway, key: string): Promise<string | null> {
  const answer = await gateway.get('/', key);
  await answer.text();
  return answer.headers.get('x-server');
}

describe.each(['off', 'on'])('while requests flow, with the fast lane %s', (FAST_LANE) => {
  it('the routes change many times, and not one request fails', async () => {
    const [one, two] = [await startNamed('one'), await startNamed('two')];
    writeFileSync(file, routeTo(one.url));
    const gateway = await startFrom({ FAST_LANE });
    const { plaintext } = await gateway.key();
    const client = closeLater(new Pool(gateway.url, { connections: 16 }));
    const headers = { 'x-api-key': plaintext };
    const unexpected: string[] = [];
    let answered = 0;
    let newest = '';
    let going = true;
    const flow = Array.from({ length: 16 }, async (_, i) => {
      while (going) {
        // Every other one has a body, which could not be sent twice.
        const method = i % 2 === 0 ? 'GET' : 'POST';
        const body = method === 'GET' ? null : 'x'.repeat(1000);
        try {
          const answer = await client.request({ path: `/${i}`, method, headers, body });
          const text = await answer.body.text();
          if (answer.statusCode !== 200 || !/^(?:one|two)\.$/.test(text)) unexpected.push(text);
          newest = text;
          answered++;
        } catch (error) {
          unexpected.push(String(error));
        }
      }
    });
    for (let i = 0; i < 40; i++) {
      // Each time other servers, other settings for the same ones, or another policy.
      const { url } = i % 2 === 0 ? two : one;
      writeFileSync(file, routeTo(url, `, timeout_seconds: ${30 + (i % 3)}, max_body: ${10_000 + (i % 5)}`));
      gateway.reloadRoutes();
      newest = '';
      const before = answered;
      await expect
        .poll(() => answered > before + 20 && newest, { interval: 5 })
        .toBe(i % 2 === 0 ? 'two.' : 'one.');
    }
    going = false;
    await Promise.all(flow);
    expect(unexpected).toEqual([]);
    expect(answered).toBeGreaterThan(800);
    expect(await metric(gateway, 'tollgate_gateway_routes_reload_failures_total')).toBe(0);
  });
});

it('an answer under way goes on, from the server that began it', async () => {
  let finish = () => {};
  const one = await startUpstream((_req, res) => {
    res.write('begun ');
    finish = () => res.end('and ended');
  });
  const two = await startNamed('two');
  writeFileSync(file, routeTo(one.url));
  const gateway = await startFrom();
  const { plaintext } = await gateway.key();
  const under = await gateway.get('/', plaintext);
  writeFileSync(file, routeTo(two.url));
  gateway.reloadRoutes();
  expect(await serverOf(gateway, plaintext)).toBe('two');
  finish();
  expect(await under.text()).toBe('begun and ended');
});

it.each([
  ['the same limit', 2, [429, 429, 200]],
  ['a higher one', 3, [200, 429, 200]],
  ['a lower one', 1, [429, 429, 429]],
])('what a key has under way counts in the route’s new policy: %s', async (_name, concurrency, expected) => {
  const finish: (() => void)[] = [];
  const upstream = await startUpstream((req, res) => {
    if (req.url === '/slow') finish.push(() => res.end());
    else res.end();
  });
  writeFileSync(file, routeTo(upstream.url, ', concurrency: 2'));
  const gateway = await startFrom();
  const { plaintext } = await gateway.key();
  const quick = async () => (await gateway.get('/quick', plaintext)).status;
  const slow = [gateway.get('/slow', plaintext), gateway.get('/slow', plaintext)];
  await expect.poll(() => finish.length).toBe(2);
  writeFileSync(file, routeTo(upstream.url, `, concurrency: ${concurrency}, max_body: 5`));
  gateway.reloadRoutes();
  const statuses = [await quick()];
  // Again, and again another policy.
  writeFileSync(file, routeTo(upstream.url, ', concurrency: 2, max_body: 6'));
  gateway.reloadRoutes();
  statuses.push(await quick());
  writeFileSync(file, routeTo(upstream.url, `, concurrency: ${concurrency}`));
  gateway.reloadRoutes();
  finish[0]?.();
  await Promise.race(slow);
  await expect.poll(quick).toBe(expected[2]);
  statuses.push(await quick());
  expect(statuses).toEqual(expected);
  finish[1]?.();
  await Promise.all(slow);
  // Each has given its place back, once.
  await expect.poll(quick).toBe(200);
});

describe('a change of the file is noticed', () => {
  it('when it is written in place, replaced, or taken away and made anew', async () => {
    const [one, two, three] = [await startNamed('one'), await startNamed('two'), await startNamed('three')];
    writeFileSync(file, routeTo(one.url));
    const gateway = await startFrom();
    const { plaintext } = await gateway.key();
    const becomes = (name: string) => expect.poll(() => serverOf(gateway, plaintext)).toBe(name);
    await becomes('one');
    writeFileSync(file, routeTo(two.url));
    await becomes('two');
    replaceFile(routeTo(three.url));
    await becomes('three');
    replaceFile(routeTo(one.url));
    await becomes('one');
    renameSync(file, `${file}~`);
    writeFileSync(file, routeTo(two.url));
    await becomes('two');
  });

  it('when the folder that it links to changes, as in a Kubernetes volume', async () => {
    const [one, two] = [await startNamed('one'), await startNamed('two')];
    const publish = (version: string, text: string) => {
      mkdirSync(join(folder, version));
      writeFileSync(join(folder, version, 'routes.yaml'), text);
      symlinkSync(version, join(folder, '..data_tmp'));
      renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
    };
    publish('..2026_11_21_1', routeTo(one.url));
    symlinkSync('..data/routes.yaml', file);
    const gateway = await startFrom();
    const { plaintext } = await gateway.key();
    expect(await serverOf(gateway, plaintext)).toBe('one');
    publish('..2026_11_21_2', routeTo(two.url));
    await expect.poll(() => serverOf(gateway, plaintext)).toBe('two');
  });
});

describe('a bad file', () => {
  it('changes nothing; each of its mistakes is logged, and the metrics say so until it is mended', async () => {
    const [one, two] = [await startNamed('one'), await startNamed('two')];
    writeFileSync(file, routeTo(one.url));
    const gateway = await startFrom();
    const { plaintext } = await gateway.key();
    const failures = () => metric(gateway, 'tollgate_gateway_routes_reload_failures_total');
    const loadedAt = await metric(gateway, 'tollgate_gateway_routes_loaded_timestamp_seconds');
    writeFileSync(file, routeTo(two.url, ', metods: [GET], access: nobody'));
    await expect.poll(failures).toBe(1);
    const logged = gateway.lines.filter((line) => line.includes('"level":"error"'));
    expect(logged).toEqual([
      expect.stringContaining('access is neither key nor public'),
      expect.stringContaining('did you mean \\"methods\\"?'),
      expect.stringContaining('The routes stay as they were before'),
    ]);
    expect(await serverOf(gateway, plaintext)).toBe('one');
    for (const bad of ['', 'routes: []', '{', 'routes:\n  - path: /v1\n']) {
      const before = (await failures()) ?? 0;
      replaceFile(bad);
      gateway.reloadRoutes();
      await expect.poll(failures).toBeGreaterThan(before);
      expect(await serverOf(gateway, plaintext)).toBe('one');
    }
    expect(await metric(gateway, 'tollgate_gateway_routes_loaded_timestamp_seconds')).toBe(loadedAt);
    replaceFile(routeTo(two.url));
    await expect.poll(() => serverOf(gateway, plaintext)).toBe('two');
    expect(await metric(gateway, 'tollgate_gateway_routes_loaded_timestamp_seconds')).toBeGreaterThan(
      loadedAt ?? 0,
    );
  });
});

describe('what is described as before', () => {
  it('keeps its connections', async () => {
    const ports = new Set<number | undefined>();
    const upstream = await startUpstream((req, res) => {
      ports.add(req.socket.remotePort);
      res.end('{}');
    });
    writeFileSync(file, routeTo(upstream.url));
    const gateway = await startFrom();
    const { plaintext } = await gateway.key();
    for (let i = 0; i < 5; i++) {
      await gateway.get('/', plaintext);
      writeFileSync(
        file,
        `${routeTo(upstream.url, `, max_body: ${i}`)}  - { path: /${i}, upstreams: ['http://127.0.0.1:1'] }\n`,
      );
      gateway.reloadRoutes();
    }
    expect(ports.size).toBe(1);
  });
});

describe('npm run gateway', () => {
  const env = (more: Record<string, string>) => ({
    KEYSTORE_URL: `sqlite:${folder}/keystore.sqlite`,
    GATEWAY_PORT: '0',
    INTERNAL_PORT: '0',
    ROUTES_FILE: file,
    ...more,
  });

  it('reads everything again on SIGHUP, also what the file refers to', async () => {
    const upstream = await startUpstream();
    mkdirSync(join(folder, 'secrets'));
    writeFileSync(join(folder, 'secrets', 'upstream'), 'first');
    const secret = 'upstream_secret: { header: X-Secret, value_file: secrets/upstream }';
    writeFileSync(file, routeTo(upstream.url, `, name: everything, access: public, ${secret}`));
    const program = await startProgramUntil(/guards/, 'gateway/main.ts', env({}));
    const url = /listens at (\S+) and guards everything \(routes of/.exec(program.output())?.[1] as string;
    const secretSent = async () => {
      expect((await fetch(`${url}/a`)).status).toBe(200);
      return upstream.requests.at(-1)?.headers['x-secret'];
    };
    expect(await secretSent()).toBe('first');
    writeFileSync(join(folder, 'secrets', 'upstream'), 'second');
    program.child.kill('SIGHUP');
    await expect.poll(secretSent).toBe('second');
    expect(await program.stop()).toBe(0);
  });

  it('npm start says which routes there are, too', async () => {
    writeFileSync(
      file,
      `${routeTo('http://127.0.0.1:1', ', name: all')}  - { name: docs, path: /docs, upstreams: ['http://a'] }\n`,
    );
    const ports = {
      GATEWAY_PORT: String(await freePort()),
      BILLING_PORT: String(await freePort()),
      SANDBOX_PORT: '0',
      BILLING_INTERNAL_PORT: '0',
    };
    const program = await startProgramUntil(/Ctrl-C stops everything/, 'scripts/start.ts', env(ports));
    expect(program.output()).toContain(`all, docs (${file})`);
    program.child.kill('SIGHUP');
    const log = () => readFileSync(join(folder, 'tollgate.log'), 'utf8');
    await expect.poll(log).toContain('The routes were read again');
    expect(await program.stop()).toBe(0);
  });

  it('with mistakes in the file does not start, and names all of them', async () => {
    writeFileSync(file, routeTo('ftp://x', ', metods: [GET]'));
    const { code, output } = await runProgram('gateway/main.ts', env({}));
    expect(code).toBe(78);
    expect(output).toContain('upstreams[0] is not an http:// or https:// address');
    expect(output).toContain('has no field "metods"; did you mean "methods"?');
  });

  it('with a file and UPSTREAM_URL does not start, and says which to drop', async () => {
    writeFileSync(file, routeTo('http://127.0.0.1:1'));
    const { code, output } = await runProgram('gateway/main.ts', env({ UPSTREAM_URL: 'http://127.0.0.1:1' }));
    expect(code).toBe(78);
    expect(output).toContain('unset UPSTREAM_URL, or set ROUTES_FILE=off for one route to it');
    const missing = await runProgram('gateway/main.ts', env({ ROUTES_FILE: '/nowhere/routes.yaml' }));
    expect(missing.code).toBe(78);
    expect(missing.output).toContain('ROUTES_FILE names /nowhere/routes.yaml, which does not exist');
  });
});
