import type { Dispatcher } from 'undici';
import type { Allowed } from './decision.ts';
import type { Arrival } from './exchange.ts';
import type { Route } from './routes.ts';
import type { Target } from './upstream-group.ts';

/** A request that the fast lane began and the way through `node:http` goes on with. */
export type Begun = {
  arrival: Arrival;
  route: Route;
  /** What was decided and counted; `null` on a public route. */
  allowed: Allowed | null;
  /** The server that was taken from the group, and what to send the request by; `null`: none was. */
  asked: { target: Target; dispatcher: Dispatcher } | null;
};
