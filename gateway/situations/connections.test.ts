import { once } from 'node:events';
import { BlockList, connect, Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, closeLater, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { acceptedSockets, eventually, LANES } from '../../test/servers.ts';
import { Connections } from '../listener/connections.ts';
import { LISTENER_LIMITS } from '../listener/listener.ts';

afterEach(closeAll);

/** A connection whose bytes are written by the test. */
async function open(port: number, read = true) {
  const socket = connect(port, '127.0.0.1');
  const connection = { socket, received: '', closed: false };
  socket.on('error', () => {});
  socket.on('close', () => {
    connection.closed = true;
  });
  if (read) socket.on('data', (data) => (connection.received += data.toString('latin1')));
  closeLater({ close: async () => void socket.destroy() });
  await once(socket, 'connect');
  return connection;
}

const drip = (socket: Socket, bytes: string, everyMs: number) => {
  const timer = setInterval(() => socket.write(bytes), everyMs);
  socket.once('close', () => clearInterval(timer));
};

describe('pipelining', () => {
  it('answers come in the order of the requests, refused and forwarded mixed, with a body in between', async () => {
    const finish: (() => void)[] = [];
    const upstream = await startUpstream((req, res) => {
      if (req.url === '/slow') finish.push(() => res.end('slow'));
      else req.pipe(res);
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext: key } = await gateway.key();
    const line = `Host: a\r\nX-API-Key: ${key}\r\n`;
    const received = sendRaw(
      gateway.port,
      [
        `GET /slow HTTP/1.1\r\n${line}\r\n`,
        `GET /refused HTTP/1.1\r\nHost: a\r\n\r\n`,
        `POST /body HTTP/1.1\r\n${line}Content-Length: 9\r\n\r\nGET / HTT`,
        `POST /chunked HTTP/1.1\r\n${line}Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n`,
        `GET /health HTTP/1.1\r\n${line}\r\n`,
        `GET /slow HTTP/1.1\r\n${line}Connection: close\r\n\r\n`,
      ].join(''),
    );
    await vi.waitFor(() => expect(finish).toHaveLength(1));
    finish[0]?.();
    await vi.waitFor(() => expect(finish).toHaveLength(2));
    finish[1]?.();
    const answers = (await received).split(/(?=HTTP\/1\.1 )/);
    expect(
      answers.map((answer) => [answer.slice(9, 12), answer.slice(answer.indexOf('\r\n\r\n') + 4)]),
    ).toEqual([
      ['200', expect.stringContaining('slow')],
      ['401', expect.stringContaining('missing_key')],
      ['200', expect.stringContaining('GET / HTT')],
      ['200', expect.stringContaining('GET /')],
      ['200', '{"status":"ok"}'],
      ['200', expect.stringContaining('slow')],
    ]);
  });
});

describe('a slow client', () => {
  it('whose body drips is let go, with an answer', async () => {
    const upstream = await startUpstream((req) => void req.on('error', () => {}).resume());
    const gateway = await startTestGateway({
      upstreamUrl: upstream.url,
      listenerLimits: { ...LISTENER_LIMITS, bodyMs: 300, bodyBytes: 100, checkMs: 50 },
    });
    const { plaintext } = await gateway.key();
    const client = await open(gateway.port);
    client.socket.write(
      `POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nContent-Length: 100000\r\n\r\n`,
    );
    drip(client.socket, 'x', 20);
    await vi.waitFor(() => expect(client.closed).toBe(true));
    expect(client.received).toMatch(/^HTTP\/1.1 408 [\s\S]*Connection: close[\s\S]*"code":"request_timeout"/);
  });

  it('whose body drips after its answer is let go, too', async () => {
    const gateway = await startTestGateway({
      listenerLimits: { ...LISTENER_LIMITS, bodyMs: 300, bodyBytes: 100, checkMs: 50 },
    });
    const client = await open(gateway.port);
    client.socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n');
    drip(client.socket, 'x', 20);
    await vi.waitFor(() => expect(client.received).toMatch(/^HTTP\/1.1 401 /));
    await vi.waitFor(() => expect(client.closed).toBe(true));
  });

  it('whose body comes fast enough may take as long as it likes', async () => {
    const upstream = await startUpstream((req, res) => {
      let bytes = 0;
      req.on('data', (data) => (bytes += data.length));
      req.on('end', () => res.end(`${bytes} bytes`));
    });
    const gateway = await startTestGateway({
      upstreamUrl: upstream.url,
      listenerLimits: { ...LISTENER_LIMITS, bodyMs: 400, bodyBytes: 10, checkMs: 20, headersMs: 100 },
    });
    const { plaintext } = await gateway.key();
    const client = await open(gateway.port);
    client.socket.write(
      `POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nContent-Length: 60000\r\n\r\n`,
    );
    // Sixty pieces, each sent in time for its window, together far longer than any limit.
    for (let i = 0; i < 60; i++) {
      client.socket.write('x'.repeat(1000));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await vi.waitFor(() => expect(client.received).toContain('60000 bytes'));
  });

  it('is not blamed for an upstream that is slow to read', async () => {
    let read = () => {};
    const upstream = await startUpstream((req, res) => {
      read = () => req.resume().on('end', () => res.end('read'));
    });
    const gateway = await startTestGateway({
      upstreamUrl: upstream.url,
      listenerLimits: { ...LISTENER_LIMITS, bodyMs: 100, bodyBytes: 1000, checkMs: 20 },
    });
    const { plaintext } = await gateway.key();
    const size = 32 * 1024 * 1024;
    const client = await open(gateway.port);
    client.socket.write(
      `POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nContent-Length: ${size}\r\n\r\n`,
    );
    client.socket.write(Buffer.alloc(size));
    await eventually(() => expect(upstream.requests).toHaveLength(1));
    // All buffers on the way are full.
    let before = -1;
    await vi.waitFor(
      () => {
        const now = client.socket.bytesWritten - client.socket.writableLength;
        const same = now === before && client.socket.writableLength > 0;
        before = now;
        expect(same).toBe(true);
      },
      { interval: 300 },
    );
    expect(client.received).toBe('');
    read();
    await eventually(() => expect(client.received).toContain('read'));
  });

  it('that never takes its answer does not hold its upstream connection for ever', async () => {
    let gone = false;
    const upstream = await startUpstream((_req, res) => {
      const more = () => {
        while (res.write(Buffer.alloc(64 * 1024)));
      };
      res.on('drain', more);
      res.on('close', () => {
        gone = true;
      });
      more();
    });
    const gateway = await startTestGateway({
      upstreamUrl: upstream.url,
      listenerLimits: { ...LISTENER_LIMITS, stalledMs: 300, checkMs: 50 },
    });
    const { plaintext } = await gateway.key();
    const client = await open(gateway.port, false);
    client.socket.write(`GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\n\r\n`);
    await vi.waitFor(() => expect(gone).toBe(true));
    expect((await gateway.get('/health')).status).toBe(200);
  });
});

it.each(LANES)(
  'one that ends with an answer that its client does not take is closed (fast lane %s)',
  async (FAST_LANE) => {
    const accepted = acceptedSockets();
    const answer = Buffer.alloc(12_000, 'a');
    const upstream = await startUpstream((_req, res) => {
      res.setHeader('Content-Length', answer.length);
      res.end(answer);
    });
    const gateway = await startTestGateway({
      upstreamUrl: upstream.url,
      env: { FAST_LANE },
      listenerLimits: { ...LISTENER_LIMITS, stalledMs: 300, checkMs: 50 },
    });
    const { plaintext } = await gateway.key('open');
    const client = await open(gateway.port, false);
    const isOurs = ({ localPort, remotePort }: Socket) =>
      localPort === gateway.port && remotePort === client.socket.localPort;
    await vi.waitFor(() => expect(accepted.some(isOurs)).toBe(true));
    const ours = accepted.find(isOurs) as Socket;
    // As much as the system takes ahead of a reader, so that the next answer has to wait, but is complete.
    while (ours.writableLength === 0) {
      const before = ours.bytesWritten;
      client.socket.write(`GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\n\r\n`);
      await vi.waitFor(() => expect(ours.bytesWritten).toBeGreaterThan(before + answer.length), {
        interval: 1,
      });
    }
    client.socket.write('POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: wrong\r\nContent-Length: 70000\r\n\r\n');
    client.socket.write('x'.repeat(70_000));
    await vi.waitFor(() => expect(ours.destroyed).toBe(true));
  },
);

describe('too many connections', () => {
  const health = 'GET /health HTTP/1.1\r\nHost: a\r\n\r\n';

  it.each([
    ['in all', { MAX_CONNECTIONS: '3' }],
    ['from one address', { MAX_CONNECTIONS_PER_ADDRESS: '3' }],
  ])('%s: the next one gets 503 and is closed, and there is room again when one ends', async (_name, env) => {
    const gateway = await startTestGateway({ env });
    const clients = await Promise.all([1, 2, 3].map(() => open(gateway.port)));
    for (const { socket } of clients) socket.write(health);
    await vi.waitFor(() => {
      for (const { received } of clients) expect(received).toMatch(/^HTTP\/1.1 200 /);
    });
    expect(await sendRaw(gateway.port, health)).toMatch(
      /^HTTP\/1.1 503 [\s\S]*Connection: close\r\nRetry-After: 1\r\n[\s\S]*"code":"overloaded"/,
    );
    clients[0]?.socket.destroy();
    await vi.waitFor(async () => {
      const answer = await sendRaw(gateway.port, health, (received) => received.endsWith('"}'));
      expect(answer).toMatch(/^HTTP\/1.1 200 /);
    });
  });

  it('of IPv6, all that one customer has (a /64) is one address', () => {
    const connections = new Connections(new BlockList(), false, {
      ...LISTENER_LIMITS,
      maxConnections: 10,
      maxConnectionsPerAddress: 2,
    });
    closeLater({ close: async () => connections.stop() });
    const opens = (remoteAddress: string) => {
      const socket = Object.defineProperty(new Socket(), 'remoteAddress', { value: remoteAddress });
      return connections.open(socket) !== null;
    };
    expect(['2001:db8::1', '2001:db8::2', '2001:db8:0:0:ffff::3', '2001:db8:0:1::3'].map(opens)).toEqual([
      true,
      true,
      false,
      true,
    ]);
  });

  it('a trusted proxy speaks for many and may have more', async () => {
    const gateway = await startTestGateway({
      env: { MAX_CONNECTIONS_PER_ADDRESS: '1', TRUSTED_PROXIES: '127.0.0.1' },
    });
    const clients = await Promise.all([1, 2, 3].map(() => open(gateway.port)));
    for (const { socket } of clients) socket.write(health);
    await vi.waitFor(() => {
      for (const { received } of clients) expect(received).toMatch(/^HTTP\/1.1 200 /);
    });
  });
});
