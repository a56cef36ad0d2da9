import { type Dispatcher, Pool } from 'undici';
import type { UpstreamSpec } from './route-spec.ts';

/** One server of a route's upstream. */
export class Target {
  readonly url: string;
  readonly origin: string;
  /** The path of the URL without a slash at its end: what every request's path begins with there. */
  readonly basePath: string;
  readonly dispatcher: Dispatcher;
  /** Requests and connections under way, by whichever way they go there. */
  pending = 0;

  constructor(url: string, spec: UpstreamSpec) {
    const { origin, pathname } = new URL(url);
    this.url = url;
    this.origin = origin;
    this.basePath = pathname.replace(/\/+$/, '');
    this.dispatcher = new Pool(origin, {
      allowH2: spec.http2,
      connectTimeout: spec.connectTimeoutMs,
      headersTimeout: spec.timeoutMs,
      bodyTimeout: spec.idleTimeoutMs,
    });
  }
}

/** The servers behind a route: which of them takes the next request, and what is known of their health. */
export class UpstreamGroup {
  readonly spec: UpstreamSpec;
  readonly targets: readonly Target[];

  constructor(spec: UpstreamSpec) {
    this.spec = spec;
    this.targets = spec.urls.map((url) => new Target(url, spec));
  }

  /** The server that should take the next request; `null` when none is fit to. Whoever takes it counts `pending`. */
  pick(): Target | null {
    return this.targets[0] ?? null;
  }

  /** An answer began: the server is well. */
  succeeded(_target: Target): void {}

  /** The server did not answer, or its connection broke before it did. */
  failed(_target: Target): void {}

  /** Lets requests under way finish, then ends all connections. */
  async close(): Promise<void> {
    await Promise.all(this.targets.map(({ dispatcher }) => dispatcher.close()));
  }

  /** Ends all connections. */
  async destroy(): Promise<void> {
    await Promise.all(this.targets.map(({ dispatcher }) => dispatcher.destroy()));
  }
}
