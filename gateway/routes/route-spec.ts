/** A route as it was configured and checked. Times in milliseconds. */
export type RouteSpec = {
  /** For logs and metrics. */
  name: string;
  /** Host names in lower case, without port; `*.example.com` stands for every name below. Empty: any host. */
  hosts: readonly string[];
  /** A path prefix that ends at a segment: `/v1` covers `/v1` and `/v1/items`, not `/v10`. `/` covers all. */
  path: string;
  /** What replaces `path` at the upstream; `null`: the path stays as it is. */
  rewrite: string | null;
  upstream: UpstreamSpec;
  policy: RoutePolicy;
};

/** Who may use a route, and how. */
export type RoutePolicy = {
  /** `public`: without a key. One that is sent is still kept from the upstream. */
  access: 'key' | 'public';
  /** Features that the key's plan or entitlements must include, all of them. */
  features: readonly string[];
  cost: Cost;
  /** `null`: any. */
  methods: readonly string[] | null;
  /** `null`: any size. */
  maxBodyBytes: number | null;
  cors: CorsPolicy | null;
  /** Requests that one key may have under way on this route at a moment; `null`: any number. */
  concurrency: number | null;
};

/**
 * How many requests of its limits and quota a request counts as. With a header, the upstream says so in its answer:
 * `estimate` is counted at first, and put right when the answer is there.
 */
export type Cost = number | { header: string; estimate: number };

/** What browsers of other origins may do (https://fetch.spec.whatwg.org/#http-cors-protocol). */
export type CorsPolicy = {
  origins: readonly string[] | '*';
  methods: readonly string[];
  headers: readonly string[];
  exposedHeaders: readonly string[];
  credentials: boolean;
  maxAgeSeconds: number;
};

/** The servers behind a route, and how they are spoken to. */
export type UpstreamSpec = {
  /** `http://` or `https://`, each perhaps with a base path; at least one. */
  urls: readonly string[];
  connectTimeoutMs: number;
  /** How long the upstream may take to begin its answer. */
  timeoutMs: number;
  /** How long an answer may pause between two chunks. */
  idleTimeoutMs: number;
  /** Connections to each server at most; requests beyond wait. */
  maxConnections: number;
  /** How long a request may wait for a connection. */
  queueTimeoutMs: number;
  http2: boolean;
  tls: TlsSpec | null;
  /** A header that tells the upstream that the request came through here. Never taken from a client. */
  secret: { header: string; value: string } | null;
  health: HealthSpec | null;
  circuit: CircuitSpec;
  /** Retries at most, as a share of the requests of the last ten seconds. */
  retryBudget: number;
};

/** PEM texts, not paths. */
export type TlsSpec = {
  ca: string | null;
  cert: string | null;
  key: string | null;
  serverName: string | null;
  verify: boolean;
};

/** Active health checks: a `GET` of `path`, healthy when it is answered 2xx or 3xx in time. */
export type HealthSpec = {
  path: string;
  intervalMs: number;
  timeoutMs: number;
  healthyAfter: number;
  unhealthyAfter: number;
};

/** Passive health: so many failures in a row and a server is left alone for a while, then tried with one request. */
export type CircuitSpec = { failures: number; openMs: number };

export const POLICY_DEFAULTS: RoutePolicy = {
  access: 'key',
  features: [],
  cost: 1,
  methods: null,
  maxBodyBytes: null,
  cors: null,
  concurrency: null,
};

/** An answer may pause for longer than its first byte may take: streams have quiet times. */
export const UPSTREAM_DEFAULTS: Omit<UpstreamSpec, 'urls'> = {
  connectTimeoutMs: 5000,
  timeoutMs: 60_000,
  idleTimeoutMs: 300_000,
  maxConnections: 1024,
  queueTimeoutMs: 5000,
  http2: false,
  tls: null,
  secret: null,
  health: null,
  circuit: { failures: 5, openMs: 5000 },
  retryBudget: 0.2,
};

/** The one route of `UPSTREAM_URL`: everything, with a key. */
export function routeTo(url: string, timeoutMs: number): RouteSpec {
  return {
    name: 'default',
    hosts: [],
    path: '/',
    rewrite: null,
    upstream: {
      ...UPSTREAM_DEFAULTS,
      urls: [url],
      timeoutMs,
      idleTimeoutMs: Math.max(timeoutMs, UPSTREAM_DEFAULTS.idleTimeoutMs),
    },
    policy: POLICY_DEFAULTS,
  };
}
