import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, closeLater, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { LISTENER_LIMITS } from '../listener/listener.ts';

afterEach(closeAll);

/** A client that gathers what it receives, behind a gateway in front of this upstream. */
async function open(handler: (req: IncomingMessage, res: ServerResponse) => void, head = 'GET / HTTP/1.1') {
  const upstream = await startUpstream(handler);
  const gateway = await startTestGateway({
    upstreamUrl: upstream.url,
    // Far less than any of these silences last.
    listenerLimits: {
      ...LISTENER_LIMITS,
      headersMs: 100,
      idleMs: 100,
      stalledMs: 100,
      bodyMs: 1000,
      checkMs: 20,
    },
  });
  const { plaintext, id } = await gateway.key();
  const client = { received: '', write: (bytes: string | Buffer) => void socket.write(bytes) };
  const socket = connect(gateway.port, '127.0.0.1');
  socket.write(`${head}\r\nHost: a\r\nX-API-Key: ${plaintext}\r\n\r\n`);
  closeLater({ close: async () => void socket.destroy() });
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    client.received += chunk.toString('latin1');
  });
  return { client, socket, gateway, id };
}

/** Longer than every limit above. */
const silence = () => new Promise((resolve) => setTimeout(resolve, 1500));

describe('server-sent events', () => {
  it('reach the client one by one: each is sent only when the one before has arrived', async () => {
    let send = (_event: string) => {};
    let aborted = false;
    const { client, socket } = await open((_req, res) => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
      res.on('close', () => {
        aborted = true;
      });
      send = (event) => void res.write(`data: ${event}\n\n`);
      res.flushHeaders();
    });
    // The head comes before any event.
    await vi.waitFor(() => expect(client.received).toMatch(/text\/event-stream[\s\S]*\r\n\r\n/));
    for (let i = 0; i < 50; i++) {
      send(`event ${i}`);
      await vi.waitFor(() => expect(client.received).toContain(`data: event ${i}\n\n`), { interval: 1 });
    }
    await silence();
    send('after a silence');
    await vi.waitFor(() => expect(client.received).toContain('after a silence'));
    socket.destroy();
    await vi.waitFor(() => expect(aborted).toBe(true), { interval: 5 });
  });
});

describe('long polling', () => {
  it('an answer that begins after a long silence arrives', async () => {
    let answer = () => {};
    const { client } = await open((_req, res) => {
      answer = () => res.end('at last');
    });
    await silence();
    answer();
    await vi.waitFor(() => expect(client.received).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*at last$/));
  });
});

describe('gRPC-web', () => {
  /** A message and then trailers, each in a frame of flags, length and bytes. */
  const frame = (flags: number, text: string) => {
    const head = Buffer.alloc(5);
    head[0] = flags;
    head.writeUInt32BE(Buffer.byteLength(text), 1);
    return Buffer.concat([head, Buffer.from(text)]);
  };
  const message = frame(0, 'caf\xe9 \0\x01');
  const trailers = frame(0x80, 'grpc-status:0\r\ngrpc-message:\r\n');

  it.each([
    ['binary', 'application/grpc-web+proto', (bytes: Buffer) => bytes],
    ['text', 'application/grpc-web-text', (bytes: Buffer) => Buffer.from(bytes.toString('base64'))],
  ])('%s: messages and the trailers in the body pass as they are', async (_name, type, encode) => {
    let asked = Buffer.alloc(0);
    const upstream = await startUpstream(async (req, res) => {
      for await (const chunk of req) asked = Buffer.concat([asked, chunk as Buffer]);
      res.writeHead(200, { 'Content-Type': type });
      res.write(encode(message));
      res.end(encode(trailers));
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const response = await gateway.get('/api.Service/Method', plaintext, {
      method: 'POST',
      headers: { 'Content-Type': type, 'X-Grpc-Web': '1' },
      body: encode(message) as Buffer<ArrayBuffer>,
    });
    expect(asked.equals(encode(message))).toBe(true);
    expect(response.headers.get('content-type')).toBe(type);
    const body = Buffer.from(await response.arrayBuffer());
    expect(body.equals(Buffer.concat([encode(message), encode(trailers)]))).toBe(true);
    expect(upstream.requests[0]?.headers).toMatchObject({ 'x-grpc-web': '1', 'content-type': type });
  });
});

describe('a stream both ways', () => {
  it('goes on while both sides take turns', async () => {
    const { client } = await open((req, res) => {
      res.flushHeaders();
      req.on('data', (chunk: Buffer) => res.write(`<${chunk}>`));
      req.on('end', () => res.end());
    }, 'POST / HTTP/1.1\r\nTransfer-Encoding: chunked');
    client.write('5\r\nzero!\r\n');
    await vi.waitFor(() => expect(client.received).toContain('<zero!>'));
    await silence();
    for (const word of ['one', 'two', 'three']) {
      client.write(`${word.length}\r\n${word}\r\n`);
      await vi.waitFor(() => expect(client.received).toContain(`<${word}>`), { interval: 1 });
    }
    client.write('0\r\n\r\n');
    await vi.waitFor(() => expect(client.received).toMatch(/0\r\n\r\n$/));
  });
});
