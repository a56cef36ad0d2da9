import type { BlockList, Socket } from 'node:net';
import { addressGroup } from '../../shared/address-group.ts';
import { peerOf } from './client-address.ts';
import { MalformedBody } from './connection-fault.ts';
import { type Connection, doneWith } from './exchange.ts';

/** Bounds on connections: how many, and what one may do with the gateway's time. Milliseconds and bytes. */
export type ConnectionLimits = {
  /** Connections of clients at most. */
  maxConnections: number;
  /** Of these, from one address at most, or of IPv6 from one network (/64). A trusted proxy speaks for many and may have any number. */
  maxConnectionsPerAddress: number;
  /** How long a client may take nothing of an answer that waits for it. */
  stalledMs: number;
  /** A body has to bring `bodyBytes` in each `bodyMs`; the time that the upstream takes to read it does not count. */
  bodyMs: number;
  bodyBytes: number;
  /** How often these are looked at. */
  checkMs: number;
};

/**
 * How long a connection has been idle when it is closed while stopping. Less, and a client in the middle of its work would
 * find its next request cut off; instead that request is answered, and its answer says that the connection closes.
 */
const IDLE_WHILE_STOPPING_MS = 500;
/** How often that is looked at. */
const STOPPING_CHECK_MS = 25;

/** The connections of clients that are open, whoever reads them. */
export class Connections {
  readonly #open = new Map<Socket, Connection>();
  /** Closed ones too: what came before the end may be read after it. */
  readonly #known = new WeakMap<Socket, Connection>();
  readonly #perAddress = new Map<string, number>();
  readonly #trustedProxies: BlockList;
  readonly #anyTrusted: boolean;
  readonly #limits: ConnectionLimits;
  readonly #timer: NodeJS.Timeout;
  #ending = false;
  /** Connections turned away because there were too many. */
  turnedAway = 0;

  constructor(trustedProxies: BlockList, anyTrusted: boolean, limits: ConnectionLimits) {
    this.#trustedProxies = trustedProxies;
    this.#anyTrusted = anyTrusted;
    this.#limits = limits;
    this.#timer = setInterval(() => this.#check(), limits.checkMs);
    this.#timer.unref();
  }

  get count(): number {
    return this.#open.size;
  }

  /** What is known of a connection that was taken in. */
  get(socket: Socket): Connection | undefined {
    return this.#known.get(socket);
  }

  /** Takes in a connection that was just accepted. `null`: there are too many. */
  open(socket: Socket): Connection | null {
    const peer = peerOf(socket, this.#trustedProxies, this.#anyTrusted);
    const client = addressGroup(peer.address);
    const fromThere = this.#perAddress.get(client) ?? 0;
    const { maxConnections, maxConnectionsPerAddress } = this.#limits;
    if (this.#open.size >= maxConnections || (!peer.trusted && fromThere >= maxConnectionsPerAddress)) {
      this.turnedAway++;
      return null;
    }
    const now = performance.now();
    const connection: Connection = {
      peer,
      busy: 0,
      last: null,
      before: null,
      pipeline: null,
      closing: false,
      ending: this.#ending,
      faulted: false,
      upgrade: null,
      underWay: null,
      watched: false,
      said: null,
      begun: null,
      doneWith: null,
      taken: { bytes: 0, at: now },
      body: { of: null, bytes: 0, at: now },
    };
    this.#open.set(socket, connection);
    this.#known.set(socket, connection);
    this.#perAddress.set(client, fromThere + 1);
    socket.once('close', () => {
      this.#open.delete(socket);
      const left = (this.#perAddress.get(client) as number) - 1;
      if (left > 0) this.#perAddress.set(client, left);
      else this.#perAddress.delete(client);
      doneWith(connection);
    });
    return connection;
  }

  /** From now on each connection ends with its next answer. */
  end(): void {
    this.#ending = true;
    for (const connection of this.#open.values()) connection.ending = true;
  }

  /**
   * Waits until all are closed: idle ones are closed, others when their last answer is sent, and what takes longer than
   * `limitMs` is cut off.
   */
  async drained(limitMs: number): Promise<void> {
    const deadline = performance.now() + limitMs;
    const idle = new Map<Socket, { bytes: number; since: number }>();
    while (this.#open.size > 0) {
      const now = performance.now();
      for (const [socket, { busy }] of this.#open) {
        const { bytesRead } = socket;
        const before = idle.get(socket);
        if (now >= deadline) socket.destroy();
        else if (busy > 0 || before?.bytes !== bytesRead) idle.set(socket, { bytes: bytesRead, since: now });
        else if (now - before.since >= IDLE_WHILE_STOPPING_MS) socket.destroy();
      }
      await new Promise((resolve) => setTimeout(resolve, STOPPING_CHECK_MS));
    }
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #check(): void {
    const now = performance.now();
    for (const [socket, connection] of this.#open) {
      // Of one that ends, the last answer may still be on its way.
      if (connection.busy === 0 && !connection.closing && !socket.writableEnded) {
        connection.taken.at = now;
        connection.body.of = null;
        continue;
      }
      if (this.#isStalled(socket, connection, now)) socket.destroy();
      else if (connection.busy > 0) this.#checkBody(socket, connection, now);
    }
  }

  /** Whether something waits to be sent and nothing of it was taken for too long. */
  #isStalled(socket: Socket, { taken }: Connection, now: number): boolean {
    const bytes = socket.bytesWritten - socket.writableLength;
    if (socket.writableLength > 0 && bytes === taken.bytes) return now - taken.at > this.#limits.stalledMs;
    taken.bytes = bytes;
    taken.at = now;
    return false;
  }

  #checkBody(socket: Socket, { last, body, pipeline }: Connection, now: number): void {
    if (last === null || last.req.complete) return;
    // Nobody reads it before its turn.
    if (pipeline !== null && pipeline.waiting > 0) return;
    // A stream both ways may be quiet: while there is an answer under way, its pauses are the conversation's.
    if (last.res.headersSent && !last.res.writableEnded) return;
    if (body.of === last && !socket.isPaused()) {
      if (now - body.at < this.#limits.bodyMs) return;
      if (socket.bytesRead - body.bytes < this.#limits.bodyBytes) {
        if (last.req.listenerCount('error') > 0) last.req.emit('error', new MalformedBody('request_timeout'));
        else socket.destroy();
      }
    }
    body.of = last;
    body.bytes = socket.bytesRead;
    body.at = now;
  }
}
