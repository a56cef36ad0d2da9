import type { Dispatcher } from 'undici';
import type { Allowed } from '../decision/decision.ts';
import type { Route } from '../routes/routes.ts';
import type { Target } from '../upstream/upstream-group.ts';
import type { Arrival } from './exchange.ts';

export type Taken = {
  /** The server that was taken from the group for it. */
  target: Target;
  /** What to go on with where it was asked already; `null`: it was not. */
  asked: Dispatcher | null;
  /** Called instead, when nobody goes on with it: ends what was asked. */
  abandon(): void;
};

/** A request that the fast lane began and the way through `node:http` goes on with. */
export type Begun = {
  arrival: Arrival;
  route: Route;
  /** What was decided and counted; `null` on a public route. */
  allowed: Allowed | null;
  taken: Taken | null;
};
