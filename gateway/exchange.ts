import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Peer } from './client-address.ts';
import type { RequestHead } from './headers.ts';

/** One connection of a client. */
export type Connection = {
  peer: Peer;
  /** Requests on it that have not been answered in full. */
  busy: number;
};

/** One request and its response, with what was found out about it on arrival. */
export type Exchange = {
  req: IncomingMessage;
  res: ServerResponse;
  socket: Socket;
  connection: Connection;
  head: RequestHead;
  /** The target without its query: queries may hold secrets and are never logged. */
  path: string;
  requestId: string;
  /** The client's address. */
  address: string;
  /** For the upstream: the addresses the request came through, as `X-Forwarded-For`. */
  forwardedFor: string;
  forwardedProto: string;
  forwardedHost: string;
  /** `performance.now()` on arrival. */
  startedAt: number;
};
