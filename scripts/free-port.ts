import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Systems hand out ports above these, to whoever asks for any: a process that starts again would find its own taken. */
const [LOWEST, HIGHEST] = [15_000, 30_000];

/**
 * A port of the loopback address that nothing listens on right now, and that no other call gets, here or in another
 * process, while this process lives: whoever listens on it may stop and start again.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(LOWEST, HIGHEST);
    if ((await claims(port)) && (await isFree(port))) return port;
  }
}

/** Holds the port of the same number for UDP, which nothing here uses, until the process ends. */
async function claims(port: number): Promise<boolean> {
  const socket = createSocket('udp4').unref();
  try {
    socket.bind({ port, address: '127.0.0.1', exclusive: true });
    await once(socket, 'listening');
    return true;
  } catch (error) {
    socket.close();
    if (!isTaken(error)) throw error;
    return false;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen({ port, host: '127.0.0.1', exclusive: true });
    await once(server, 'listening');
  } catch (error) {
    if (!isTaken(error)) throw error;
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}

function isTaken(error: unknown): boolean {
  return ['EADDRINUSE', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '');
}
