import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, closeLater, startTestGateway } from '../../test/gateways.ts';
import { type RawUpstream, startRawUpstream } from '../../test/raw-upstreams.ts';
import { LANES } from '../../test/servers.ts';
import { routeTo } from '../routes/route-spec.ts';

afterEach(closeAll);

/** What the gateway promises; the rest is for a busy machine. */
const SOON_MS = 100;
const BUSY_MACHINE_MS = 2000;

const HEAD = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const CHUNK = '4\r\npart\r\n';

async function behind(upstream: RawUpstream, url = upstream.url) {
  const gateway = await startTestGateway({ upstreamUrl: upstream.url, routes: [routeTo(url, 60_000)] });
  const { plaintext: key } = await gateway.key();
  const inFlight = async () => {
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
    return Number(/^tollgate_gateway_requests_in_flight (\d+)$/m.exec(text)?.[1]);
  };
  const send = (bytes: (lines: string) => string): Promise<Socket> =>
    new Promise((resolve) => {
      const socket = connect(gateway.port, '127.0.0.1', () => {
        socket.write(bytes(`Host: h\r\nX-API-Key: ${key}\r\n`));
        resolve(socket);
      });
      socket.on('error', () => {});
    });
  return { gateway, inFlight, send };
}

/** Milliseconds from here until the upstream sees its connection end. */
async function untilClosed(upstream: RawUpstream): Promise<number> {
  const since = performance.now();
  await Promise.all(
    upstream.connections.map(
      ({ socket, closed }) => closed || new Promise((resolve) => socket.once('close', resolve)),
    ),
  );
  return performance.now() - since;
}

const WAYS = ['end', 'resetAndDestroy'] as const;
const PHASES: [string, (lines: string) => string, RegExp, string][] = [
  ['while the answer has not begun', (lines) => `GET / HTTP/1.1\r\n${lines}\r\n`, /\r\n\r\n$/, ''],
  ['while the answer is on its way', (lines) => `GET / HTTP/1.1\r\n${lines}\r\n`, /\r\n\r\n$/, HEAD + CHUNK],
  [
    'while it is sending a body of known length',
    (lines) => `POST / HTTP/1.1\r\n${lines}Content-Length: 100\r\n\r\nhalf`,
    /\r\n\r\nhalf$/,
    '',
  ],
  [
    'while it is sending chunks',
    (lines) => `POST / HTTP/1.1\r\n${lines}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n`,
    /half$/,
    '',
  ],
  [
    'while both the body and the answer are on their way',
    (lines) => `POST / HTTP/1.1\r\n${lines}Content-Length: 100\r\n\r\nhalf`,
    /\r\n\r\nhalf$/,
    HEAD + CHUNK,
  ],
];

describe('a client that leaves: its request is cancelled upstream within 100 ms', () => {
  it.each(PHASES.flatMap((phase) => WAYS.map((how) => [phase[0], how, phase] as const)))(
    '%s (%s)',
    async (_name, how, [, request, arrived, answer]) => {
      const upstream = await startRawUpstream(({ socket }) => {
        socket.write(answer);
      });
      const { inFlight, send } = await behind(upstream);
      const client = await send(request);
      let received = '';
      client.on('data', (chunk) => {
        received += chunk;
      });
      await vi.waitFor(() => {
        expect(upstream.connections[0]?.received).toMatch(arrived);
        if (answer !== '') expect(received).toContain('part');
      });
      client[how]();
      expect(await untilClosed(upstream)).toBeLessThan(SOON_MS + BUSY_MACHINE_MS);
      await vi.waitFor(async () => expect(await inFlight()).toBe(0));
    },
  );

  it('while an answer waits for it to read on', async () => {
    const upstream = await startRawUpstream(({ socket }) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${1e9}\r\n\r\n`);
      const chunk = Buffer.alloc(1 << 20);
      const more = () => {
        while (!socket.destroyed && socket.write(chunk));
      };
      socket.on('drain', more);
      more();
    });
    const { inFlight, send } = await behind(upstream);
    const client = await send((lines) => `GET / HTTP/1.1\r\n${lines}\r\n`);
    client.pause();
    let before = -1;
    await vi.waitFor(
      () => {
        const written = upstream.connections[0]?.socket.bytesWritten ?? 0;
        const stuck = written > 0 && written === before;
        before = written;
        expect(stuck).toBe(true);
      },
      { interval: 200 },
    );
    client.resetAndDestroy();
    expect(await untilClosed(upstream)).toBeLessThan(SOON_MS + BUSY_MACHINE_MS);
    await vi.waitFor(async () => expect(await inFlight()).toBe(0));
  });

  it('while the connection to the upstream is being made: nothing is ever sent on it', async () => {
    // Accepts, and says nothing of TLS.
    const upstream = await startRawUpstream(() => {});
    const { inFlight, send } = await behind(upstream, upstream.url.replace('http:', 'https:'));
    const client = await send((lines) => `GET / HTTP/1.1\r\n${lines}\r\n`);
    await vi.waitFor(async () => {
      expect(upstream.connections).toHaveLength(1);
      expect(await inFlight()).toBe(1);
    });
    client.destroy();
    await vi.waitFor(async () => expect(await inFlight()).toBe(0));
    expect(upstream.heads()).toEqual([]);
  });

  it('with several pipelined requests: the first of them is, and the others are not begun', async () => {
    const upstream = await startRawUpstream(() => {});
    const { inFlight, send } = await behind(upstream);
    const client = await send((lines) => `GET / HTTP/1.1\r\n${lines}\r\n`.repeat(3));
    await vi.waitFor(() => expect(upstream.heads()).toHaveLength(1));
    client.destroy();
    expect(await untilClosed(upstream)).toBeLessThan(SOON_MS + BUSY_MACHINE_MS);
    await vi.waitFor(async () => expect(await inFlight()).toBe(0));
    expect(upstream.heads()).toHaveLength(1);
  });

  it('while its key is looked at, with a request that waits for it: nothing is asked of the upstream', async () => {
    const upstream = await startRawUpstream(() => {});
    const { gateway, inFlight, send } = await behind(upstream);
    let goOn = () => {};
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const { hasher } = gateway.keystore;
    const verify = hasher.verify.bind(hasher);
    vi.spyOn(hasher, 'verify').mockImplementation(async (...args) => {
      await held;
      return verify(...args);
    });
    const client = await send((lines) => `GET / HTTP/1.1\r\n${lines}\r\n`.repeat(2));
    await vi.waitFor(async () => expect(await inFlight()).toBe(2));
    client.resetAndDestroy();
    // Whoever is told that the connection is closed has been told when a later one is open and answered.
    await vi.waitFor(async () => expect((await gateway.get('/health')).status).toBe(200));
    goOn();
    await vi.waitFor(async () => expect(await inFlight()).toBe(0));
    expect(upstream.heads()).toEqual([]);
  });

  it('after it was answered: nothing happens to anybody', async () => {
    const upstream = await startRawUpstream(({ socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood');
    });
    const { gateway, send } = await behind(upstream);
    const client = await send((lines) => `GET / HTTP/1.1\r\n${lines}\r\n`);
    await new Promise((resolve) => client.once('data', resolve));
    client.resetAndDestroy();
    const { plaintext } = await gateway.key();
    for (let i = 0; i < 3; i++) expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect(upstream.connections).toHaveLength(1);
    expect(upstream.connections[0]?.closed).toBe(false);
  });
});

/** The address of a server that is there and accepts nobody: whoever comes stays on the way. */
async function startUnaccepting(): Promise<string> {
  // It stands still once it listens, and the line of those who wait is filled.
  const script = `const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    process.stdout.write(String(server.address().port));
    setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0), 10);
  });`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const waiting: Socket[] = [];
  closeLater({
    close: async () => {
      for (const socket of waiting) socket.destroy();
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    },
  });
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  await vi.waitFor(
    async () => {
      const socket = connect(Number(String(port)), '127.0.0.1');
      waiting.push(socket);
      const connected = once(socket, 'connect').then(() => true);
      expect(await Promise.race([connected, new Promise((resolve) => setTimeout(resolve, 200))])).not.toBe(
        true,
      );
    },
    { interval: 1 },
  );
  return `http://127.0.0.1:${port}`;
}

it.each(LANES)(
  'while its connection to the API still opens: that is given up (fast lane %s)',
  async (FAST_LANE) => {
    const url = await startUnaccepting();
    const gateway = await startTestGateway({ upstreamUrl: url, env: { FAST_LANE } });
    const { plaintext: key } = await gateway.key();
    const connections = async () => {
      const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
      return Number(/^tollgate_gateway_upstream_connections\{.*\} (\d+)$/m.exec(text)?.[1]);
    };
    const socket = connect(gateway.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(`GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\n\r\n`);
    await vi.waitFor(async () => expect(await connections()).toBe(1));
    socket.destroy();
    await vi.waitFor(async () => expect(await connections()).toBe(0), { timeout: 2000, interval: 20 });
  },
);
