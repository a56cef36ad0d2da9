import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { SeededKeys } from './keys.ts';

/**
 * Uses each key once, over so many connections, one request at a time on each. Plain sockets: where first uses are
 * measured, a client library would take a tenth of the machine.
 *
 * @throws Error when a key is not answered 200
 */
export async function useEachKeyOnce(url: string, { keys }: SeededKeys, connections: number): Promise<void> {
  const { hostname, port, host } = new URL(url);
  let next = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      let socket: Socket | null = null;
      for (let key = keys[next++]; key; key = keys[next++]) {
        if (socket === null) {
          socket = connect({ host: hostname, port: Number(port), noDelay: true });
          await once(socket, 'connect');
        }
        socket.write(`GET /v1/items HTTP/1.1\r\nHost: ${host}\r\nX-API-Key: ${key.plaintext}\r\n\r\n`);
        if (await lastAnswer(socket)) {
          socket.destroy();
          socket = null;
        }
      }
      socket?.destroy();
    }),
  );
}

/**
 * Waits for the end of an answer that has a `Content-Length`. Returns whether the connection ends with it.
 *
 * @throws Error when it is not 200, or never comes
 */
async function lastAnswer(socket: Socket): Promise<boolean> {
  const closed = new AbortController();
  const onClose = () => closed.abort(new Error('A connection was closed before its answer was there'));
  socket.once('close', onClose);
  try {
    for (let text = ''; ; ) {
      text += (await once(socket, 'data', { signal: closed.signal }))[0];
      const head = text.indexOf('\r\n\r\n');
      if (head < 0) continue;
      if (!text.startsWith('HTTP/1.1 200 ')) throw new Error(`A key was answered: ${text.slice(0, head)}`);
      const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(text)?.[1];
      if (length === undefined) throw new Error(`An answer without a length: ${text.slice(0, head)}`);
      if (text.length < head + 4 + Number(length)) continue;
      return /\r\nconnection: *close\r\n/i.test(text.slice(0, head + 2));
    }
  } finally {
    socket.off('close', onClose);
  }
}
