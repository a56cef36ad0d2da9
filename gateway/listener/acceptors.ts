import type { Server } from 'node:http';
import { type AddressInfo, Server as NetServer, type ServerOpts, type Socket } from 'node:net';

/**
 * Sockets that listen on the same port. libuv takes one connection from each in a turn of the event loop, and a turn in which
 * hundreds of requests are worked on is long: with one socket, hundreds of clients that come at the same moment would
 * wait for seconds.
 */
const SOCKETS = 32;

/** How a connection is set up, by whichever socket it came. */
export type ConnectionOptions = Pick<ServerOpts, 'noDelay' | 'keepAlive' | 'keepAliveInitialDelay'>;

/** What listens for clients. */
export class Acceptors {
  readonly #server: Server;
  readonly #others: NetServer[] = [];

  /**
   * @param server gets all connections
   * @param options those that the server has
   * @param alone listens with the server's own socket only
   */
  constructor(server: Server, options: ConnectionOptions, alone: boolean) {
    this.#server = server;
    // Elsewhere connections are not shared out evenly among such sockets, or there are none.
    if (alone || process.platform !== 'linux') return;
    const pass = (socket: Socket) => void server.emit('connection', socket);
    // As `node:http` has it: a client that sends no more still gets its answer.
    const like: ServerOpts = { ...options, allowHalfOpen: true };
    for (let i = 1; i < SOCKETS; i++) this.#others.push(new NetServer(like, pass));
  }

  /**
   * Starts listening. 0: on any port.
   *
   * @returns the port
   * @throws the system's error, such as EADDRINUSE
   */
  async listen(port: number, host: string): Promise<number> {
    const server = this.#server;
    if (this.#others.length === 0) return listen(server, { port, host });
    // The port has to be free: with `reusePort`, whoever else has it the same way would get a part of the connections.
    if (port !== 0) {
      const probe = new NetServer();
      await listen(probe, { port, host });
      await new Promise((resolve) => probe.close(resolve));
    }
    const taken = await listen(server, { port, host, reusePort: true });
    for (const other of this.#others) await listen(other, { port: taken, host, reusePort: true });
    return taken;
  }

  /** Accepts nobody any more. Connections that are there stay. */
  close(): void {
    // Not the close of `node:http`: it closes connections that are idle at this moment, in the middle of a client's work.
    for (const each of [this.#server, ...this.#others])
      if (each.listening) NetServer.prototype.close.call(each);
  }
}

/** Has a server listen. @returns the port @throws the system's error, such as EADDRINUSE */
export async function listen(
  server: NetServer,
  at: { port: number; host: string; reusePort?: boolean },
): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(at, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return (server.address() as AddressInfo).port;
}
