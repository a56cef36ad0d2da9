/** A window as the gateway that asks knows it; a list, as it travels. */
export type AskedWindow = readonly [
  limit: number,
  lengthMs: number,
  /** What is known to be used of it, for a server that lost it. */
  used: number,
  /** What was counted here alone while the server was away, to be added. */
  unsent: number,
  /** How long it still runs as far as is known; 0: no such window is known. */
  leftMs: number,
];

/** Whose windows, and which of them. */
type WindowsOf = { of: 'requests' | 'messages'; rootId: string };

/** Counts one request in all windows of a chain, or in none. */
export type Spend = WindowsOf & {
  /** What is counted; 0 only looks, where nothing is needed either. */
  cost: number;
  /** What has to be left in each window; 0: nothing has. */
  needed: number;
  windows: readonly AskedWindow[];
};

/** Puts right what a request was counted as. */
export type Settle = WindowsOf & {
  difference: number;
  /** How long ago the request was counted, milliseconds. */
  agoMs: number;
  lengthsMs: readonly number[];
};

/**
 * What counts windows for several gateways, each request in one step that nothing comes between. Both ways of asking reject
 * with {@link CounterServerAway}: at once when it is known to be away, and after a time that is bounded when it turns out to be.
 */
export type CounterServer = {
  /** What metrics call it. */
  readonly name: 'redis' | 'primary';
  /** Whether it answers. */
  readonly up: boolean;
  /** Connects. Waits for it for a moment at most: the rest is done in the background. */
  start(): Promise<void>;
  /** Returns whether it was counted (1 or 0), then for each window what is used and the milliseconds until it ends (-1: it has not begun). */
  spend(call: Spend): Promise<readonly number[]>;
  /** Returns for each window what is used and the milliseconds until it ends (-1: it has not begun). */
  settle(call: Settle): Promise<readonly number[]>;
  close(): void;
};

/**
 * What is given back goes only into windows that had begun when the request was counted, or so long after at the most: as long
 * as a decision takes. Milliseconds.
 */
export const DECISION_MS = 60;

/** The server does not answer, or not in time. Whether the call was carried out cannot be told. */
export class CounterServerAway extends Error {
  constructor(server: string, why: string, options?: ErrorOptions) {
    super(`${server} is away: ${why}`, options);
    this.name = 'CounterServerAway';
  }
}

/** A server failed to answer a call, and can tell that it counted nothing should it turn out that it refused it. */
export class CallFailed extends CounterServerAway {
  /** Has something done when it is known that the call was refused: at once, later or never. */
  readonly whenRefused: (then: () => void) => void;

  constructor(server: string, why: string, cause: Error, whenRefused: (then: () => void) => void) {
    super(server, why, { cause });
    this.name = 'CallFailed';
    this.whenRefused = whenRefused;
  }
}
