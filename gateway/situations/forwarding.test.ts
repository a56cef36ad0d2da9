import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  closeAll,
  closeLater,
  sendRaw,
  startTestGateway,
  startUpstream,
  type TestGateway,
} from '../../test/gateways.ts';

afterEach(closeAll);

type Handler = (req: IncomingMessage, res: ServerResponse) => void;
async function behind(handler?: Handler, options: Parameters<typeof startTestGateway>[0] = {}) {
  const upstream = await startUpstream(handler);
  const gateway = await startTestGateway({ upstreamUrl: upstream.url, ...options });
  const { plaintext, id } = await gateway.key();
  return { upstream, gateway, key: plaintext, id };
}

/** A streaming request through the gateway. */
function open(gateway: TestGateway, key: string, method = 'GET', headers: Record<string, string> = {}) {
  return httpRequest(`${gateway.url}/stream`, { method, headers: { 'X-API-Key': key, ...headers } });
}
const nextData = async (stream: NodeJS.ReadableStream) =>
  ((await once(stream, 'data')) as [Buffer])[0].toString();

describe('a forwarded request', () => {
  it('arrives with its method, raw path and query, and without the key', async () => {
    const { upstream, gateway, key, id } = await behind();
    await gateway.get('/a%2Fb//c?q=%20x&q=2', key, { method: 'DELETE', headers: { 'X-Mine': 'yes' } });
    const [request] = upstream.requests;
    expect(request).toMatchObject({ method: 'DELETE', url: '/a%2Fb//c?q=%20x&q=2' });
    expect(request?.headers).toMatchObject({
      'x-mine': 'yes',
      host: new URL(upstream.url).host,
      'x-consumer-id': '',
      'x-consumer-plan': 'open',
      'x-credential-identifier': id,
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': new URL(gateway.url).host,
    });
    expect(request?.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(JSON.stringify(upstream.requests)).not.toContain(key);
  });

  it('carries only our identity, whatever the client claims in whatever spelling', async () => {
    const { upstream, gateway, key } = await behind();
    const forged = [
      'X-Consumer-ID: boss',
      'x_consumer_id: boss',
      'X-CONSUMER-PLAN: boss',
      'X-Credential_Identifier: boss',
      'X-Forwarded-For: 6.6.6.6',
      'X-Forwarded-For: 7.7.7.7',
      'X_Forwarded_Host: boss',
      'X-Forwarded-User: boss',
      'X-Request-Id: boss',
      'Forwarded: for=boss',
      'Connection: X-Consumer-ID, X-Credential-Identifier, close',
      `X_API_KEY: ${key}`,
      `authorization: Token ${key}`,
    ];
    await sendRaw(
      gateway.port,
      `GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\n${forged.join('\r\n')}\r\n\r\n`,
    );
    const { rawHeaders = [] } = upstream.requests[0] ?? {};
    const names = rawHeaders.filter((_text, i) => i % 2 === 0).map((name) => name.toLowerCase());
    expect(rawHeaders.join('\n')).not.toMatch(/boss|6\.6\.6\.6|7\.7\.7\.7/);
    expect(rawHeaders.join('\n')).not.toContain(key);
    for (const name of ['x-consumer-id', 'x-consumer-plan', 'x-credential-identifier', 'x-request-id']) {
      expect(names.filter((each) => each.replaceAll('_', '-') === name)).toEqual([name]);
    }
  });

  it('believes a trusted proxy on where it came from', async () => {
    const { upstream, gateway, key } = await behind(undefined, { env: { TRUSTED_PROXIES: '127.0.0.1' } });
    const response = await gateway.get('/', key, {
      headers: {
        'X-Forwarded-For': '203.0.113.9',
        'X-Forwarded-Proto': 'https',
        'X-Forwarded-Host': 'api.example.com',
        'X-Request-ID': 'abc-123',
      },
    });
    expect(response.headers.get('x-request-id')).toBe('abc-123');
    expect(upstream.requests[0]?.headers).toMatchObject({
      'x-forwarded-for': '203.0.113.9, 127.0.0.1',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'api.example.com',
      'x-request-id': 'abc-123',
    });
  });

  it('goes below the path of UPSTREAM_URL and cannot leave it', async () => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: `${upstream.url}/base/v2` });
    const { plaintext } = await gateway.key();
    await gateway.get('/items?x=..', plaintext);
    expect(upstream.requests.map((request) => request.url)).toEqual(['/base/v2/items?x=..']);
    for (const path of [
      '/../admin',
      '/a/%2e%2E/admin',
      '/a/..',
      '/a%2f..%2fadmin',
      '/..\\admin',
      '/..;x/admin',
    ]) {
      const answer = await sendRaw(
        gateway.port,
        `GET ${path} HTTP/1.1\r\nHost: h\r\nX-API-Key: ${plaintext}\r\nConnection: close\r\n\r\n`,
      );
      expect(answer, path).toMatch(/^HTTP\/1.1 400 [\s\S]*"code":"invalid_request"/);
    }
    expect(upstream.requests).toHaveLength(1);
  });
});

describe('an answer', () => {
  it('keeps status, reason, repeated headers and body, with our limits instead of the upstream’s', async () => {
    const { gateway } = await behind((_req, res) => {
      res.writeHead(418, 'Short And Stout', [
        'Set-Cookie',
        'a=1',
        'Set-Cookie',
        'b=2',
        'X-RateLimit-Limit',
        '9999',
        'RateLimit',
        '"theirs";r=1',
        'Content-Length',
        '3',
      ]);
      res.end('tea');
    });
    const { plaintext } = await gateway.key('small');
    const answer = await sendRaw(
      gateway.port,
      `GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${plaintext}\r\nConnection: close\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 418 Short And Stout\r\n/);
    expect(answer).toMatch(/Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n/);
    expect(answer).toMatch(/\r\n\r\ntea$/);
    expect(answer.match(/^x-ratelimit-limit: .*$/gim)).toEqual(['X-RateLimit-Limit: 5']);
    expect(answer).toContain('RateLimit-Policy: "hour";q=5;w=3600, "day";q=8;w=86400\r\n');
    expect(answer).toMatch(/RateLimit: "hour";r=4;t=3600, "day";r=7;t=86400\r\n/);
  });

  it.each([
    ['HEAD', 200],
    ['GET', 204],
    ['GET', 304],
  ])('%s %i has no body, and the connection goes on', async (method, status) => {
    const { gateway, key } = await behind((_req, res) => {
      res.writeHead(status, status === 200 ? { 'Content-Length': 5 } : {});
      res.end(status === 200 ? 'hello' : undefined);
    });
    const one = `${method} / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\n\r\n`;
    const answer = await sendRaw(
      gateway.port,
      one + one,
      (received) => received.split('HTTP/1.1 ').length === 3 && received.endsWith('\r\n\r\n'),
    );
    expect(answer.split(`HTTP/1.1 ${status} `)).toHaveLength(3);
    expect(answer).not.toContain('hello');
    if (method === 'HEAD') expect(answer).toContain('Content-Length: 5');
  });

  it('streams: its first chunk is here before the last one is sent', async () => {
    let finish = () => {};
    const { gateway, key } = await behind((_req, res) => {
      res.write('first');
      finish = () => res.end('last');
    });
    const req = open(gateway, key).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    expect(await nextData(res)).toBe('first');
    finish();
    expect(await nextData(res)).toBe('last');
  });

  it('sends its headers before there is a body', async () => {
    const { gateway, key } = await behind((_req, res) => res.flushHeaders());
    const req = open(gateway, key).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    expect(res.statusCode).toBe(200);
    req.on('error', () => {});
    req.destroy();
  });

  it('waits for a slow reader instead of filling memory', async () => {
    let sent = 0;
    const total = 64 * 1024 * 1024;
    const { gateway, key } = await behind((_req, res) => {
      const chunk = Buffer.alloc(64 * 1024);
      const more = () => {
        while (sent < total) {
          sent += chunk.length;
          if (!res.write(chunk)) {
            res.once('drain', more);
            return;
          }
        }
        res.end();
      };
      more();
    });
    const req = open(gateway, key).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    let before = -1;
    await vi.waitFor(
      () => {
        const stuck = sent === before;
        before = sent;
        expect(stuck).toBe(true);
      },
      { interval: 200 },
    );
    expect(sent).toBeLessThan(total / 2);
    let received = 0;
    for await (const chunk of res) received += (chunk as Buffer).length;
    expect(received).toBe(total);
  });
});

describe('a request body', () => {
  it('streams: its first chunk is there before the last one is sent', async () => {
    let first: (text: string) => void = () => {};
    const firstSeen = new Promise<string>((resolve) => {
      first = resolve;
    });
    const { upstream, gateway, key } = await behind(async (req, res) => {
      let body = '';
      for await (const chunk of req) {
        body += chunk;
        first(body);
      }
      res.end(body);
    });
    const req = open(gateway, key, 'POST');
    req.write('one ');
    expect(await firstSeen).toBe('one ');
    req.end('two');
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    expect(await nextData(res)).toBe('one two');
    expect(upstream.requests[0]?.headers['transfer-encoding']).toBe('chunked');
  });

  it('of known length keeps its length, also a large one with “Expect: 100-continue”', async () => {
    const { upstream, gateway, key } = await behind(async (req, res) => {
      let length = 0;
      for await (const chunk of req) length += (chunk as Buffer).length;
      res.end(String(length));
    });
    const length = 5_000_000;
    const req = open(gateway, key, 'PUT', { 'Content-Length': String(length), Expect: '100-continue' });
    req.flushHeaders();
    await once(req, 'continue');
    req.end(Buffer.alloc(length));
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    expect(await nextData(res)).toBe(String(length));
    expect(upstream.requests[0]?.headers['content-length']).toBe(String(length));
    expect(upstream.requests[0]?.headers.expect).toBeUndefined();
  });

  it('waits for an upstream that reads slowly instead of filling memory', async () => {
    const asked = Promise.withResolvers<() => void>();
    const { gateway, key } = await behind((req, res) => {
      let length = 0;
      asked.resolve(() =>
        req.on('data', (chunk: Buffer) => {
          length += chunk.length;
        }),
      );
      req.on('end', () => res.end(String(length)));
    });
    const total = 64 * 1024 * 1024;
    const req = open(gateway, key, 'POST');
    const chunk = Buffer.alloc(64 * 1024);
    let sent = 0;
    const more = () => {
      while (sent < total) {
        sent += chunk.length;
        if (!req.write(chunk)) {
          req.once('drain', more);
          return;
        }
      }
      req.end();
    };
    more();
    const read = await asked.promise;
    let before = -1;
    await vi.waitFor(
      () => {
        const stuck = sent === before;
        before = sent;
        expect(stuck).toBe(true);
      },
      { interval: 200 },
    );
    expect(sent).toBeLessThan(total / 2);
    read();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    expect(await nextData(res)).toBe(String(total));
  });

  it('that the upstream does not want: its early answer arrives', async () => {
    const { gateway, key } = await behind((_req, res) => {
      res.writeHead(413).end('too large');
    });
    const req = open(gateway, key, 'POST', { 'Content-Length': '100000000' });
    req.on('error', () => {});
    req.write(Buffer.alloc(1_000_000));
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    expect(res.statusCode).toBe(413);
    expect(await nextData(res)).toBe('too large');
    await new Promise((resolve) => res.socket.once('close', resolve));
  });

  it('of a refused request is not read to its end, and the answer still arrives whole', async () => {
    const { upstream, gateway } = await behind();
    let sent = 0;
    const socket = connect(gateway.port, '127.0.0.1');
    socket.write('POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n');
    const chunk = Buffer.from(`10000\r\n${'x'.repeat(65_536)}\r\n`);
    const send = () => {
      while (socket.writable && sent < 1_000_000_000) {
        sent += chunk.length;
        if (!socket.write(chunk)) {
          socket.once('drain', send);
          return;
        }
      }
    };
    let answer = '';
    socket.on('data', (data) => {
      answer += data;
    });
    socket.on('error', () => {});
    send();
    await new Promise((resolve) => socket.once('close', resolve));
    expect(answer).toMatch(/^HTTP\/1.1 401 [\s\S]*Connection: close[\s\S]*"code":"missing_key"/);
    expect(sent).toBeLessThan(100_000_000);
    expect(upstream.requests).toEqual([]);
  });

  it('of a refused request is taken for a while, so that a client that is still sending is not cut off', async () => {
    const { gateway } = await behind();
    const socket = connect(gateway.port, '127.0.0.1');
    const errors: Error[] = [];
    let answer = '';
    socket.on('error', (error) => errors.push(error));
    socket.on('data', (data) => {
      answer += data;
    });
    const part = Buffer.alloc(100_000);
    socket.write(`POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ${3 * part.length}\r\n\r\n`);
    socket.write(part);
    await vi.waitFor(() =>
      expect(answer).toMatch(/^HTTP\/1.1 401 [\s\S]*Connection: close[\s\S]*"code":"missing_key"[\s\S]*}$/),
    );
    for (let i = 0; i < 2; i++) await new Promise((resolve) => socket.write(part, resolve));
    await new Promise((resolve) => socket.once('close', resolve));
    expect(errors).toEqual([]);
  });

  it('of a refused request, if small, does not cost the connection', async () => {
    const { gateway } = await behind();
    const one = 'POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello';
    const answer = await sendRaw(gateway.port, one + one, (received) => received.split('}').length === 3);
    expect(answer.split('HTTP/1.1 401 ')).toHaveLength(3);
  });
});

describe('when things break', () => {
  it('a client that leaves cancels the request upstream', async () => {
    let closed = false;
    const { gateway, key } = await behind((_req, res) => {
      res.write('x');
      res.once('close', () => {
        closed = true;
      });
    });
    const req = open(gateway, key).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    await nextData(res);
    res.on('error', () => {});
    req.destroy();
    await vi.waitFor(() => expect(closed).toBe(true));
  });

  it('a client that leaves before the answer cancels it too', async () => {
    const states: string[] = [];
    const { gateway, key } = await behind((_req, res) => {
      states.push('begun');
      res.once('close', () => states.push('closed'));
    });
    const req = open(gateway, key).end();
    req.on('error', () => {});
    await vi.waitFor(() => expect(states).toEqual(['begun']));
    req.destroy();
    await vi.waitFor(() => expect(states).toEqual(['begun', 'closed']));
  });

  it('a client that leaves in the middle of its body cancels it too', async () => {
    let aborted = false;
    const { upstream, gateway, key } = await behind((req) => {
      req.on('error', () => {
        aborted = true;
      });
      req.resume();
    });
    const req = open(gateway, key, 'POST');
    req.on('error', () => {});
    req.write('half');
    await vi.waitFor(() => expect(upstream.requests).toHaveLength(1));
    expect(await inFlight(gateway)).toBe(1);
    req.destroy();
    await vi.waitFor(() => expect(aborted).toBe(true));
    await vi.waitFor(async () => expect(await inFlight(gateway)).toBe(0));
  });

  it('an upstream that is down is a 502', async () => {
    const gone = createServer();
    await new Promise<void>((resolve) => gone.listen(0, '127.0.0.1', resolve));
    const { port } = gone.address() as { port: number };
    await new Promise((resolve) => gone.close(resolve));
    const gateway = await startTestGateway({ upstreamUrl: `http://127.0.0.1:${port}` });
    const { plaintext } = await gateway.key();
    const response = await gateway.get('/', plaintext);
    expect(response.status).toBe(502);
    expect(await response.json()).toMatchObject({ code: 'upstream_unreachable' });
  });

  it('an upstream that says nothing is a 504', async () => {
    const { gateway, key } = await behind(() => {}, { env: { UPSTREAM_TIMEOUT_SECONDS: '1' } });
    const response = await gateway.get('/', key);
    expect(response.status).toBe(504);
    expect(await response.json()).toMatchObject({ code: 'upstream_timeout' });
  });

  it.each([
    ['hangs up without a word', ''],
    ['speaks another language', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['answers with a broken header', 'HTTP/1.1 200 OK\r\nA b c\r\n\r\n'],
  ])('an upstream that %s is a 502', async (_name, bytes) => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(bytes));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closeLater({ close: () => new Promise((resolve) => server.close(() => resolve())) });
    const { port } = server.address() as { port: number };
    const gateway = await startTestGateway({ upstreamUrl: `http://127.0.0.1:${port}` });
    const { plaintext } = await gateway.key();
    const response = await gateway.get('/', plaintext);
    expect(response.status).toBe(502);
    expect(await response.json()).toMatchObject({ code: 'upstream_unreachable' });
  });

  it.each([
    ['of known length', { 'Content-Length': 100 }],
    ['in chunks', {}],
  ])('an answer %s that is cut off is noticed by the client', async (_name, headers) => {
    const { gateway, key } = await behind((_req, res) => {
      res.writeHead(200, headers as Record<string, number>);
      res.write('half', () => res.destroy());
    });
    const req = open(gateway, key).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    const error = await new Promise((resolve) => {
      res.on('error', resolve);
      res.on('end', () => resolve('complete'));
      res.resume();
    });
    expect(error).toMatchObject({ code: 'ECONNRESET' });
  });
});

async function inFlight(gateway: TestGateway): Promise<number> {
  const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
  return Number(/^tollgate_gateway_requests_in_flight (\d+)$/m.exec(text)?.[1]);
}
