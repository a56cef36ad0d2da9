import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { afterEach, describe, expect, it, vi } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import { CA, SERVER } from '../../test/certificates.ts';
import {
  boughtKey,
  closeAll,
  closeLater,
  sendRaw,
  startTestGateway,
  type TestGateway,
} from '../../test/gateways.ts';
import { gatewayBefore, routeToServers } from '../../test/servers.ts';

afterEach(closeAll);

type Upstream = {
  url: string;
  server: Server;
  /** What handshakes brought. */
  requests: IncomingMessage[];
  /** Its ends of the WebSockets that are open. */
  open: Set<WebSocket>;
};

/** A server that speaks WebSocket and sends back each message, unless told otherwise. */
async function startWebSocketUpstream(
  onConnection?: (socket: WebSocket) => void,
  server: Server = createServer(),
): Promise<Upstream> {
  const sockets = new WebSocketServer({
    server,
    handleProtocols: (protocols) => (protocols.has('chat') ? 'chat' : false),
    verifyClient: ({ req }: { req: IncomingMessage }) => !req.url?.startsWith('/forbidden'),
  });
  const requests: IncomingMessage[] = [];
  sockets.on('connection', (socket, req) => {
    requests.push(req);
    socket.on('error', () => {});
    if (onConnection) onConnection(socket);
    else socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: () =>
      new Promise<void>((resolve) => {
        for (const socket of sockets.clients) socket.terminate();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
  const scheme = server instanceof TlsServer ? 'https' : 'http';
  const url = `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, server, requests, open: sockets.clients };
}

async function behind(upstream: Upstream, options: Parameters<typeof startTestGateway>[0] = {}) {
  const gateway = await startTestGateway({ upstreamUrl: upstream.url, ...options });
  const { plaintext: key, id } = await gateway.key();
  return { gateway, key, id };
}

/** A client, with how it was closed. */
function dial(gateway: TestGateway, key: string | null, protocols: string[] = [], path = '/socket') {
  const client = new WebSocket(gateway.url.replace('http', 'ws') + path, protocols, {
    headers: key === null ? {} : { 'X-API-Key': key },
  });
  closeLater({ close: async () => client.terminate() });
  client.on('error', () => {});
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    client.on('close', (code, reason) => resolve({ code, reason: reason.toString() })),
  );
  return { client, closed };
}

async function open(gateway: TestGateway, key: string | null, protocols: string[] = []) {
  const dialed = dial(gateway, key, protocols);
  const [response] = (await once(dialed.client, 'upgrade')) as [IncomingMessage];
  if (dialed.client.readyState !== WebSocket.OPEN) await once(dialed.client, 'open');
  return { ...dialed, response };
}

async function refusal(gateway: TestGateway, key: string | null, protocols: string[] = [], path?: string) {
  const { client } = dial(gateway, key, protocols, path);
  const [, response] = (await once(client, 'unexpected-response')) as [unknown, IncomingMessage];
  let body = '';
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, headers: response.headers, body };
}

/** The connection below; `ws` has no other way to send half a frame. */
const rawSocket = (socket: WebSocket) => (socket as unknown as { _socket: Socket })._socket;

const metrics = async (gateway: TestGateway) => (await fetch(`${gateway.internalUrl}/metrics`)).text();

describe('a WebSocket', () => {
  it('carries messages of every kind and size both ways', async () => {
    const { gateway, key } = await behind(await startWebSocketUpstream());
    const { client } = await open(gateway, key);
    for (const data of ['text', '', 'x'.repeat(126), Buffer.alloc(70_000, 1), Buffer.alloc(5_000_000, 2)]) {
      client.send(data);
      const [echo, isBinary] = (await once(client, 'message')) as [Buffer, boolean];
      expect(isBinary).toBe(Buffer.isBuffer(data));
      expect(echo.equals(Buffer.from(data))).toBe(true);
    }
    const pong = once(client, 'pong') as Promise<[Buffer]>;
    client.send('in ', { fin: false });
    client.ping('still there?');
    client.send('pieces');
    expect(String(((await once(client, 'message')) as [Buffer])[0])).toBe('in pieces');
    expect(String((await pong)[0])).toBe('still there?');
  });

  it('is opened with our identity headers and without the key; the answer has limits and request id', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway } = await behind(upstream);
    const { plaintext: key, id } = await gateway.key('large');
    const { client, response } = await open(gateway, key, ['chat']);
    const { rawHeaders = [], headers } = upstream.requests[0] ?? {};
    expect(rawHeaders.join('\n')).not.toContain(key);
    expect(headers).toMatchObject({
      host: new URL(upstream.url).host,
      'x-credential-identifier': id,
      'x-consumer-plan': 'large',
      'x-consumer-id': '',
      'x-forwarded-for': '127.0.0.1',
      'sec-websocket-protocol': 'chat',
    });
    expect(client.protocol).toBe('chat');
    expect(response.headers).toMatchObject({
      'x-request-id': headers?.['x-request-id'],
      'x-ratelimit-limit': '50',
      'x-ratelimit-remaining': '49',
    });
  });

  it('closes as one side closes it, with its code and reason', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    const one = await open(gateway, key);
    const [there] = upstream.open;
    const closedThere = once(there as WebSocket, 'close');
    one.client.close(4001, 'enough');
    const [code, reason] = (await closedThere) as [number, Buffer];
    expect([code, String(reason)]).toEqual([4001, 'enough']);
    const other = await open(gateway, key);
    for (const socket of upstream.open) socket.close(4002, 'no more');
    expect(await other.closed).toEqual({ code: 4002, reason: 'no more' });
    await vi.waitFor(async () => expect(await metrics(gateway)).toMatch(/websockets_open 0[\s\S]*/));
    expect(await metrics(gateway)).toMatch(/requests_in_flight 0/);
  });

  it('ends on the other side too when one breaks off', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    const one = await open(gateway, key);
    expect(await metrics(gateway)).toMatch(/websockets_open 1/);
    one.client.terminate();
    await vi.waitFor(() => expect(upstream.open.size).toBe(0));
    const other = await open(gateway, key);
    for (const socket of upstream.open) socket.terminate();
    expect((await other.closed).code).toBe(1006);
  });

  it('goes at the pace of a slow reader, without gathering what it does not take', async () => {
    const size = 64 * 1024 * 1024;
    const upstream = await startWebSocketUpstream((socket) => {
      for (let sent = 0; sent < size; sent += 1024 * 1024) socket.send(Buffer.alloc(1024 * 1024));
    });
    const { gateway, key } = await behind(upstream);
    const { client } = await open(gateway, key);
    client.pause();
    let received = 0;
    client.on('message', (data: Buffer) => {
      received += data.length;
    });
    const waiting = () => [...upstream.open].reduce((sum, socket) => sum + socket.bufferedAmount, 0);
    let before = -1;
    await vi.waitFor(
      () => {
        const now = waiting();
        const same = now === before;
        before = now;
        expect(same).toBe(true);
      },
      { interval: 300 },
    );
    expect(waiting(), 'most of it waits where it comes from').toBeGreaterThan(size / 2);
    client.resume();
    await vi.waitFor(() => expect(received).toBe(size));
  });
});

describe('a client that leaves', () => {
  /** A server that keeps its half open, whatever the client does. */
  async function startStubbornUpstream(answer: string) {
    const sockets: Socket[] = [];
    const server = createServer();
    server.on('upgrade', (_req, socket: Socket) => {
      sockets.push(socket);
      socket.on('error', () => {});
      socket.resume();
      if (answer !== '') socket.write(answer);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closeLater({
      close: () =>
        new Promise<void>((resolve) => {
          for (const socket of sockets) socket.destroy();
          server.close(() => resolve());
        }),
    });
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sockets };
  }

  it.each([
    ['during the handshake', ''],
    [
      'without a word afterwards',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
    ],
  ])('%s: nothing of it stays, whatever the server does', async (_when, answer) => {
    const upstream = await startStubbornUpstream(answer);
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const client = connect(gateway.port, '127.0.0.1');
    closeLater({ close: async () => void client.destroy() });
    client.write(
      `GET /socket HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    await vi.waitFor(() => expect(upstream.sockets).toHaveLength(1));
    if (answer !== '') await once(client, 'data');
    client.end();
    await vi.waitFor(() => expect(upstream.sockets[0]?.readableEnded).toBe(true));
    await vi.waitFor(async () => {
      const figures = await metrics(gateway);
      expect(figures).toContain('tollgate_gateway_requests_in_flight 0');
      expect(figures).toContain('tollgate_gateway_websockets_open 0');
    });
  });
});

describe('the server of a WebSocket', () => {
  it('may be behind TLS, and is verified', async () => {
    const upstream = await startWebSocketUpstream(undefined, createTlsServer(SERVER) as unknown as Server);
    const tls = { ca: CA, cert: null, key: null, serverName: null, verify: true };
    const trusting = await gatewayBefore([upstream.url], { tls });
    const { client } = await open(trusting.gateway, trusting.key);
    client.send('secret');
    expect(String(((await once(client, 'message')) as [Buffer])[0])).toBe('secret');
    const careful = await gatewayBefore([upstream.url]);
    expect((await refusal(careful.gateway, careful.key)).status).toBe(502);
  });

  it('is another one when the first is not there', async () => {
    const upstream = await startWebSocketUpstream();
    const gone = await startWebSocketUpstream();
    gone.server.close();
    const { gateway, key } = await gatewayBefore([gone.url, upstream.url], { retryBudget: 1 });
    for (let i = 0; i < 4; i++) await open(gateway, key);
    expect(upstream.requests).toHaveLength(4);
  });

  it('is told apart by connections under way: they count while the WebSocket is open', async () => {
    const upstream = await startWebSocketUpstream();
    const route = routeToServers([upstream.url]);
    const gateway = await startTestGateway({
      routes: [{ ...route, policy: { ...route.policy, concurrency: 1 } }],
    });
    const { plaintext: key } = await gateway.key();
    const { client } = await open(gateway, key);
    expect(JSON.parse((await refusal(gateway, key)).body)).toMatchObject({ code: 'too_many_concurrent' });
    client.close();
    await vi.waitFor(async () => {
      const next = dial(gateway, key);
      await once(next.client, 'open');
    });
  });
});

describe('a browser, which cannot set headers,', () => {
  it('sends the key as a subprotocol, which goes no further', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    const { client } = await open(gateway, null, ['tollgate', `tollgate.key.${key}`, 'chat']);
    expect(client.protocol).toBe('chat');
    expect(upstream.requests[0]?.rawHeaders.join('\n')).not.toMatch(/tollgate\.key|tollgate,/);
    expect(upstream.requests[0]?.rawHeaders.join('\n')).not.toContain(key);
    expect(upstream.requests[0]?.headers['sec-websocket-protocol']).toBe('chat');
  });

  it('is answered with our subprotocol where the server chooses none', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    const { client, response } = await open(gateway, null, ['tollgate', `tollgate.key.${key}`]);
    expect(client.protocol).toBe('tollgate');
    expect(JSON.stringify(response.rawHeaders)).not.toContain(key);
    expect(upstream.requests[0]?.headers['sec-websocket-protocol']).toBeUndefined();
  });
});

describe('a handshake that is refused', () => {
  it('gets a plain HTTP answer, and nothing reaches the upstream', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    const small = await gateway.key('small');
    const missing = await refusal(gateway, null);
    expect(missing).toMatchObject({ status: 401, headers: { connection: 'close' } });
    expect(JSON.parse(missing.body)).toMatchObject({ code: 'missing_key' });
    expect((await refusal(gateway, `${key}x`)).status).toBe(401);
    expect((await refusal(gateway, small.plaintext, [`tollgate.key.${key}`])).status).toBe(400);
    for (let i = 0; i < 5; i++) (await open(gateway, small.plaintext)).client.terminate();
    const { status, headers } = await refusal(gateway, small.plaintext);
    expect([status, Number(headers['retry-after']) > 0]).toEqual([429, true]);
    expect(upstream.requests).toHaveLength(5);
    await vi.waitFor(async () =>
      expect(await gateway.keystore.findKeyFacts(small.id)).toMatchObject({ usedThisMonth: 5 }),
    );
  });

  it('by the upstream: its answer is passed on', async () => {
    const { gateway, key } = await behind(await startWebSocketUpstream());
    const { status, body } = await refusal(gateway, key, [], '/forbidden');
    expect([status, body]).toEqual([401, 'Unauthorized']);
    await vi.waitFor(async () => expect(await metrics(gateway)).toMatch(/requests_in_flight 0/));
  });

  it('by nobody: the upstream is not there', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    upstream.server.close();
    upstream.server.closeAllConnections();
    const { status, body } = await refusal(gateway, key);
    expect([status, JSON.parse(body).code]).toEqual([502, 'upstream_unreachable']);
  });
});

describe('the end of a key’s access ends its WebSockets within a second', () => {
  /** Waits for what a WebSocket is closed with. */
  async function withinASecond(closed: Promise<unknown>, expected: object): Promise<void> {
    let how: unknown;
    void closed.then((known) => {
      how = known;
    });
    await vi.waitFor(() => expect(how).toEqual(expected), { timeout: 1000, interval: 10 });
  }

  it('revoked', async () => {
    const { gateway, key, id } = await behind(await startWebSocketUpstream());
    const other = await gateway.key();
    const stays = await open(gateway, other.plaintext);
    const { closed } = await open(gateway, key);
    await gateway.keystore.revokeKey({ id, reason: 'operator', actor: 'test' });
    await withinASecond(closed, { code: 1008, reason: 'revoked_key' });
    expect(stays.client.readyState).toBe(WebSocket.OPEN);
  });

  it('suspended by the seller', async () => {
    const { gateway, key, id } = await behind(await startWebSocketUpstream());
    const { closed } = await open(gateway, key);
    await gateway.keystore.suspendKey({ id, note: null, actor: 'test' });
    await withinASecond(closed, { code: 1008, reason: 'suspended_by_seller' });
    await gateway.keystore.resumeKey({ id, actor: 'test' });
    await vi.waitFor(async () => expect((await gateway.get('/whoami', key)).status).toBe(200), 1000);
  });

  it('limited to other addresses; one that is still among them stays', async () => {
    const { gateway, key, id } = await behind(await startWebSocketUpstream());
    const other = await gateway.key();
    const stays = await open(gateway, other.plaintext);
    const { closed } = await open(gateway, key);
    const allow = (of: string, address: string) =>
      gateway.keystore.allowAddresses({ id: of, addresses: [address], actor: 'test' });
    await allow(other.id, '127.0.0.1');
    await allow(id, '203.0.113.0/24');
    expect(await closed).toEqual({ code: 1008, reason: 'address_not_allowed' });
    expect(stays.client.readyState).toBe(WebSocket.OPEN);
  });

  it('revoked in the middle of a message of the server: the message is not torn, or the connection is cut', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key, id } = await behind(upstream);
    const { client, closed } = await open(gateway, key);
    const [there] = upstream.open;
    const torn = new Promise<Error>((resolve) => client.on('error', resolve));
    // A frame that announces more than comes.
    const before = rawSocket(client).bytesRead;
    rawSocket(there as WebSocket).write(Buffer.from([0x82, 100, 1, 2, 3]));
    await vi.waitFor(() => expect(rawSocket(client).bytesRead).toBe(before + 5));
    await gateway.keystore.revokeKey({ id, reason: 'operator', actor: 'test' });
    expect((await closed).code).toBe(1006);
    expect(await Promise.race([torn, 'no fault'])).toBe('no fault');
  });

  it('expired', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway } = await behind(upstream);
    const { plaintext } = await gateway.key('open', { expiresAt: Date.now() + 700 });
    const { closed } = await open(gateway, plaintext);
    expect(await closed).toEqual({ code: 1008, reason: 'expired_key' });
  });

  it('suspended, for its money', async () => {
    const { gateway } = await behind(await startWebSocketUpstream());
    const { plaintext, sync } = await boughtKey(gateway);
    const { closed } = await open(gateway, plaintext);
    await sync({ status: 'unpaid', fetchedAt: Date.now() });
    expect(await closed).toEqual({ code: 1008, reason: 'payment_past_due' });
  });
});

describe('a plan that limits messages', () => {
  const plans = `plans:
  open: { name: Open }
  chatty: { name: Chatty, limits: [{ requests: 10, per: hour }], websocket: { messages: [{ messages: 3, per: hour }] } }
`;

  it('the message that is one too many is not passed on, and closes the connection; others of the key count, too', async () => {
    const arrived: string[] = [];
    const upstream = await startWebSocketUpstream((socket) => {
      socket.on('message', (data) => arrived.push(String(data)));
    });
    const { gateway } = await behind(upstream, { plans });
    const { plaintext } = await gateway.key('chatty');
    const one = await open(gateway, plaintext);
    const other = await open(gateway, plaintext);
    one.client.send('first');
    one.client.ping();
    await vi.waitFor(() => expect(arrived).toEqual(['first']));
    other.client.send('second');
    await vi.waitFor(() => expect(arrived).toEqual(['first', 'second']));
    one.client.send('thi', { fin: false });
    one.client.send('rd');
    one.client.send('fourth');
    expect(await one.closed).toEqual({ code: 1008, reason: 'rate_limited' });
    other.client.send('fifth');
    expect((await other.closed).code).toBe(1008);
    await vi.waitFor(() => expect(upstream.open.size).toBe(0));
    expect(arrived).toEqual(['first', 'second', 'third']);
  });
});

describe('a stop', () => {
  it('tells WebSockets that the server goes away, and does not wait for them', async () => {
    const { gateway, key } = await behind(await startWebSocketUpstream());
    const { closed } = await open(gateway, key);
    const startedAt = Date.now();
    await gateway.close();
    expect(await closed).toEqual({ code: 1001, reason: 'restarting' });
    expect(Date.now() - startedAt).toBeLessThan(10_000);
  });
});

describe('what is no WebSocket', () => {
  const handshake = (key: string, more = '') =>
    `GET /socket HTTP/1.1\r\nHost: a\r\nX-API-Key: ${key}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${more}\r\n`;

  it('a frame that is none closes the connection with 1002', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    const received = await new Promise<Buffer>((resolve) => {
      const chunks: Buffer[] = [];
      const socket = connect(gateway.port, '127.0.0.1', () => socket.write(handshake(key)));
      socket.on('data', (chunk: Buffer) => {
        if (chunks.length === 0) socket.write(Buffer.from([0x81, 0x05, 1, 2, 3, 4, 5]));
        chunks.push(chunk);
      });
      socket.on('end', () => resolve(Buffer.concat(chunks)));
    });
    const frames = received.subarray(received.indexOf('\r\n\r\n') + 4);
    expect([frames[0], frames.readUInt16BE(2)]).toEqual([0x88, 1002]);
    await vi.waitFor(() => expect(upstream.open.size).toBe(0));
  });

  it('frames sent together with the handshake are not lost', async () => {
    const { gateway, key } = await behind(await startWebSocketUpstream());
    const message = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
    const received = await sendRaw(
      gateway.port,
      Buffer.concat([Buffer.from(handshake(key)), message]),
      (text) => text.endsWith('hi'),
    );
    expect(received).toMatch(/^HTTP\/1.1 101 Switching Protocols\r\n/);
    expect(received.endsWith('\x81\x02hi')).toBe(true);
  });

  it.each([
    ['with a body', 'Content-Length: 5\r\n'],
    ['beside another protocol', 'Upgrade: h2c\r\n'],
  ])('a handshake %s', async (_name, more) => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    expect(await sendRaw(gateway.port, `${handshake(key, more)}hello`, (text) => text.includes('}'))).toMatch(
      /^HTTP\/1.1 501 [\s\S]*"code":"upgrade_not_supported"/,
    );
    expect(upstream.requests).toEqual([]);
  });

  it('a handshake in one packet with a request that is refused: the gateway answers both and lives', async () => {
    const upstream = await startWebSocketUpstream();
    const { gateway, key } = await behind(upstream);
    const received = await sendRaw(
      gateway.port,
      `GET /refused HTTP/1.1\r\nHost: a\r\n\r\n${handshake(key)}`,
      (text) => /HTTP\/1\.1 501 [^{]*\{.*\}$/.test(text),
    );
    expect(received).toMatch(/^HTTP\/1\.1 401 [^{]*\{.*"code":"missing_key".*\}HTTP\/1\.1 501 /);
    expect((await gateway.get('/health')).status).toBe(200);
    expect(upstream.requests).toEqual([]);
  });
});
