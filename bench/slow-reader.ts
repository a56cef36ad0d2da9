import type { ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Contender } from './contenders/contender.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { type SeededKeys, seedKeys } from './keys.ts';
import { residentBytes, stop, temporaryFolder } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

const MIB = 2 ** 20;
/** Bytes a second that the client takes. */
const PACE = MIB;
const STEPS_A_SECOND = 10;
/** Requests before: what every gateway needs once it has seen some is not this transfer's cost. */
const WARM_UP = 2000;

/**
 * Memory while a large answer goes to a client that reads a mebibyte a second, from an API that would send it at once.
 * Both paths at the same time: it takes a quarter of an hour, and hardly any work.
 */
export async function benchSlowReader({ quick }: { quick: boolean }): Promise<Outcome> {
  const bytes = quick ? 16 * MIB : 1024 * MIB;
  const folder = temporaryFolder();
  const started: ChildProcess[] = [];
  const api = await startApi(bytes);
  const upstream = `127.0.0.1:${(api.address() as AddressInfo).port}`;
  const contenders = [tollgateNodeHttp, tollgateFastLane].filter((contender) => contender.missing() === null);
  try {
    const figures: Figure[] = [];
    await Promise.all(
      contenders.map(async (contender, i) => {
        const own = join(folder, `${i}`);
        mkdirSync(own);
        // A keystore each: the paths do not share one.
        const keys = await seedKeys(own, 1);
        const setup = { keys, upstream, perKey: 1_000_000, folder: own, core: i, started };
        figures.push(...(await transfer(contender, await contender.start(setup), keys, bytes)));
      }),
    );
    return {
      figures,
      conditions: { MiB: bytes / MIB, 'MiB a second': PACE / MIB },
      madeOf: Object.fromEntries(contenders.map((contender) => [contender.name, contender.madeOf()])),
      leftOut: [],
    };
  } finally {
    await Promise.all(started.map(stop));
    api.close();
  }
}

async function transfer(
  { name }: Contender,
  { url, processes }: { url: string; processes: ChildProcess[] },
  { keys: [key] }: SeededKeys,
  bytes: number,
): Promise<Figure[]> {
  const memory = () => processes.reduce((sum, child) => sum + residentBytes(child), 0);
  const headers = { 'X-API-Key': key?.plaintext as string };
  for (let i = 0; i < WARM_UP; i++) await (await fetch(`${url}/small`, { headers })).arrayBuffer();
  const idle = memory();
  const samples: number[] = [];
  let received = 0;
  let allowed = 0;
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  const closed = new Promise<Error | null>((resolve) => {
    socket.on('error', resolve);
    socket.on('close', () => resolve(null));
  });
  let over = false;
  void closed.then(() => {
    over = true;
  });
  socket.on('data', (chunk) => {
    received += chunk.length;
    if (received >= allowed) socket.pause();
  });
  socket.write(`GET /large HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key?.plaintext}\r\nConnection: close\r\n\r\n`);
  for (let step = 1; !over; step++) {
    allowed += PACE / STEPS_A_SECOND;
    if (received < allowed) socket.resume();
    if (step % STEPS_A_SECOND === 0) samples.push((memory() - idle) / MIB);
    await pause(1000 / STEPS_A_SECOND);
  }
  const error = await closed;
  if (error !== null || received < bytes) throw new Error(`${name}: ${received} of ${bytes} bytes arrived`);
  const figure = (measure: string, runs: number[]) => ({ subject: name, measure, unit: 'MiB', runs });
  return [figure('above idle', samples), figure('above idle at most', [Math.max(...samples)])];
}

/** An API that has as many bytes as anybody takes, as fast as they are taken. */
async function startApi(bytes: number): Promise<Server> {
  const chunk = Buffer.alloc(256 * 1024);
  const server = createServer((socket) => {
    socket.on('error', () => {});
    let left = 0;
    const more = () => {
      while (left > 0 && !socket.destroyed) {
        left -= chunk.length;
        if (!socket.write(chunk)) return;
      }
    };
    socket.on('drain', more);
    socket.on('data', (head) => {
      if (!head.includes('/large')) {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
        return;
      }
      left = bytes;
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\n\r\n`);
      more();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}
