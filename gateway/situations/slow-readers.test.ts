import { execFileSync } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startGatewayProgram } from '../../test/gateway-program.ts';
import { closeAll } from '../../test/gateways.ts';
import type { RunningProgram } from '../../test/processes.ts';
import { type RawUpstream, startRawUpstream } from '../../test/raw-upstreams.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
/** What a transfer may cost in memory, whatever its size. */
const LIMIT = 50 * MiB;
/** What the kernel may hold for the two connections, and both sides' processes in their own buffers. */
const ON_THE_WAY = 40 * MiB;
const PACE = 1 * MiB;

/** In front of an upstream of this process. */
let gateway: RunningProgram;
let port: number;
let lines: string;
let upstream: RawUpstream;
let answer: (socket: Socket) => void;
beforeAll(async () => {
  upstream = await startRawUpstream(({ socket }) => answer(socket));
  const started = await startGatewayProgram(upstream.url);
  gateway = started.program;
  port = started.port;
  lines = `Host: h\r\nX-API-Key: ${started.key}\r\n`;
});
afterAll(async () => {
  await gateway.stop();
  await closeAll();
});
let client: Socket;
afterEach(() => {
  client.destroy();
  for (const { socket } of upstream.connections) socket.destroy();
});

/** Bytes of memory that the gateway has at the moment. */
function memory(): number {
  return (
    1024 * Number(execFileSync('ps', ['-o', 'rss=', '-p', `${gateway.child.pid}`], { encoding: 'utf8' }))
  );
}

/** Sends as much as is taken. Returns how much that was so far. */
function sendAll(socket: Socket, total: number): () => number {
  const chunk = Buffer.alloc(256 * 1024);
  const before = socket.bytesWritten;
  let left = total;
  const more = () => {
    while (left > 0 && !socket.destroyed) {
      left -= chunk.length;
      if (!socket.write(chunk)) return;
    }
  };
  socket.on('drain', more);
  more();
  return () => socket.bytesWritten - before - socket.writableLength;
}

/** Reads a mebibyte a second for two seconds, then nothing at all until `sent` stands still. Returns the highest `memory`. */
async function readSlowly(socket: Socket, sent: () => number): Promise<{ received: number; peak: number }> {
  let received = 0;
  let allowed = PACE;
  let peak = memory();
  socket.on('data', (chunk) => {
    received += chunk.length;
    if (received >= allowed) socket.pause();
  });
  socket.resume();
  for (let second = 1; second <= 2; second++) {
    await vi.waitFor(() => expect(received).toBeGreaterThanOrEqual(allowed), {
      timeout: 20_000,
      interval: 100,
    });
    peak = Math.max(peak, memory());
    allowed += PACE;
    // Not a wait for something to happen: this is the pace.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    socket.resume();
  }
  allowed = 0;
  let before = -1;
  await vi.waitFor(
    () => {
      peak = Math.max(peak, memory());
      const still = sent() === before;
      before = sent();
      expect(still).toBe(true);
    },
    { interval: 300 },
  );
  return { received, peak };
}

describe('a gibibyte', () => {
  beforeAll(async () => {
    // What every gateway needs once it has seen a request is not a transfer's cost.
    answer = (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    for (let i = 0; i < 50; i++) {
      const response = await fetch(`http://127.0.0.1:${port}/`, {
        headers: { 'X-API-Key': /X-API-Key: (.*)\r/.exec(lines)?.[1] as string },
      });
      expect(response.status).toBe(200);
      await response.arrayBuffer();
    }
  });

  it('for a client that reads slowly, then not at all: the upstream waits, memory does not grow', async () => {
    let sent = () => 0;
    answer = (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${GiB}\r\n\r\n`);
      sent = sendAll(socket, GiB);
    };
    const idle = memory();
    client = connect(port, '127.0.0.1', () => client.write(`GET / HTTP/1.1\r\n${lines}\r\n`));
    const { received, peak } = await readSlowly(client, () => sent());
    expect(peak - idle).toBeLessThan(LIMIT);
    expect(received).toBeGreaterThan(2 * PACE);
    expect(sent()).toBeLessThan(received + ON_THE_WAY);
  });

  it('for an upstream that reads slowly, then not at all: the client waits, memory does not grow', async () => {
    const arrived = new Promise<Socket>((resolve) => {
      answer = resolve;
    });
    const idle = memory();
    let sent = () => 0;
    client = connect(port, '127.0.0.1', () => {
      client.write(`POST / HTTP/1.1\r\n${lines}Content-Length: ${GiB}\r\n\r\n`);
      sent = sendAll(client, GiB);
    });
    const socket = await arrived;
    // Its own listener, which keeps all it gets, would read at any pace.
    socket.removeAllListeners('data');
    socket.pause();
    const { received, peak } = await readSlowly(socket, () => sent());
    expect(peak - idle).toBeLessThan(LIMIT);
    expect(received).toBeGreaterThan(2 * PACE);
    expect(sent()).toBeLessThan(received + ON_THE_WAY);
  });
});
