import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { onConnectionFault } from './connection-fault.ts';
import type { Connection } from './exchange.ts';
import { rawProblem, sendAndClose } from './refusal.ts';

/** Bounds on how a client may talk to us, in milliseconds and bytes. */
export type ListenerLimits = {
  /** For the head of a request; against clients that send it byte by byte. */
  headersMs: number;
  /** For a whole request, its body included. */
  requestMs: number;
  /** How long an idle connection is kept. Longer than the 60 s of common load balancers, so that they close first. */
  idleMs: number;
  /** How often the first two are looked at. */
  checkMs: number;
  headBytes: number;
};

export const LISTENER_LIMITS: ListenerLimits = {
  headersMs: 10_000,
  requestMs: 600_000,
  idleMs: 65_000,
  checkMs: 1000,
  headBytes: 16 * 1024,
};

/** How often idle connections are closed while stopping. */
const IDLE_CHECK_MS = 25;

/**
 * The public HTTP listener: bounds, and what arrives on it that is no request. Whatever that is, it gets a problem as its
 * answer where there is still somebody to read it.
 *
 * @param connectionOf what is known of a connection, if a request ever came on it
 */
export function createListener(
  onRequest: RequestListener,
  connectionOf: (socket: Socket) => Connection | undefined,
  limits: ListenerLimits = LISTENER_LIMITS,
): Server {
  const server = createServer({
    headersTimeout: limits.headersMs,
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.idleMs,
    connectionsCheckingInterval: limits.checkMs,
    maxHeaderSize: limits.headBytes,
    noDelay: true,
    // Both get a problem as their answer.
    requireHostHeader: false,
  });
  // By default, lines beyond 2000 are left out without a word. Too many are refused.
  server.maxHeadersCount = 0;
  server.on('request', onRequest);
  // Whether the body is wanted at all is decided first; forwarding says "100 Continue".
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onRequest);
  server.on('connect', (_req, socket) => {
    sendAndClose(socket as Socket, rawProblem('method_not_allowed', 'CONNECT is not for an API.'));
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    onConnectionFault(error, socket as Socket, connectionOf(socket as Socket));
  });
  return server;
}

/** Starts listening. @throws the system's error, such as EADDRINUSE */
export async function listen(server: Server, port: number, host: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return (server.address() as AddressInfo).port;
}

/** Stops accepting, lets requests under way finish, and cuts off those that take longer than `limitMs`. */
export async function stopListening(server: Server, limitMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // A connection whose last request ends now is idle only from then on.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  const cut = setTimeout(() => server.closeAllConnections(), limitMs);
  await closed;
  clearInterval(idle);
  clearTimeout(cut);
}
