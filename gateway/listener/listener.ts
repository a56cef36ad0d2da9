import { createServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { rawProblem, sendAndClose } from '../answers/refusal.ts';
import { acceptWebSockets, isHandshake } from '../websockets/websockets.ts';
import type { Acceptors, ConnectionOptions } from './acceptors.ts';
import { onConnectionFault } from './connection-fault.ts';
import type { ConnectionLimits, Connections } from './connections.ts';

/** Bounds on how a client may talk to us, in milliseconds and bytes. */
export type ListenerLimits = Omit<ConnectionLimits, 'maxConnections' | 'maxConnectionsPerAddress'> & {
  /** For the head of a request; against clients that send it byte by byte. */
  headersMs: number;
  /** How long an idle connection is kept. Longer than the 60 s of common load balancers, so that they close first. */
  idleMs: number;
  headBytes: number;
  /**
   * How long a request of up to a mebibyte may take from its first packet to its last to be read in one go. Whoever
   * expects an answer to its head alone waits as long for it, so it is not long.
   */
  gatherMs: number;
};

/** A body has no limit to its time, only to its slowness: 100 bytes a second. */
export const LISTENER_LIMITS: ListenerLimits = {
  headersMs: 10_000,
  idleMs: 65_000,
  headBytes: 16 * 1024,
  gatherMs: 100,
  stalledMs: 60_000,
  bodyMs: 30_000,
  bodyBytes: 3000,
  checkMs: 1000,
};

/** How long a connection that was turned away is kept for its answer to be read. */
const TURN_AWAY_MS = 1000;

/**
 * The public HTTP listener: bounds, and what arrives on it that is no request. Whatever that is, it gets a problem as its
 * answer where there is still somebody to read it.
 */
export function createListener(
  onRequest: RequestListener,
  connections: Pick<Connections, 'get'>,
  limits: ListenerLimits = LISTENER_LIMITS,
): Server {
  const server = createServer({
    headersTimeout: limits.headersMs,
    // Bodies are looked after by `Connections`.
    requestTimeout: 0,
    keepAliveTimeout: limits.idleMs,
    connectionsCheckingInterval: limits.checkMs,
    maxHeaderSize: limits.headBytes,
    ...connectionOptions(limits),
    // A request without a body has no stream to be read to its end: `end` and `close` never come.
    optimizeEmptyRequests: true,
    // Answered with a problem.
    requireHostHeader: false,
    shouldUpgradeCallback: (req) => isHandshake(req, connections),
  });
  // By default, lines beyond 2000 are left out without a word. Too many are refused.
  server.maxHeadersCount = 0;
  server.on('request', onRequest);
  // Whether the body is wanted at all is decided first; forwarding says "100 Continue".
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onRequest);
  acceptWebSockets(server, connections, onRequest);
  server.on('connect', (_req, socket) => {
    sendAndClose(socket as Socket, rawProblem('method_not_allowed', 'CONNECT is not for an API.'));
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const connection = connections.get(socket as Socket);
    const fault = () => onConnectionFault(error, socket as Socket, connection);
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && connection?.pipeline?.full)
      connection.pipeline.onLateHead(fault, limits.headersMs);
    else fault();
  });
  return server;
}

/** How connections to the listener are set up. */
export function connectionOptions({ idleMs }: ListenerLimits): ConnectionOptions {
  // `keepAlive` finds clients that vanished without a word, on connections that are silent for long.
  return { noDelay: true, keepAlive: true, keepAliveInitialDelay: idleMs };
}

/** Has the connections of a listener counted before anybody reads them. To be called when all who do are there. */
export function countConnections(server: Server, connections: Pick<Connections, 'open'>): void {
  beforeReaders(server, (socket, next) => {
    if (connections.open(socket) === null) turnAway(socket);
    else next(socket);
  });
}

/** Gives somebody the connections of a listener before those get them who do now, which are `next`. */
export function beforeReaders(
  server: Server,
  first: (socket: Socket, next: (socket: Socket) => void) => void,
): void {
  const readers = server.listeners('connection');
  const next = (socket: Socket) => {
    for (const reader of readers) reader.call(server, socket);
  };
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => first(socket, next));
}

/** One connection too many. What it sends is taken for a moment, so that it gets to read why. */
function turnAway(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), TURN_AWAY_MS);
  socket.once('close', () => clearTimeout(timer));
  socket.on('error', () => socket.destroy());
  socket.resume();
  socket.end(rawProblem('overloaded', 'There are too many connections.', ['Retry-After: 1']));
}

/** Stops accepting, lets requests under way finish, and cuts off those that take longer than `limitMs`. */
export async function stopListening(
  server: Server,
  acceptors: Pick<Acceptors, 'close'>,
  connections: Connections,
  limitMs: number,
): Promise<void> {
  acceptors.close();
  await connections.drained(limitMs);
  connections.stop();
  server.close();
}
