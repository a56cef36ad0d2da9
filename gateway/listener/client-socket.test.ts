import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, closeLater } from '../../test/gateways.ts';
import { ClientSocket } from './client-socket.ts';

afterEach(closeAll);

/** Both ends of a new connection. `ours`: as it was taken over. */
async function newConnection(): Promise<{ ours: ClientSocket; theirs: Socket; accepted: Socket }> {
  const server = createServer({ allowHalfOpen: true });
  closeLater({ close: () => new Promise<void>((resolve) => void server.close(() => resolve())) });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const arrived = new Promise<Socket>((resolve) => void server.once('connection', resolve));
  const theirs = connect((server.address() as AddressInfo).port, '127.0.0.1');
  theirs.on('error', () => {});
  const accepted = await arrived;
  await vi.waitFor(() => expect(theirs.readyState).toBe('open'));
  const ours = ClientSocket.of(accepted);
  closeLater({
    close: async () => {
      theirs.destroy();
      ours.destroy();
    },
  });
  // An upgrade of Node that no longer has it this way is to be noticed.
  expect(ours).toBeInstanceOf(ClientSocket);
  return { ours: ours as ClientSocket, theirs, accepted };
}

describe('a connection that was taken over', () => {
  it('brings all bytes once and in order, whoever takes them and however often its stream is paused', async () => {
    const piece = fc.record({
      size: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.constantFrom(65_535, 65_536, 65_537, 200_000)),
      takes: fc.boolean(),
      pauses: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 8 }), async (pieces) => {
        const { ours, theirs } = await newConnection();
        const whole = Buffer.concat(pieces.map(({ size }, i) => Buffer.alloc(size, 65 + i)));
        const got: Buffer[] = [];
        let reads = 0;
        const of = () => pieces[reads++ % pieces.length] as (typeof pieces)[number];
        ours.taker = {
          onBytes(bytes, length) {
            const { takes } = of();
            if (takes) got.push(Buffer.from(bytes.subarray(0, length)));
            return takes;
          },
        };
        ours.on('data', (chunk: Buffer) => {
          got.push(chunk);
          if (!of().pauses) return;
          ours.pause();
          setImmediate(() => ours.resume());
        });
        const ended = new Promise<void>((resolve) => void ours.on('end', resolve));
        let from = 0;
        for (const { size } of pieces) {
          theirs.write(whole.subarray(from, from + size));
          from += size;
          await new Promise(setImmediate);
        }
        theirs.end();
        await ended;
        theirs.destroy();
        ours.destroy();
        expect(Buffer.concat(got).equals(whole)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('gives its stream what comes while that holds something', async () => {
    const { ours, theirs } = await newConnection();
    const taken: string[] = [];
    ours.taker = {
      onBytes(bytes, length) {
        taken.push(bytes.toString('latin1', 0, length));
        return true;
      },
    };
    const read: string[] = [];
    ours.on('data', (chunk) => void read.push(`${chunk}`));
    ours.pause();
    theirs.write('one');
    await vi.waitFor(() => expect(ours.readableLength).toBe(3));
    theirs.write('two');
    await vi.waitFor(() => expect(ours.readableLength).toBe(6));
    ours.resume();
    await vi.waitFor(() => expect(read.join('')).toBe('onetwo'));
    theirs.write('three');
    await vi.waitFor(() => expect(taken).toEqual(['three']));
  });

  it('that is paused is read on as far as any stream, and no further', async () => {
    const { ours, theirs } = await newConnection();
    ours.pause();
    theirs.write(Buffer.alloc(10_000_000));
    await vi.waitFor(() => expect(ours.readableLength).toBeGreaterThanOrEqual(ours.readableHighWaterMark));
    expect(ours.bytesRead).toBeLessThanOrEqual(2 * ours.readableHighWaterMark);
    let bytes = 0;
    ours.on('data', (chunk) => {
      bytes += chunk.length;
    });
    ours.resume();
    await vi.waitFor(() => expect(bytes).toBe(10_000_000));
  });

  it('sees its end, also while it is paused, and goes on to send after it', async () => {
    const { ours, theirs } = await newConnection();
    ours.pause();
    theirs.end('last');
    await vi.waitFor(() => expect(ours.readableLength).toBe(4));
    const ended = vi.fn();
    ours.on('data', () => {}).on('end', ended);
    ours.resume();
    await vi.waitFor(() => expect(ended).toHaveBeenCalledOnce());
    const answer = new Promise((resolve) => void theirs.on('data', (chunk) => resolve(`${chunk}`)));
    ours.write('answer');
    expect(await answer).toBe('answer');
  });

  it('says that it was reset', async () => {
    const { ours, theirs } = await newConnection();
    const failed = vi.fn();
    const closed = vi.fn();
    ours.on('error', failed).on('close', closed).resume();
    theirs.resetAndDestroy();
    await vi.waitFor(() => expect(closed).toHaveBeenCalledOnce());
    expect(failed.mock.calls[0]?.[0]).toMatchObject({ code: 'ECONNRESET' });
  });

  it('knows both addresses, and leaves nothing of itself in what it came as', async () => {
    const { ours, theirs, accepted } = await newConnection();
    expect([ours.remoteAddress, ours.remotePort]).toEqual(['127.0.0.1', theirs.localPort]);
    expect([ours.localAddress, ours.localPort]).toEqual(['127.0.0.1', theirs.remotePort]);
    await vi.waitFor(() => expect(accepted.closed).toBe(true));
    expect(ours.destroyed).toBe(false);
  });
});

it('a connection that is over already stays as it is', async () => {
  const { ours } = await newConnection();
  ours.destroy();
  expect(ClientSocket.of(ours)).toBe(ours);
});
