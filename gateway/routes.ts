import type { RouteSpec } from './route-spec.ts';
import { type ServerChange, type Target, UpstreamGroup } from './upstream-group.ts';

/** A route in use. */
export type Route = RouteSpec & { group: UpstreamGroup };

/** Told of changes in what is known of a server. */
export type OnServerChange = (route: RouteSpec, server: Target, change: ServerChange) => void;

/** The routes in force. */
export class Routes {
  #routes: readonly Route[];

  constructor(specs: readonly RouteSpec[], onServerChange: OnServerChange = () => {}) {
    this.#routes = specs.map((spec) => ({
      ...spec,
      group: new UpstreamGroup(spec.upstream, (server, change) => onServerChange(spec, server, change)),
    }));
  }

  get all(): readonly Route[] {
    return this.#routes;
  }

  /**
   * The route of a request, if there is one.
   *
   * @param host the `Host` header as it came
   * @param path the target without its query
   */
  match(_host: string, _path: string): Route | undefined {
    return this.#routes[0];
  }

  async destroy(): Promise<void> {
    await Promise.all(this.#routes.map(({ group }) => group.destroy()));
  }
}
