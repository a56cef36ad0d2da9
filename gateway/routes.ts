import type { RouteSpec } from './route-spec.ts';
import { UpstreamGroup } from './upstream-group.ts';

/** A route in use. */
export type Route = RouteSpec & { group: UpstreamGroup };

/** The routes in force. */
export class Routes {
  #routes: readonly Route[];

  constructor(specs: readonly RouteSpec[]) {
    this.#routes = specs.map((spec) => ({ ...spec, group: new UpstreamGroup(spec.upstream) }));
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
