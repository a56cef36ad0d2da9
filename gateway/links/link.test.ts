import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { expect, it, vi } from 'vitest';
import { Link } from './link.ts';

it('has something happening on it for as long as the upstream takes the request', async () => {
  const accepted: Socket[] = [];
  const server = createServer({ pauseOnConnect: true }, (socket) => void accepted.push(socket)).listen(
    0,
    '127.0.0.1',
  );
  await once(server, 'listening');
  const clock = { now: 1 };
  const { port } = server.address() as AddressInfo;
  const link = new Link({ host: '127.0.0.1', port }, clock, () => {});
  const user = { onBytes() {}, onBroken() {} };
  const pieces = Array.from({ length: 640 }, (_, n) => Buffer.alloc(64 * 1024, n));
  link.send(user, 'head', pieces);
  await vi.waitFor(() => expect(accepted.length).toBe(1));
  const [upstream] = accepted as [Socket];
  const received: Buffer[] = [];
  let taken = 0;
  let progress = 0;
  upstream.on('data', (chunk: Buffer) => {
    received.push(chunk);
    taken += chunk.length;
  });
  const all = 4 + pieces.length * 64 * 1024;
  while (taken < all) {
    upstream.pause();
    const { activeAt } = link;
    clock.now++;
    const before = taken;
    upstream.resume();
    // The system takes some megabytes ahead of the reader.
    await vi.waitFor(() => expect(taken === all || taken >= before + 1024 * 1024).toBe(true));
    if (link.activeAt > activeAt) progress++;
  }
  await vi.waitFor(() => expect(link.sending).toBe(false));
  expect(progress).toBeGreaterThan(0);
  expect(Buffer.concat(received).equals(Buffer.concat([Buffer.from('head'), ...pieces]))).toBe(true);
  link.destroy();
  server.close();
});
