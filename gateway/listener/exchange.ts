import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Allowed } from '../decision/decision.ts';
import type { Route } from '../routes/routes.ts';
import type { Begun } from './begun.ts';
import type { Peer } from './client-address.ts';
import type { RequestHead } from './headers.ts';
import type { Pipeline } from './pipeline.ts';

/** One connection of a client. */
export type Connection = {
  peer: Peer;
  /** Requests on it that have not been answered in full. */
  busy: number;
  /** The newest request that `node:http` read from it, until it is answered. */
  last: Exchange | null;
  /** The one before that, if it was not answered when the newest came; looked at then, and not kept. */
  before: Exchange | null;
  /** Those that wait for the ones before them; `null`: none ever had to. */
  pipeline: Pipeline | null;
  /** The last request that will be answered on it is here: whatever comes after that is not read as one. */
  closing: boolean;
  /** The gateway is stopping: the newest request is the last one. */
  ending: boolean;
  /** What came on it last could not be read as HTTP. */
  faulted: boolean;
  /** What the client had taken of what was sent to it, and when that was last more than before. */
  taken: { bytes: number; at: number };
  /** What it had sent when its body was last found to come fast enough, and when that was. */
  body: { of: Exchange | null; bytes: number; at: number };
  /** It asks to become a WebSocket, and this came after the handshake; `null`: it does not. */
  upgrade: Buffer | null;
  /** Who works on a request of it and has to know when it is closed. One at a time: see `pipeline.ts`. */
  underWay: { clientGone(): void } | null;
  /** Somebody listens for that. */
  watched: boolean;
  /**
   * What was last said upstream of the way its requests take, after the end of the line before; `null`: nothing. See
   * `upstream-headers.ts`.
   */
  said: { host: string; lines: string } | null;
  /** The next request on it was begun in the fast lane; `null`: it was not. */
  begun: Begun | null;
  /** Called when the next request that `node:http` reads from it is over, or it is closed; `null`: nobody waits for that. */
  doneWith: (() => void) | null;
};

/** A request as it arrived, with what was found out about it from its head and its connection. */
export type Arrival = {
  socket: Socket;
  connection: Connection;
  method: string;
  /** The request target as it came. */
  target: string;
  /** The target without its query: queries may hold secrets and are never logged. */
  path: string;
  head: RequestHead;
  requestId: string;
  /** The client's address. */
  address: string;
  /** For the upstream: the addresses the request came through, as `X-Forwarded-For`. */
  forwardedFor: string;
  forwardedProto: string;
  forwardedHost: string;
  /** What was decided and counted; `null`: nothing was, or it was refused. */
  allowed: Allowed | null;
  /** `performance.now()` on arrival. */
  startedAt: number;
  /** The route it takes; `null`: it is not known yet, or there is none. */
  route: Route | null;
};

/** An arrival that `node:http` read, with its response. */
export type Exchange = Arrival & { req: IncomingMessage; res: ServerResponse };

/**
 * Ends the connection with the answer to this request, which has to carry `Connection: close`: unless a later request is
 * here already, nothing that comes after this one is read as a request. Returns whether it is so.
 */
export function closeAfter(exchange: Exchange): boolean {
  const { connection } = exchange;
  if (connection.last !== exchange) return false;
  connection.closing = true;
  return true;
}

/** Whoever waits for that is told that `node:http` has done with a request on the connection. */
export function doneWith(connection: Connection): void {
  const then = connection.doneWith;
  connection.doneWith = null;
  then?.();
}
