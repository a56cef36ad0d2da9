import { isIP } from 'node:net';
import { type ConnectionOptions, TLSSocket } from 'node:tls';
import { buildConnector, Client, Pool } from 'undici';
import type { TlsSpec, UpstreamSpec } from '../routes/route-spec.ts';
import { watchForBreak } from './broken-connection.ts';
import { Circuit } from './circuit.ts';
import { noticeResets } from './http2-resets.ts';

/**
 * How long a connection to a host name is used. A name may come to mean other addresses, and a connection that is never
 * idle would hold on to the old one for ever: each new one looks the name up again.
 */
const CONNECTION_AGE_MS = 60_000;

/** Requests at a time on one HTTP/2 connection; fewer where the server wants fewer. */
const STREAMS = 100;

/** One server of a route's upstream. */
export class Target {
  readonly url: string;
  /** For logs and metrics too: it holds no secret. */
  readonly origin: string;
  /** The path of the URL without a slash at its end: what every request's path begins with there. */
  readonly basePath: string;
  /** For connections over TLS, by whoever makes them; `null`: without TLS. */
  readonly tls: ConnectionOptions | null;
  /** After so many milliseconds a connection takes no further request; `null`: it may be kept for ever. */
  readonly connectionAgeMs: number | null;
  readonly circuit: Circuit;
  /** What active health checks say. */
  healthy = true;
  /** Requests and connections under way, by whichever way they go there. The group counts them. */
  pending = 0;
  /**
   * Connections that are open or being opened, idle ones too, by whoever made them. The dispatcher's count themselves.
   * At most `maxConnections` requests are under way, so when there are that many connections, one of them is idle.
   */
  connections = 0;
  /** Set by who keeps idle connections beside the dispatcher's: closes one, so that another may be opened. */
  closeIdle: (() => void) | null = null;
  /** The server is no longer in use: its connections end as they become idle. */
  ended = false;
  /** Set by who keeps connections beside the dispatcher's, to be told of that. */
  onEnded: (() => void) | null = null;
  readonly #spec: UpstreamSpec;
  #dispatcher: Pool;

  constructor(url: string, spec: UpstreamSpec) {
    const { origin, pathname, protocol, hostname } = new URL(url);
    this.url = url;
    this.origin = origin;
    this.basePath = pathname.replace(/\/+$/, '');
    this.tls = protocol === 'https:' ? tlsOptions(spec.tls) : null;
    const named = isIP(hostname.replace(/^\[|\]$/g, '')) === 0 && hostname !== 'localhost';
    this.connectionAgeMs = named ? CONNECTION_AGE_MS : null;
    // Without another server to take its requests, trying a server rarely gains nothing.
    this.circuit = new Circuit(spec.circuit, spec.urls.length > 1);
    this.#spec = spec;
    if (spec.http2) noticeResets();
    this.#dispatcher = this.#pool();
  }

  /** Sends requests there. Not to be kept: it may be another one for the next request. */
  get dispatcher(): Pool {
    return this.#dispatcher;
  }

  get hasRoom(): boolean {
    return this.pending < this.#spec.maxConnections;
  }

  /** Ends the idle connections, and the others as soon as they are idle. Requests may still come. */
  async close(): Promise<void> {
    const old = this.#dispatcher;
    this.#dispatcher = this.#pool({ pipelining: 0 });
    this.ended = true;
    this.onEnded?.();
    await old.close();
  }

  /** Ends all connections. */
  async destroy(): Promise<void> {
    this.ended = true;
    this.onEnded?.();
    await this.#dispatcher.destroy();
  }

  /**
   * No more requests come here at a time than it may have connections. So none waits in the pool's queue, where nothing
   * bounds its waiting, but for the moment in which a connection gets ready for its next request.
   */
  #pool(more: Pool.Options = {}): Pool {
    const { http2, timeoutMs, idleTimeoutMs, maxConnections } = this.#spec;
    const pool = new Pool(this.origin, {
      connections: maxConnections,
      allowH2: http2,
      headersTimeout: timeoutMs,
      bodyTimeout: idleTimeoutMs,
      clientTtl: this.connectionAgeMs,
      connect: this.#connector(),
      ...(http2 ? { factory: multiplexingClient } : {}),
      ...more,
    });
    if (http2) pool.on('connectionError', (_origin, _targets, error) => this.#failQueued(pool, error));
    return pool;
  }

  #connector(): buildConnector.connector {
    const { http2, connectTimeoutMs, maxConnections } = this.#spec;
    const connect = buildConnector({
      ...this.tls,
      allowH2: http2,
      preferH2: true,
      timeout: connectTimeoutMs,
    });
    return (options, callback) => {
      if (this.connections >= maxConnections) this.closeIdle?.();
      this.connections++;
      connect(options, (...result) => {
        const [error, socket] = result;
        if (error) {
          this.connections--;
          callback(...result);
          return;
        }
        socket.once('close', () => this.connections--);
        watchForBreak(socket, () => callback(...result));
      });
    };
  }

  /**
   * While the first connection finds out whether the server speaks HTTP/2, the pool lets all other requests wait for it,
   * and after a failure lets one of them after the other try again. If it failed for one, it did for all.
   */
  #failQueued(pool: Pool, error: Error): void {
    if (pool !== this.#dispatcher || pool.stats.running > 0 || pool.stats.queued === 0) return;
    this.#dispatcher = this.#pool();
    void pool.destroy(error);
  }
}

/**
 * A client that, when its connection takes no more requests because the server said goodbye, opens another one although
 * answers are still coming on the first. By itself it would let the next request wait for the last of them.
 */
function multiplexingClient(origin: URL, options: object): Client {
  const { connect, ...rest } = options as Client.Options & { connect: buildConnector.connector };
  const client = new Client(origin, {
    ...rest,
    pipelining: STREAMS,
    connect: (to, callback) =>
      connect(to, (...result) => {
        const [, socket] = result;
        // The server prefers HTTP/1.1, where one connection carries one request at a time.
        if (socket instanceof TLSSocket && socket.alpnProtocol !== 'h2') client.pipelining = 1;
        callback(...result);
      }),
  });
  return client;
}

/** How TLS is spoken to a server. Verified, unless the route says otherwise; never below TLS 1.2. */
function tlsOptions(spec: TlsSpec | null): ConnectionOptions {
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: spec?.verify ?? true,
    ...(spec?.ca ? { ca: spec.ca } : {}),
    ...(spec?.cert ? { cert: spec.cert } : {}),
    ...(spec?.key ? { key: spec.key } : {}),
    ...(spec?.serverName ? { servername: spec.serverName } : {}),
  };
}
