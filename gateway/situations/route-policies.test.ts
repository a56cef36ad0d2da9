import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import {
  closeAll,
  sendRaw,
  startTestGateway,
  startUpstream,
  type TestUpstream,
} from '../../test/gateways.ts';
import {
  POLICY_DEFAULTS,
  type RoutePolicy,
  type RouteSpec,
  UPSTREAM_DEFAULTS,
} from '../routes/route-spec.ts';

afterEach(closeAll);

function route(path: string, { url }: TestUpstream, policy: Partial<RoutePolicy> = {}): RouteSpec {
  return {
    name: path,
    hosts: [],
    path,
    rewrite: null,
    upstream: { ...UPSTREAM_DEFAULTS, urls: [url] },
    policy: { ...POLICY_DEFAULTS, ...policy },
  };
}

async function codeOf(answer: Response): Promise<string> {
  return ((await answer.json()) as { code: string }).code;
}

describe.each(['off', 'on'])('with the fast lane %s', (FAST_LANE) => {
  const start = (...routes: RouteSpec[]) => startTestGateway({ routes, env: { FAST_LANE } });

  describe('several routes', () => {
    it('each get what is theirs, by host and path', async () => {
      const [docs, v1, other] = [await startUpstream(), await startUpstream(), await startUpstream()];
      const gateway = await start(
        route('/docs', docs, { access: 'public' }),
        { ...route('/v1', v1), rewrite: '/' },
        { ...route('/', other), name: 'other', hosts: ['other.test'] },
      );
      const { plaintext } = await gateway.key();
      expect((await gateway.get('/docs/a?b', undefined)).status).toBe(200);
      expect((await gateway.get('/v1/items?q=1', plaintext)).status).toBe(200);
      expect((await gateway.get('/v1', plaintext)).status).toBe(200);
      const raw = await sendRaw(
        gateway.port,
        `GET /v1/x HTTP/1.1\r\nHost: OTHER.test:80\r\nX-API-Key: ${plaintext}\r\nConnection: close\r\n\r\n`,
      );
      expect(raw).toMatch(/^HTTP\/1\.1 200 /);
      expect(docs.requests.map(({ url }) => url)).toEqual(['/docs/a?b']);
      expect(v1.requests.map(({ url }) => url)).toEqual(['/items?q=1', '/']);
      expect(other.requests.map(({ url }) => url)).toEqual(['/v1/x']);
    });

    it('a path that is nobody’s gets 404, and one that could be another’s 400; neither is counted', async () => {
      const upstream = await startUpstream();
      const gateway = await start(route('/docs', upstream, { access: 'public' }), route('/v1', upstream));
      const { plaintext } = await gateway.key('small');
      const missing = await gateway.get('/v2', plaintext);
      expect([missing.status, await codeOf(missing)]).toEqual([404, 'not_found']);
      for (const path of ['/docs/%2e%2e/v1', '/docs//../v1', '/Docs', '/v1%2fdocs', '/docs;/../v1']) {
        const bytes = `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;
        expect(await sendRaw(gateway.port, bytes), path).toMatch(/^HTTP\/1\.1 400 /);
      }
      expect(upstream.requests).toEqual([]);
      const quota = await gateway.get('/quota', plaintext);
      expect(quota.headers.get('x-ratelimit-remaining')).toBe('5');
    });
  });

  describe('a public route', () => {
    it('needs no key, and passes none on', async () => {
      const upstream = await startUpstream();
      const gateway = await start(route('/', upstream, { access: 'public' }));
      const { plaintext } = await gateway.key();
      for (const key of [undefined, plaintext, 'nonsense']) {
        const answer = await gateway.get('/a', key, { headers: { 'X-Consumer-ID': 'forged' } });
        expect(answer.status).toBe(200);
        expect(answer.headers.get('x-ratelimit-limit')).toBeNull();
        expect(upstream.requests.pop()?.headers).toMatchObject({
          'x-consumer-id': '',
          'x-consumer-plan': '',
          'x-credential-identifier': '',
        });
      }
      for (const authorization of [plaintext, `Token ${plaintext}`, 'Basic dTpw'])
        await gateway.get('/a', undefined, { headers: { authorization } });
      expect(upstream.requests.map(({ headers }) => headers.authorization)).toEqual([
        undefined,
        undefined,
        'Basic dTpw',
      ]);
      expect(JSON.stringify(upstream.requests)).not.toContain(plaintext);
    });
  });

  describe('methods', () => {
    it('that are not for the route get 405 with those that are', async () => {
      const upstream = await startUpstream();
      const gateway = await start(route('/', upstream, { methods: ['GET', 'HEAD'] }));
      const { plaintext } = await gateway.key('small');
      const answer = await gateway.get('/', plaintext, { method: 'DELETE' });
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
      expect(await codeOf(answer)).toBe('method_not_allowed');
      expect(upstream.requests).toEqual([]);
      expect((await gateway.get('/', plaintext)).headers.get('x-ratelimit-remaining')).toBe('4');
    });
  });

  it('TRACE, which shows what the server was sent, does not go where a secret does', async () => {
    const upstream = await startUpstream((req, res) => res.end(req.rawHeaders.join('\n')));
    const plain = route('/plain', upstream);
    const secret = { header: 'X-Gateway-Secret', value: 'for the server only' };
    const gateway = await start(plain, {
      ...route('/', upstream, { access: 'public' }),
      upstream: { ...plain.upstream, secret },
    });
    const { plaintext } = await gateway.key();
    const trace = (path: string) =>
      sendRaw(
        gateway.port,
        `TRACE ${path} HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nConnection: close\r\n\r\n`,
      );
    expect(await trace('/plain')).toMatch(/^HTTP\/1\.1 200 /);
    const refused = await trace('/x');
    expect(refused).toMatch(
      /^HTTP\/1\.1 405 [\s\S]*\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n/,
    );
    expect(refused).not.toContain(secret.value);
    expect(upstream.requests.map(({ url }) => url)).toEqual(['/plain']);
  });

  it('what would make another method or path of it does not reach the upstream', async () => {
    const upstream = await startUpstream();
    const gateway = await start(route('/', upstream, { methods: ['POST'] }), route('/any', upstream));
    const { plaintext } = await gateway.key();
    for (const [path, more] of [
      ['/', { 'X-HTTP-Method-Override': 'DELETE', X_Method_Override: 'DELETE' }],
      ['/any', { 'X-HTTP-Method-Override': 'DELETE' }],
    ] as const) {
      const headers = { ...more, 'X-Original-URL': '/admin', X_Rewrite_Url: '/admin' };
      expect((await gateway.get(path, plaintext, { method: 'POST', headers })).status).toBe(200);
    }
    const [limited, any] = upstream.requests.map((request) => JSON.stringify(request.headers));
    expect(limited).not.toMatch(/DELETE|admin/);
    // Where any method is allowed, so is this way to say it.
    expect(any).toMatch(/DELETE/);
    expect(any).not.toMatch(/admin/);
  });

  describe('a body', () => {
    it('announced as too long: 413 before anything of it is read, and without being counted', async () => {
      const upstream = await startUpstream();
      const gateway = await start(route('/', upstream, { maxBodyBytes: 10 }));
      const { plaintext } = await gateway.key('small');
      const head = `POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\n`;
      const expecting = `${head}Content-Length: 11\r\nExpect: 100-continue\r\n\r\n`;
      const answer = await sendRaw(gateway.port, expecting, (text) => text.includes('payload_too_large'));
      expect(answer).toMatch(/^HTTP\/1\.1 413 /);
      // One that is small enough to be read goes on with its connection.
      const two = `${head}Content-Length: 11\r\n\r\n01234567890${head}Content-Length: 10\r\nConnection: close\r\n\r\n0123456789`;
      const answers = await sendRaw(gateway.port, two);
      expect(answers.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 413', 'HTTP/1.1 200']);
      expect(answers).toMatch(/X-RateLimit-Remaining: 4/);
      expect(upstream.requests).toHaveLength(1);
    });

    it('that turns out too long is cut: 413, the upstream is left, the connection closed', async () => {
      let aborted = 0;
      const upstream = await startUpstream((req) => {
        req.resume();
        req.on('error', () => {});
        req.once('close', () => {
          if (!req.complete) aborted++;
        });
      });
      const gateway = await start(route('/', upstream, { maxBodyBytes: 10 }));
      const { plaintext } = await gateway.key();
      const head = `POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nTransfer-Encoding: chunked\r\n\r\n`;
      const answer = await new Promise<string>((resolve) => {
        let text = '';
        const socket = connect(gateway.port, '127.0.0.1', () => socket.write(`${head}5\r\n01234\r\n`));
        const timer = setInterval(() => {
          if (upstream.requests.length === 0) return;
          clearInterval(timer);
          socket.write('6\r\n012345\r\n');
        }, 5);
        socket.on('data', (chunk) => {
          text += chunk.toString('latin1');
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve(text));
      });
      expect(answer).toMatch(/^HTTP\/1\.1 413 /);
      expect(answer).toMatch(/^Connection: close\r$/m);
      await expect.poll(() => aborted).toBe(1);
    });

    it('of exactly the limit passes, however it comes', async () => {
      const upstream = await startUpstream((req, res) => req.pipe(res));
      const gateway = await start(route('/', upstream, { maxBodyBytes: 10 }));
      const { plaintext } = await gateway.key();
      const head = `POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nConnection: close\r\n`;
      for (const rest of [
        'Content-Length: 10\r\n\r\n0123456789',
        'Transfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n',
      ]) {
        expect(await sendRaw(gateway.port, head + rest)).toMatch(/^HTTP\/1\.1 200 /);
      }
    });

    it('that turns out too long once the answer has begun ends it: the client can tell', async () => {
      const upstream = await startUpstream((req, res) => {
        req.resume();
        req.on('error', () => {});
        res.writeHead(200, { 'Content-Length': 100 });
        res.write('begun');
      });
      const gateway = await start(route('/', upstream, { maxBodyBytes: 10 }));
      const { plaintext } = await gateway.key();
      const head = `POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nTransfer-Encoding: chunked\r\n\r\n`;
      const answer = await new Promise<string>((resolve) => {
        let text = '';
        const socket = connect(gateway.port, '127.0.0.1', () => socket.write(`${head}5\r\n01234\r\n`));
        socket.on('data', (chunk) => {
          text += chunk.toString('latin1');
          if (text.endsWith('begun')) socket.write('6\r\n012345\r\n');
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve(text));
      });
      expect(answer).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\nbegun$/);
    });
  });
});
