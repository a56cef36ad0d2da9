import { once } from 'node:events';
import { request, type ServerResponse } from 'node:http';
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { CA, SERVER } from '../../test/certificates.ts';
import { closeAll, closeLater, sendRaw, type TestGateway } from '../../test/gateways.ts';
import { DATA, frame, HEADERS, RST_STREAM, rawH2Server } from '../../test/raw-http2.ts';
import { eventually, gatewayBefore } from '../../test/servers.ts';
import type { UpstreamSpec } from '../routes/route-spec.ts';

afterEach(closeAll);

const H2: Partial<UpstreamSpec> = {
  http2: true,
  tls: { ca: CA, cert: null, key: null, serverName: null, verify: true },
};

type OnStream = (stream: ServerHttp2Stream, headers: Record<string, unknown>, raw: string[]) => void;

/** A server that speaks nothing but HTTP/2. */
async function h2Server(onStream: OnStream) {
  const server: Http2SecureServer = createSecureServer({ ...SERVER, allowHTTP1: false });
  const sessions = new Set<Http2Session>();
  const met = { sessions: 0 };
  server.on('session', (session) => {
    met.sessions++;
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
  });
  server.on('sessionError', () => {});
  server.on('stream', (stream, headers, _flags, raw) => {
    stream.on('error', () => {});
    onStream(stream as ServerHttp2Stream, headers, raw);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: async () => {
      for (const session of sessions) session.destroy();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  });
  return { url: `https://localhost:${(server.address() as AddressInfo).port}`, met, sessions };
}

function open(gateway: TestGateway, key: string, method = 'GET', headers: Record<string, string> = {}) {
  const client = request(`${gateway.url}/stream`, { method, headers: { 'X-API-Key': key, ...headers } });
  client.on('error', () => {});
  return client;
}

/** Kills this process when its loop stands still for so long: what stops it for ever would stop the tests for ever, too. */
function killIfStuck(seconds: number): void {
  const turns = new SharedArrayBuffer(4);
  const watch = `
    const { workerData } = require('node:worker_threads');
    let last = -1, same = 0;
    setInterval(() => {
      const now = Atomics.load(new Int32Array(workerData), 0);
      same = now === last ? same + 1 : 0;
      last = now;
      if (same >= ${seconds}) process.kill(process.pid, 'SIGKILL');
    }, 1000);`;
  const worker = new Worker(watch, { eval: true, workerData: turns });
  worker.unref();
  const timer = setInterval(() => Atomics.add(new Int32Array(turns), 0, 1), 100);
  closeLater({
    close: async () => {
      clearInterval(timer);
      await worker.terminate();
    },
  });
}

describe('a server that speaks HTTP/2', () => {
  it('is sent bodies that break off right after a piece of them, and the gateway goes on', async () => {
    killIfStuck(20);
    let pieces = 0;
    const { url } = await h2Server((stream) => {
      stream.on('data', () => {
        pieces++;
      });
    });
    const { gateway, key } = await gatewayBefore([url], H2);
    for (let n = 0; n < 12; n++) {
      const before = pieces;
      let received = '';
      const client = connect(gateway.port, '127.0.0.1');
      client.on('error', () => {});
      client.on('data', (data) => {
        received += data.toString('latin1');
      });
      client.write(
        `POST / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`,
      );
      await eventually(() => expect(pieces).toBeGreaterThan(before));
      if (n % 2 === 0) {
        client.write('3\r\nabc\r\nzz\r\n');
        await eventually(() => expect(received).toMatch(/^HTTP\/1.1 400 /));
      } else client.write('3\r\nabc\r\n', () => client.resetAndDestroy());
      client.destroy();
    }
    expect((await fetch(`${gateway.internalUrl}/metrics`)).status).toBe(200);
  });

  it('may answer before it has the body, which may turn out unreadable at that moment: its answer is the answer', async () => {
    let client: Socket | undefined;
    const { url } = await h2Server((stream) => {
      stream.on('data', () => {});
      stream.once('data', () => {
        stream.respond({ ':status': 413, 'content-length': '5' });
        stream.end('early');
        setImmediate(() => {
          client?.write('zzzz\r\n');
          const until = performance.now() + 30;
          // Both are read in one turn of the loop.
          while (performance.now() < until);
        });
      });
    });
    const { gateway, key } = await gatewayBefore([url], H2);
    for (let n = 0; n < 5; n++) {
      let received = '';
      client = connect(gateway.port, '127.0.0.1');
      client.on('data', (data) => {
        received += data.toString('latin1');
      });
      client.on('error', () => {});
      client.write(
        `POST / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`,
      );
      await eventually(() => expect(received).toMatch(/^HTTP\/1.1 413 .*early$/s));
      client.destroy();
    }
  });

  it('gets the request, without what belongs to HTTP/1.1 connections; its answer arrives whole', async () => {
    const seen: { headers: Record<string, unknown>; raw: string[]; body: string }[] = [];
    const { url } = await h2Server((stream, headers, raw) => {
      let body = '';
      stream.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      stream.on('end', () => {
        seen.push({ headers, raw, body });
        stream.respond({ ':status': 201, 'content-type': 'text/plain', 'set-cookie': ['a=1', 'b=2'] });
        stream.end('made');
      });
    });
    const { gateway, key } = await gatewayBefore([url], H2);
    const answer = await sendRaw(
      gateway.port,
      [
        'POST /items?x=1 HTTP/1.1',
        'Host: h',
        `X-API-Key: ${key}`,
        'X-Mine: yes',
        'X-Hop: no',
        'Connection: close, X-Hop',
        'Keep-Alive: timeout=5',
        'TE: trailers',
        'Transfer-Encoding: chunked',
        '',
        '3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n',
      ].join('\r\n'),
    );
    expect(answer).toMatch(/^HTTP\/1\.1 201 /);
    expect(answer).toMatch(/\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n/i);
    expect(answer).toContain('made');
    expect(answer).not.toMatch(/\r\n:status/);
    expect(seen).toHaveLength(1);
    const { headers, raw, body } = seen[0] as (typeof seen)[number];
    expect(body).toBe('abcdef');
    expect(headers).toMatchObject({
      ':method': 'POST',
      ':path': '/items?x=1',
      ':scheme': 'https',
      ':authority': new URL(url).host,
      'x-mine': 'yes',
      'x-consumer-plan': 'open',
    });
    const names = raw.filter((_text, i) => i % 2 === 0);
    for (const name of ['connection', 'keep-alive', 'transfer-encoding', 'host', 'x-hop', 'x-api-key']) {
      expect(names).not.toContain(name);
    }
    expect(JSON.stringify(seen)).not.toContain(key);
  });

  it('streams both ways at once', async () => {
    const { url } = await h2Server((stream) => {
      stream.respond({ ':status': 200 });
      stream.on('data', (chunk: Buffer) => stream.write(`heard ${chunk}`));
      stream.on('end', () => stream.end());
    });
    const { gateway, key } = await gatewayBefore([url], H2);
    const client = open(gateway, key, 'POST');
    client.flushHeaders();
    const [response] = await once(client, 'response');
    for (const word of ['one', 'two', 'three']) {
      client.write(word);
      expect(String((await once(response, 'data'))[0])).toBe(`heard ${word}`);
    }
    client.end();
    response.resume();
    await once(response, 'end');
  });

  it('answers many requests at once on few connections, and its trailers arrive', async () => {
    const streams: ServerHttp2Stream[] = [];
    const { url, met } = await h2Server((stream) => void streams.push(stream));
    const { get, gateway, key } = await gatewayBefore([url], H2);
    const answers = Array.from({ length: 40 }, () => get());
    await eventually(() => expect(streams).toHaveLength(40));
    expect(met.sessions).toBe(1);
    for (const stream of streams) {
      stream.respond({ ':status': 200 });
      stream.end('ok');
    }
    for (const each of answers) expect(await (await each).text()).toBe('ok');

    const withTrailers = open(gateway, key);
    withTrailers.end();
    await eventually(() => expect(streams).toHaveLength(41));
    const stream = streams[40] as ServerHttp2Stream;
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end('last');
    const [response] = await once(withTrailers, 'response');
    response.resume();
    await once(response, 'end');
    expect(response.trailers).toEqual({ 'grpc-status': '0' });
  });

  it('is told when the client leaves, and other requests go on', async () => {
    const streams: ServerHttp2Stream[] = [];
    const closed: number[] = [];
    const { url, met } = await h2Server((stream) => {
      const number = streams.push(stream);
      stream.on('close', () => closed.push(number));
    });
    const { gateway, key, get } = await gatewayBefore([url], H2);
    const leaves = open(gateway, key);
    leaves.end();
    await eventually(() => expect(streams).toHaveLength(1));
    const stays = get();
    await eventually(() => expect(streams).toHaveLength(2));
    leaves.destroy();
    await eventually(() => expect(closed).toEqual([1]));
    streams[1]?.respond({ ':status': 200 });
    streams[1]?.end('still here');
    expect(await (await stays).text()).toBe('still here');
    expect(met.sessions).toBe(1);
  });

  it.each([
    ['INTERNAL_ERROR', 2],
    ['CANCEL', 8],
  ])('that takes back its answer in the middle (%s): the client can tell', async (_name, code) => {
    const status200 = Buffer.from([0x88]);
    const { url, send } = await rawH2Server(
      Buffer.concat([frame(HEADERS, 4, status200), frame(DATA, 0, Buffer.from('half'))]),
    );
    const { gateway, key } = await gatewayBefore([url], H2);
    const client = open(gateway, key);
    client.end();
    const [response] = await once(client, 'response');
    expect(String((await once(response, 'data'))[0])).toBe('half');
    send(frame(RST_STREAM, 0, Buffer.from([0, 0, 0, code])));
    response.resume();
    const [error] = await once(response, 'error');
    expect(error).toMatchObject({ code: 'ECONNRESET' });
  });

  it('that says goodbye: what is under way is answered, and what comes goes on a new connection', async () => {
    const streams: ServerHttp2Stream[] = [];
    const { url, met, sessions } = await h2Server((stream) => void streams.push(stream));
    const { get } = await gatewayBefore([url], H2);
    const first = get();
    await eventually(() => expect(streams).toHaveLength(1));
    for (const session of sessions) session.close();
    const second = get();
    await eventually(() => expect(streams).toHaveLength(2));
    expect(met.sessions).toBe(2);
    for (const [i, stream] of streams.entries()) {
      stream.respond({ ':status': 200 });
      stream.end(`answer ${i + 1}`);
    }
    expect(await (await first).text()).toBe('answer 1');
    expect(await (await second).text()).toBe('answer 2');
  });

  it('that dies with many requests under way: each is told, and the circuit counts it once', async () => {
    const streams: ServerHttp2Stream[] = [];
    const { url, sessions } = await h2Server((stream) => {
      if (streams.push(stream) <= 20) return;
      stream.respond({ ':status': 200 });
      stream.end('again');
    });
    const { gateway, key, get } = await gatewayBefore([url], H2);
    const answers = Array.from({ length: 20 }, () => gateway.get('/', key, { method: 'POST' }));
    await eventually(() => expect(streams).toHaveLength(20));
    for (const session of sessions) session.destroy();
    for (const each of answers) expect((await each).status).toBe(502);
    expect(gateway.lines.join('')).not.toContain('circuit_opened');
    expect(await (await get()).text()).toBe('again');
  });

  describe('that dies with one request under way', () => {
    /** Says something of the first request, or nothing, and dies; answers the others with what they brought. */
    async function dying(before: (stream: ServerHttp2Stream) => void) {
      const methods: string[] = [];
      const { url, sessions } = await h2Server((stream, headers) => {
        const first = methods.push(String(headers[':method'])) === 1;
        if (first) before(stream);
        let body = '';
        stream.on('data', (chunk) => {
          body += chunk;
        });
        stream.on('end', () => {
          if (first) for (const session of sessions) session.destroy();
          else {
            stream.respond({ ':status': 200 });
            stream.end(body);
          }
        });
      });
      return { methods, ...(await gatewayBefore([url], H2)) };
    }

    it('is sent it once more, with its small body', async () => {
      const { gateway, key, methods } = await dying(() => {});
      const answer = await gateway.get('/', key, { method: 'PUT', body: 'small body' });
      expect([answer.status, await answer.text()]).toEqual([200, 'small body']);
      expect(methods).toEqual(['PUT', 'PUT']);
    });

    it('not after an interim answer', async () => {
      const { gateway, key, methods } = await dying((stream) => stream.additionalHeaders({ ':status': 103 }));
      expect((await gateway.get('/', key, { method: 'PUT', body: 'small body' })).status).toBe(502);
      expect((await gateway.get('/', key)).status).toBe(200);
      expect(methods).toEqual(['PUT', 'GET']);
    });
  });

  it('that does not answer in time is a 504', async () => {
    const { url } = await h2Server(() => {});
    const { get } = await gatewayBefore([url], { ...H2, timeoutMs: 300 });
    expect((await get()).status).toBe(504);
  });
});

it('a server that speaks only HTTP/1.1 after all gets one request at a time on a connection', async () => {
  const sockets = new Set<Socket>();
  const held: ServerResponse[] = [];
  const server = createHttpsServer({ ...SERVER, ALPNProtocols: ['http/1.1'] }, (req, res) => {
    sockets.add(req.socket);
    held.push(res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  });
  const { get } = await gatewayBefore([`https://localhost:${(server.address() as AddressInfo).port}`], H2);
  const first = get();
  await eventually(() => expect(held).toHaveLength(1));
  const answers = [first, get(), get(), get()];
  await eventually(() => expect(held).toHaveLength(4));
  expect(sockets.size).toBe(4);
  for (const res of held) res.end('ok');
  for (const each of answers) expect(await (await each).text()).toBe('ok');
});

it('a server that never finishes its handshake keeps nobody waiting for others to fail first', async () => {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  });
  const { port } = server.address() as AddressInfo;
  const { get } = await gatewayBefore([`https://localhost:${port}`], {
    ...H2,
    connectTimeoutMs: 1000,
    retryBudget: 0,
    circuit: { failures: 1_000_000, openMs: 1000 },
  });
  const started = performance.now();
  const answers = await Promise.all(Array.from({ length: 30 }, () => get()));
  for (const { status } of answers) expect(status).toBe(502);
  // One after the other it would be thirty seconds; twice is for the ten that are tried again.
  expect(performance.now() - started).toBeLessThan(15_000);
});
