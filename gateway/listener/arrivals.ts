import type { IncomingMessage, ServerResponse } from 'node:http';
import type { BlockList, Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { clientAddress } from './client-address.ts';
import type { Connections } from './connections.ts';
import { type Arrival, type Connection, doneWith, type Exchange } from './exchange.ts';
import { type RequestHead, readRequestHead } from './headers.ts';
import { requestIdOf } from './request-id.ts';

/** Finds out all that bears on a request from its head and its connection, when it arrives. */
export class Arrivals {
  readonly #connections: Pick<Connections, 'get'>;
  readonly #trustedProxies: BlockList;
  /** Requests being worked on, and those that wait for their turn on their connection. */
  inFlight = 0;

  /** @param trustedProxies proxies whose `X-Forwarded-*` and `X-Request-ID` are believed */
  constructor(connections: Pick<Connections, 'get'>, trustedProxies: BlockList) {
    this.#connections = connections;
    this.#trustedProxies = trustedProxies;
  }

  /**
   * Takes in a request that `node:http` read. {@link leave} has to follow, once. `null`: it came after the last one that
   * is answered on its connection, and nothing may be done with it (RFC 9112 section 9.6).
   */
  arrive(req: IncomingMessage, res: ServerResponse): Exchange | null {
    const { socket } = req;
    const connection = this.connectionOf(socket);
    const arrival = (connection.begun?.arrival ??
      this.read(
        socket,
        connection,
        req.method as string,
        req.url as string,
        readRequestHead(req.rawHeaders),
      )) as Exchange;
    arrival.req = req;
    arrival.res = res;
    if (connection.closing) return null;
    // `node:http` closes after its answer whatever that is, since "100 Continue" was not said; here there is no body to
    // say it for.
    if (arrival.head.expectsContinue && !arrival.head.hasBody && req.httpVersionMinor > 0)
      connection.closing = true;
    connection.busy++;
    connection.before = connection.last;
    connection.last = arrival;
    this.inFlight++;
    return arrival;
  }

  /** What is known of a connection that was taken in. */
  connectionOf(socket: Socket): Connection {
    return this.#connections.get(socket) as Connection;
  }

  /** What bears on a request, from its head and its connection. */
  read(socket: Socket, connection: Connection, method: string, target: string, head: RequestHead): Arrival {
    const { peer } = connection;
    const query = target.indexOf('?');
    // What an unknown peer says of where a request came from is not believed; it is the origin itself.
    const believed = peer.trusted;
    return {
      socket,
      connection,
      method,
      target,
      path: query < 0 ? target : target.slice(0, query),
      head,
      requestId: requestIdOf(head.requestId, believed),
      address: clientAddress(peer, head.forwardedFor, this.#trustedProxies),
      forwardedFor: believed && head.forwardedFor ? `${head.forwardedFor}, ${peer.address}` : peer.address,
      forwardedProto: believed && /^https?$/i.test(head.forwardedProto) ? head.forwardedProto : 'http',
      forwardedHost: believed && head.forwardedHost ? head.forwardedHost : head.host,
      allowed: null,
      startedAt: performance.now(),
      route: null,
    };
  }

  /** The fast lane works on a request. {@link exit} has to follow, once. */
  enter({ connection }: Arrival): void {
    connection.busy++;
    this.inFlight++;
  }

  /** The fast lane is done with a request. */
  exit({ connection }: Arrival): void {
    connection.busy--;
    this.inFlight--;
  }

  /** Calls back when the next request that `node:http` reads from a connection is over, or the connection is closed. */
  onceDoneWith(socket: Socket, then: () => void): void {
    const connection = this.connectionOf(socket);
    connection.doneWith = then;
    if (socket.destroyed) doneWith(connection);
  }

  /** The exchange is over. */
  leave(exchange: Exchange): void {
    const { req, connection } = exchange;
    this.inFlight--;
    doneWith(connection);
    if (req.complete || req.readableEnded) this.#release(exchange);
    // Answered before its body was here: a fault in the rest belongs to this request, which has its answer.
    else {
      req.once('close', () => {
        connection.busy--;
        if (connection.last?.req === req) connection.last = null;
      });
    }
  }

  #release({ res, connection }: Exchange): void {
    connection.busy--;
    // An answer without a socket waits for those before it; until then, nothing else may be written.
    if (connection.last?.res !== res) return;
    if (res.socket !== null) connection.last = null;
    else {
      res.once('close', () => {
        if (connection.last?.res === res) connection.last = null;
      });
    }
  }
}
