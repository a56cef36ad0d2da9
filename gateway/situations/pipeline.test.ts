import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect, Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, closeLater, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import type { Exchange } from '../listener/exchange.ts';
import { LISTENER_LIMITS } from '../listener/listener.ts';
import { mustWait } from '../listener/pipeline.ts';
import { POLICY_DEFAULTS, type RoutePolicy, type RouteSpec, routeTo } from '../routes/route-spec.ts';

afterEach(closeAll);

const PUBLIC: RoutePolicy = { ...POLICY_DEFAULTS, access: 'public' };

/** An upstream with room for two requests that keeps what is asked of `/held...`, and says of all others what they were. */
async function behind(policy = PUBLIC, more: Partial<Parameters<typeof startTestGateway>[0]> = {}) {
  const held: ServerResponse[] = [];
  let open = false;
  const upstream = await startUpstream((req, res) => {
    let bytes = 0;
    req.on('error', () => {});
    req.on('data', (chunk: Buffer) => (bytes += chunk.length));
    req.on('end', () => {
      res.setHeader('X-Asked', `${req.method} ${req.url} ${bytes}`);
      if (open || !req.url?.startsWith('/held')) res.end();
      else held.push(res);
    });
  });
  const route = routeTo(upstream.url, 60_000);
  const routes: RouteSpec[] = [{ ...route, policy, upstream: { ...route.upstream, maxConnections: 2 } }];
  const gateway = await startTestGateway({ upstreamUrl: upstream.url, routes, ...more });
  const { plaintext: key } = await gateway.key();
  const figure = async (name: string) => {
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
    return Number(new RegExp(`^tollgate_gateway_${name} (\\d+)$`, 'm').exec(text)?.[1]);
  };
  return {
    gateway,
    upstream,
    held,
    lines: `Host: a\r\nX-API-Key: ${key}\r\n`,
    inFlight: () => figure('requests_in_flight'),
    answerHeld: () => {
      open = true;
      for (const res of held.splice(0)) res.end();
    },
  };
}

/** What the upstream said of the requests that were answered; or the code of what was refused. In the order of the answers. */
const answersIn = (received: string) =>
  received.match(/(?<=X-Asked: )[^\r]+|(?<="code":")\w+|(?<=Connection: )close/g) ?? [];

/** A client that goes on reading while the test does something else. */
async function open(port: number) {
  const client = { socket: connect(port, '127.0.0.1'), received: '', closed: false };
  const { socket } = client;
  socket.setEncoding('latin1');
  socket.on('data', (text) => (client.received += text));
  socket.on('error', () => {});
  socket.on('close', () => {
    client.closed = true;
  });
  closeLater({ close: async () => void socket.destroy() });
  await new Promise((resolve) => socket.once('connect', () => resolve(undefined)));
  return client;
}

const names = (count: number) => Array.from({ length: count }, (_, i) => `/held/${i}`);

describe('a flood of requests on one connection', () => {
  it.each([
    ['with a key', POLICY_DEFAULTS],
    ['on a public route', PUBLIC],
  ])('%s: others have the rest of the upstream, and all are answered in order', async (_name, policy) => {
    const { gateway, upstream, held, lines, answerHeld, inFlight } = await behind(policy);
    const client = await open(gateway.port);
    const flood = names(3000);
    client.socket.write(flood.map((path) => `GET ${path} HTTP/1.1\r\n${lines}\r\n`).join(''));
    await vi.waitFor(() => expect(held).toHaveLength(1));
    await vi.waitFor(async () => expect(await inFlight()).toBeGreaterThan(100));
    const other = await sendRaw(gateway.port, `GET /other HTTP/1.1\r\n${lines}Connection: close\r\n\r\n`);
    expect(answersIn(other)).toEqual(['GET /other 0', 'close']);
    expect(upstream.requests.map(({ url }) => url)).toEqual(['/held/0', '/other']);
    answerHeld();
    await vi.waitFor(() => expect(answersIn(client.received)).toHaveLength(3000));
    expect(answersIn(client.received)).toEqual(flood.map((path) => `GET ${path} 0`));
    await vi.waitFor(async () => expect(await inFlight()).toBe(0));
  });

  it('is not read before it is its turn, also where each request has a body', async () => {
    const { gateway, upstream, held, lines, inFlight } = await behind();
    const client = await open(gateway.port);
    const post = (path: string) => `POST ${path} HTTP/1.1\r\n${lines}Content-Length: 4\r\n\r\nbody`;
    client.socket.write(post('/quick').repeat(50) + post('/held') + post('/quick').repeat(10_000));
    await vi.waitFor(() => expect(held).toHaveLength(1));
    expect(upstream.requests).toHaveLength(51);
    expect(await inFlight()).toBeLessThan(3000);
  });

  it('waits for longer than a head may take: the head that is read in part is not blamed', async () => {
    const { gateway, held, lines, answerHeld } = await behind(PUBLIC, {
      listenerLimits: { ...LISTENER_LIMITS, headersMs: 200, checkMs: 20 },
    });
    const client = await open(gateway.port);
    const flood = names(2000);
    const bytes = flood.map((path) => `GET ${path} HTTP/1.1\r\n${lines}\r\n`).join('');
    // More than is read at a time, and the first part of it ends within a head.
    client.socket.write(bytes.slice(0, 90_001));
    await vi.waitFor(() => expect(held).toHaveLength(1));
    client.socket.write(bytes.slice(90_001));
    // Began later, and is late.
    expect(await sendRaw(gateway.port, 'GET / HTTP/1.1\r\nHost')).toMatch(/^HTTP\/1\.1 408 /);
    answerHeld();
    await vi.waitFor(() => expect(answersIn(client.received)).toHaveLength(2000));
    expect(answersIn(client.received)).toEqual(flood.map((path) => `GET ${path} 0`));
  });

  it('whose last head stays unfinished gets 408 after all the others are answered', async () => {
    const { gateway, held, lines, answerHeld } = await behind(PUBLIC, {
      listenerLimits: { ...LISTENER_LIMITS, headersMs: 200, checkMs: 20 },
    });
    const client = await open(gateway.port);
    const flood = names(300);
    client.socket.write(`${flood.map((path) => `GET ${path} HTTP/1.1\r\n${lines}\r\n`).join('')}GET /unfin`);
    await vi.waitFor(() => expect(held).toHaveLength(1));
    expect(await sendRaw(gateway.port, 'GET / HTTP/1.1\r\nHost')).toMatch(/^HTTP\/1\.1 408 /);
    answerHeld();
    await vi.waitFor(() => expect(client.closed).toBe(true));
    expect(answersIn(client.received)).toEqual([
      ...flood.map((path) => `GET ${path} 0`),
      'close',
      'request_timeout',
    ]);
  });

  it('whose client leaves: none of it is begun any more, and nothing of it stays', async () => {
    const { gateway, upstream, held, lines, inFlight } = await behind();
    const client = await open(gateway.port);
    client.socket.write(`GET /held HTTP/1.1\r\n${lines}\r\n`.repeat(50));
    await vi.waitFor(() => expect(held).toHaveLength(1));
    await vi.waitFor(async () => expect(await inFlight()).toBe(50));
    client.socket.destroy();
    await vi.waitFor(async () => expect(await inFlight()).toBe(0));
    expect(upstream.requests).toHaveLength(1);
  });

  it('while so many wait in all that memory is at stake: its connection ends, and one with few goes on', () => {
    const abandoned: Exchange[] = [];
    const turns = {
      waiting: 49_900,
      begin: () => {},
      abandon: (exchange: Exchange) => void abandoned.push(exchange),
    };
    const waitOn = (connection: { before: unknown; pipeline: null }, socket: Socket) => {
      connection.before = { res: new EventEmitter() };
      mustWait({ connection, socket } as unknown as Exchange, turns);
    };
    const few = { connection: { before: null, pipeline: null }, socket: new Socket() };
    const many = { connection: { before: null, pipeline: null }, socket: new Socket() };
    for (let i = 0; i < 90; i++) waitOn(few.connection, few.socket);
    for (let i = 0; i < 101; i++) waitOn(many.connection, many.socket);
    waitOn(few.connection, few.socket);
    expect([few.socket.destroyed, many.socket.destroyed]).toEqual([false, true]);
    many.socket.emit('close');
    expect([turns.waiting, abandoned.length]).toEqual([49_991, 101]);
  });
});

describe('a request that waits for the one before it', () => {
  /** Sends the first request, and what comes after it once the upstream has that. */
  async function behindAnother(
    { gateway, held, lines }: Awaited<ReturnType<typeof behind>>,
    bytes: string | Buffer,
  ): Promise<{ socket: Socket; received: string; closed: boolean }> {
    const client = await open(gateway.port);
    client.socket.write(`GET /held HTTP/1.1\r\n${lines}\r\n`);
    await vi.waitFor(() => expect(held).toHaveLength(1));
    client.socket.write(bytes);
    return client;
  }

  it('is forwarded with its whole body, however long and in whatever form', async () => {
    const tools = await behind();
    const { gateway, upstream, lines, answerHeld, inFlight } = tools;
    const size = 3_000_000;
    const client = await behindAnother(
      tools,
      Buffer.concat([
        Buffer.from(`POST /long HTTP/1.1\r\n${lines}Content-Length: ${size}\r\n\r\n`),
        Buffer.alloc(size),
        Buffer.from(
          `POST /chunked HTTP/1.1\r\n${lines}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
        ),
        Buffer.from(`GET /last HTTP/1.1\r\n${lines}Connection: close\r\n\r\n`),
      ]),
    );
    await vi.waitFor(async () => expect(await inFlight()).toBe(2));
    expect(upstream.requests).toHaveLength(1);
    answerHeld();
    await vi.waitFor(() => expect(client.closed).toBe(true));
    expect(answersIn(client.received)).toEqual([
      'GET /held 0',
      `POST /long ${size}`,
      'POST /chunked 5',
      'GET /last 0',
      'close',
    ]);
    expect((await gateway.get('/health')).status).toBe(200);
  });

  it('is told to continue when it is its turn', async () => {
    const tools = await behind();
    const client = await behindAnother(
      tools,
      `POST /told HTTP/1.1\r\n${tools.lines}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n`,
    );
    await vi.waitFor(async () => expect(await tools.inFlight()).toBe(2));
    expect(client.received).toBe('');
    tools.answerHeld();
    await vi.waitFor(() => expect(client.received).toContain('100 Continue'));
    client.socket.write('body');
    await vi.waitFor(() => expect(answersIn(client.received)).toEqual(['GET /held 0', 'POST /told 4']));
  });

  it('is not blamed for a body that nobody reads, and is when it is its turn', async () => {
    const tools = await behind(PUBLIC, {
      listenerLimits: { ...LISTENER_LIMITS, bodyMs: 200, bodyBytes: 1000, checkMs: 20 },
    });
    const slow = `POST /slow HTTP/1.1\r\n${tools.lines}Content-Length: 4\r\n\r\nb`;
    const client = await behindAnother(tools, slow);
    await vi.waitFor(async () => expect(await tools.inFlight()).toBe(2));
    // Came later, and was looked at.
    expect(answersIn(await sendRaw(tools.gateway.port, slow))).toEqual(['request_timeout']);
    expect(client.closed).toBe(false);
    tools.answerHeld();
    await vi.waitFor(() => expect(client.closed).toBe(true));
    expect(answersIn(client.received)).toEqual(['GET /held 0', 'request_timeout']);
  });

  it.each([
    ['on a public route', PUBLIC],
    ['with a key', POLICY_DEFAULTS],
  ])('%s, with a body that cannot be read: 400 in its turn, and nothing is asked', async (_name, policy) => {
    const tools = await behind(policy);
    const client = await behindAnother(
      tools,
      `POST /bad HTTP/1.1\r\n${tools.lines}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`,
    );
    await vi.waitFor(async () => expect(await tools.inFlight()).toBe(2));
    tools.answerHeld();
    await vi.waitFor(() => expect(client.closed).toBe(true));
    expect(answersIn(client.received)).toEqual(['GET /held 0', 'close', 'invalid_request']);
    expect(tools.upstream.requests).toHaveLength(1);
  });

  it('and has a faulty form is the last one: nothing that comes after it is done', async () => {
    const tools = await behind();
    const client = await behindAnother(
      tools,
      `GET /two HTTP/1.1\r\nHost: b\r\n${tools.lines}\r\nGET /smuggled HTTP/1.1\r\n${tools.lines}\r\n`,
    );
    await vi.waitFor(async () => expect(await tools.inFlight()).toBe(2));
    tools.answerHeld();
    await vi.waitFor(() => expect(client.closed).toBe(true));
    expect(answersIn(client.received)).toEqual(['GET /held 0', 'close', 'invalid_request']);
    expect(tools.upstream.requests).toHaveLength(1);
  });

  it('when the gateway stops is answered, and its answer closes the connection', async () => {
    const tools = await behind();
    const client = await behindAnother(tools, `GET /next HTTP/1.1\r\n${tools.lines}\r\n`.repeat(2));
    await vi.waitFor(async () => expect(await tools.inFlight()).toBe(3));
    const stopped = tools.gateway.close();
    tools.answerHeld();
    await stopped;
    expect(answersIn(client.received)).toEqual(['GET /held 0', 'GET /next 0', 'GET /next 0', 'close']);
  });
});
