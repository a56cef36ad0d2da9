import type { AddressInfo, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { SERVER } from './certificates.ts';
import { closeLater } from './gateways.ts';

/** Types of frames (RFC 9113 section 6). */
export const DATA = 0;
export const HEADERS = 1;
export const RST_STREAM = 3;
const SETTINGS = 4;

/** A frame of the first stream, or of the connection (RFC 9113 section 4.1). */
export function frame(type: number, flags: number, payload: Buffer, stream = 1): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A server that answers its first request with frames made by hand: what no library would send. */
export async function rawH2Server(answer: Buffer) {
  const sockets: Socket[] = [];
  const server = createTlsServer({ ...SERVER, ALPNProtocols: ['h2'] }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.write(frame(SETTINGS, 0, Buffer.alloc(0), 0));
    let received = Buffer.alloc(0);
    const onData = (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (!hasRequest(received)) return;
      socket.off('data', onData);
      socket.resume();
      socket.write(answer);
    };
    socket.on('data', onData);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  });
  const { port } = server.address() as AddressInfo;
  return { url: `https://localhost:${port}`, send: (bytes: Buffer) => sockets[0]?.write(bytes) };
}

/** Whether the head of the first request is among the frames after the preface (RFC 9113 section 3.4). */
function hasRequest(received: Buffer): boolean {
  let at = 24;
  while (at + 9 <= received.length) {
    if (received[at + 3] === HEADERS) return true;
    at += 9 + received.readUIntBE(at, 3);
  }
  return false;
}
