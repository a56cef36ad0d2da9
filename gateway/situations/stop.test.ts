import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { mintKey, parseKey } from '../../shared/keys.ts';
import { sqlitePath } from '../../shared/keystore-url.ts';
import { closeAll, closeLater, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET, TEST_KEY } from '../../test/keystores.ts';

afterEach(closeAll);

describe('a stop', () => {
  it('loses no usage: what was answered is in the ledger, and nothing else', async () => {
    const gateway = await startTestGateway();
    const keys = await Promise.all(Array.from({ length: 5 }, () => gateway.key('large')));
    const all = await Promise.all(
      Array.from({ length: 300 }, (_, i) => gateway.get('/', keys[i % 5]?.plaintext)),
    );
    await gateway.close();
    const admitted = all.filter((response) => response.status === 200).length;
    expect(admitted).toBe(250);
    const used = await Promise.all(
      keys.map(async ({ id }) => (await gateway.keystore.findKeyFacts(id))?.usedThisMonth ?? 0),
    );
    expect(used).toEqual([50, 50, 50, 50, 50]);
  });

  it('lets a request under way finish, and takes no new one', async () => {
    let finish = () => {};
    const upstream = await startUpstream((_req, res) => {
      res.write('first ');
      finish = () => res.end('last');
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext, id } = await gateway.key();
    const response = await gateway.get('/', plaintext);
    const closing = gateway.close();
    await vi.waitFor(() => expect(fetch(`${gateway.url}/health`)).rejects.toThrow());
    finish();
    const finishedAt = Date.now();
    expect(await response.text()).toBe('first last');
    await closing;
    expect(Date.now() - finishedAt, 'it waits no longer than it must').toBeLessThan(10_000);
    expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 1 });
  });

  it('a request that still arrives on an open connection is answered, and its connection closes after it', async () => {
    let finish = () => {};
    const upstream = await startUpstream((req, res) => {
      if (req.url === '/slow') finish = () => res.end('done');
      else res.end('late');
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: h\r\nX-API-Key: ${plaintext}\r\n\r\n`;
    let late = false;
    const received = sendRaw(
      gateway.port,
      get('/first'),
      (text) => {
        if (text.includes('late') && !late) late = true;
        return false;
      },
      (socket) => {
        void vi
          .waitFor(() => expect(late).toBe(true))
          .then(async () => {
            const slow = gateway.get('/slow', plaintext);
            await vi.waitFor(() => expect(upstream.requests).toHaveLength(2));
            const closing = gateway.close();
            await vi.waitFor(() => expect(fetch(`${gateway.url}/health`)).rejects.toThrow());
            socket.write(get('/second') + get('/third'));
            await vi.waitFor(() => expect(upstream.requests).toHaveLength(4));
            finish();
            await slow;
            await closing;
          });
      },
    );
    const answers = (await received).split(/(?=HTTP\/1\.1 )/);
    expect(answers).toHaveLength(3);
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answers.map((answer) => /Connection: close/i.test(answer))).toEqual([false, false, true]);
  });

  it('a connection whose answer did not say that it closes takes the next request, too', async () => {
    let finish = () => {};
    const upstream = await startUpstream((req, res) => {
      if (req.url !== '/long') {
        res.end('next');
        return;
      }
      res.writeHead(200, { 'Content-Length': '8' }).write('long');
      finish = () => res.end(' one');
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: h\r\nX-API-Key: ${plaintext}\r\n\r\n`;
    let closing: Promise<void> | undefined;
    let client: Socket | undefined;
    let sent = false;
    const received = await sendRaw(
      gateway.port,
      get('/long'),
      (text) => {
        if (text.endsWith('long') && closing === undefined) {
          closing = gateway.close();
          finish();
        } else if (text.endsWith('long one') && !sent) {
          sent = true;
          client?.write(get('/next'));
        }
        return false;
      },
      (socket) => {
        client = socket;
      },
    );
    await closing;
    expect(received).toMatch(/long oneHTTP\/1\.1 200 [\s\S]*\r\nConnection: close\r\n[\s\S]*next$/);
  });

  it('says so first: /ready is 503 while everything else goes on', async () => {
    const gateway = await startTestGateway({ env: { STOP_DELAY_SECONDS: '1' } });
    const { plaintext } = await gateway.key();
    expect((await gateway.get('/ready')).status).toBe(200);
    const closing = gateway.close();
    const ready = await gateway.get('/ready');
    expect([ready.status, ready.headers.get('connection')]).toEqual([503, 'close']);
    expect(await ready.json()).toMatchObject({ code: 'stopping' });
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    await closing;
    await expect(gateway.get('/ready')).rejects.toThrow();
  });

  it('does not wait for ever for a request that does not end', async () => {
    const upstream = await startUpstream((_req, res) => res.write('endless'));
    const gateway = await startTestGateway({ upstreamUrl: upstream.url, env: { DRAIN_SECONDS: '1' } });
    const { plaintext } = await gateway.key();
    const response = await gateway.get('/', plaintext);
    const startedAt = Date.now();
    await gateway.close();
    expect(Date.now() - startedAt).toBeLessThan(10_000);
    await expect(response.text()).rejects.toThrow();
  });
});

describe('secrets', () => {
  it('no key is in a log line, at the finest level, whatever goes wrong', async () => {
    const upstream = await startUpstream((req, res) => {
      if (req.url === '/die') res.destroy();
      else res.end('{}');
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const unknown = mintKey('tg', 'test').plaintext;
    await gateway.get(`/?api_key=${plaintext}&token=Sesame`, plaintext);
    await gateway.get('/die?token=Sesame', plaintext);
    await gateway.get('/', unknown);
    await gateway.get('/', `${plaintext}x`);
    await gateway.get('/whoami', undefined, { headers: { Authorization: `Bearer ${plaintext}` } });
    await gateway.keystore.close();
    await gateway.get('/', unknown);
    await gateway.close();
    const logged = gateway.lines.join('');
    expect(gateway.lines.filter((line) => line.includes('"msg":"request"'))).toHaveLength(6);
    for (const key of [plaintext, unknown]) {
      expect(logged).not.toContain(key);
      expect(logged).not.toContain(parseKey(key)?.secret);
    }
    expect(logged).not.toContain('Sesame');
    expect(JSON.stringify(upstream.requests.map((request) => request.headers))).not.toContain(plaintext);
  });
});

describe('npm run gateway', () => {
  it('starts with the demo API, answers, and stops within two seconds', async () => {
    const url = newKeystoreUrl();
    const keystore = await openTestKeystore({ url });
    const { plaintext } = await keystore.createKey({ ...TEST_KEY, planId: 'pro' });
    await keystore.close();
    const { child, output } = run({ KEYSTORE_URL: url, GATEWAY_PORT: '0', INTERNAL_PORT: '0' });
    await vi.waitFor(() => expect(output.text).toMatch(/listens at .*built-in demo API/));
    const gatewayUrl = /listens at (http:\S+)/.exec(output.text)?.[1];
    const echo = await fetch(`${gatewayUrl}/v1/echo`, { headers: { 'X-API-Key': plaintext } });
    expect(await echo.json()).toMatchObject({
      method: 'GET',
      path: '/v1/echo',
      headers: { 'x-consumer-plan': 'pro' },
    });
    for (const path of ['/', '/v1/time', '/v1/quote', '/v1/stream'])
      expect((await fetch(gatewayUrl + path, { headers: { 'X-API-Key': plaintext } })).status).toBe(200);
    const stoppedAt = Date.now();
    child.kill('SIGTERM');
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(Date.now() - stoppedAt).toBeLessThan(10_000);
    const after = closeLater(await openTestKeystore({ url }));
    expect(await after.findKeyFacts(parseKey(plaintext)?.id as string)).toMatchObject({ usedThisMonth: 5 });
  });

  it('exits with 78 and all mistakes for a wrong configuration, and for a keystore of another secret', async () => {
    const wrong = run({ GATEWAY_PORT: 'x', UPSTREAM_URL: 'ftp://x' });
    expect((await once(wrong.child, 'close'))[0]).toBe(78);
    expect(wrong.output.text).toMatch(/GATEWAY_PORT[\s\S]*UPSTREAM_URL/);
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    const other = run({ KEYSTORE_URL: url, TOLLGATE_SECRET: `${SERVER_SECRET}x` });
    expect((await once(other.child, 'close'))[0]).toBe(78);
    expect(other.output.text).toMatch(/another TOLLGATE_SECRET/);
    expect(sqlitePath(url)).toBeTruthy();
  });

  it('says in one line that a port is taken, and exits with 1', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    closeLater({ close: () => new Promise((resolve) => taken.close(() => resolve())) });
    const { child, output } = run({ GATEWAY_PORT: String(port), INTERNAL_PORT: '0' });
    expect((await once(child, 'close'))[0]).toBe(1);
    expect(output.errors.trim()).toMatch(new RegExp(`^Port ${port} .*taken.*$`));
  });
});

/** The gateway as a process, with nothing of this one's environment. */
function run(env: Record<string, string>): { child: ChildProcess; output: { text: string; errors: string } } {
  const output = { text: '', errors: '' };
  const child = spawn(process.execPath, ['gateway/main.ts'], {
    env: {
      PATH: process.env.PATH,
      KEYSTORE_URL: newKeystoreUrl(),
      TOLLGATE_SECRET: SERVER_SECRET,
      FAST_LANE: process.env.TEST_FAST_LANE ?? 'off',
      ...env,
    },
  });
  child.stdout.on('data', (data) => {
    output.text += data;
  });
  child.stderr.on('data', (data) => {
    output.text += data;
    output.errors += data;
  });
  closeLater({ close: async () => void child.kill('SIGKILL') });
  return { child, output };
}
