import { type AddressInfo, createServer, type Socket } from 'node:net';
import { closeLater } from './gateways.ts';

/** One connection that the gateway made. */
export type UpstreamConnection = {
  socket: Socket;
  /** All that came on it, as latin1. */
  received: string;
  closed: boolean;
};

export type RawUpstream = {
  url: string;
  port: number;
  /** In the order they were made. */
  connections: UpstreamConnection[];
  /** Heads of requests so far, on all connections. */
  heads(): string[];
};

/**
 * An upstream that says exactly what a test wants, byte by byte.
 *
 * @param onHead called when the head of a request is complete: with its connection, how many requests that connection has
 * carried before, and all connections before
 */
export async function startRawUpstream(
  onHead: (connection: UpstreamConnection, nth: number, upstream: RawUpstream) => void,
): Promise<RawUpstream> {
  const connections: UpstreamConnection[] = [];
  const server = createServer((socket) => {
    const connection: UpstreamConnection = { socket, received: '', closed: false };
    connections.push(connection);
    let heads = 0;
    socket.on('error', () => {});
    socket.on('close', () => {
      connection.closed = true;
    });
    socket.on('data', (chunk) => {
      connection.received += chunk.toString('latin1');
      for (let seen = headsIn(connection.received).length; heads < seen; heads++) {
        onHead(connection, heads, upstream);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const { socket } of connections) socket.destroy();
      }),
  });
  const { port } = server.address() as AddressInfo;
  const upstream: RawUpstream = {
    url: `http://127.0.0.1:${port}`,
    port,
    connections,
    heads: () => connections.flatMap(({ received }) => headsIn(received)),
  };
  return upstream;
}

/** The heads in what was received; bodies in the tests do not look like one. */
function headsIn(received: string): string[] {
  return received.match(/^[A-Z]+ \S+ HTTP\/1\.1\r\n[\s\S]*?\r\n\r\n/gm) ?? [];
}

/** An upstream that answers each request with these bytes, then closes if asked to. */
export function startScripted(
  bytes: string,
  { close = false }: { close?: boolean } = {},
): Promise<RawUpstream> {
  return startRawUpstream(({ socket }) => {
    socket.write(bytes, 'latin1');
    if (close) socket.end();
  });
}
