import { isDeepStrictEqual } from 'node:util';
import { type ServerChange, type Target, UpstreamGroup } from '../upstream/upstream-group.ts';
import { isBelow, type PathReadings, readPath } from './path-readings.ts';
import type { RoutePolicy, RouteSpec } from './route-spec.ts';

/** A route in use. Routes whose upstreams are described alike share their servers. */
export type Route = RouteSpec & { group: UpstreamGroup };

/** Why a request has no route: none covers its path, or it is not the same path to every server. */
export type NoRoute = 'none' | 'unclear_path';

/** Told of changes in what is known of a server. `route` is the first of those that it serves. */
export type OnServerChange = (route: RouteSpec, server: Target, change: ServerChange) => void;

/** Told when a route, by its name, gets another policy. */
export type OnPolicyChange = (before: RoutePolicy, after: RoutePolicy) => void;

/** The routes in force. */
export class Routes {
  readonly #onServerChange: OnServerChange;
  readonly #onPolicyChange: OnPolicyChange;
  /** Groups that no route has any more, while requests are under way there. */
  readonly #retired = new Set<UpstreamGroup>();
  #routes: readonly Route[] = [];
  /** By what is configured of them. */
  #groups: ReadonlyMap<string, UpstreamGroup> = new Map();
  #table: RouteTable = new RouteTable([]);

  constructor(
    specs: readonly RouteSpec[],
    onServerChange: OnServerChange = () => {},
    onPolicyChange: OnPolicyChange = () => {},
  ) {
    this.#onServerChange = onServerChange;
    this.#onPolicyChange = onPolicyChange;
    this.replace(specs);
  }

  get all(): readonly Route[] {
    return this.#routes;
  }

  /**
   * The route of a request: of the most specific host that has one for its path, the one with the longest prefix.
   *
   * A path that a server could take for one of another route is no route's; a single route for everything takes any.
   *
   * @param host the `Host` header as it came
   * @param path the target without its query
   */
  match(host: string, path: string): Route | NoRoute {
    return this.#table.match(host, path);
  }

  /**
   * Puts other routes into force. Requests under way go on with what they began with; servers that are described as
   * before keep their connections and what is known of their health.
   */
  replace(specs: readonly RouteSpec[]): void {
    const before = new Map(this.#routes.map((route) => [route.name, route]));
    const groups = new Map<string, UpstreamGroup>();
    this.#routes = specs.map((spec) => {
      const key = JSON.stringify(spec.upstream);
      const group = groups.get(key) ?? this.#groups.get(key) ?? this.#newGroup(spec);
      groups.set(key, group);
      const old = before.get(spec.name);
      const route = goOn(old, spec, group);
      if (old !== undefined && old.policy !== route.policy) this.#onPolicyChange(old.policy, route.policy);
      return route;
    });
    this.#table = new RouteTable(this.#routes);
    for (const [key, group] of this.#groups) if (!groups.has(key)) this.#retire(group);
    this.#groups = groups;
  }

  /** Ends all connections. */
  async destroy(): Promise<void> {
    const groups = [...this.#groups.values(), ...this.#retired];
    await Promise.all(groups.map((group) => group.destroy()));
  }

  #newGroup(spec: RouteSpec): UpstreamGroup {
    return new UpstreamGroup(spec.upstream, (server, change) => this.#onServerChange(spec, server, change));
  }

  #retire(group: UpstreamGroup): void {
    this.#retired.add(group);
    void group.close().finally(() => this.#retired.delete(group));
  }
}

/** A route that is as it was stays the same object; so does its policy, by which requests under way are counted. */
function goOn(old: Route | undefined, spec: RouteSpec, group: UpstreamGroup): Route {
  if (old === undefined) return { ...spec, group };
  const policy = isDeepStrictEqual(old.policy, spec.policy) ? old.policy : spec.policy;
  const route = { ...spec, policy, group };
  return old.group === group && isDeepStrictEqual({ ...old, group: null }, { ...route, group: null })
    ? old
    : route;
}

/** Finds routes by host and path. */
class RouteTable {
  /** For each kind of host, where to look for a path, one after the other. */
  readonly #exact = new Map<string, readonly PathTable[]>();
  /** By what follows the `*`. */
  readonly #below = new Map<string, readonly PathTable[]>();
  readonly #any: readonly PathTable[];

  constructor(routes: readonly Route[]) {
    const anyHost = routes.filter(({ hosts }) => hosts.length === 0);
    this.#any = anyHost.length > 0 ? [new PathTable(anyHost)] : [];
    const byHost = new Map<string, Set<Route>>();
    for (const route of routes) {
      for (const host of route.hosts) {
        const there = byHost.get(host);
        if (there === undefined) byHost.set(host, new Set([route]));
        else there.add(route);
      }
    }
    const hosts = [...byHost].map(([host, there]) => ({ host, own: new PathTable([...there]) }));
    // The shortest first: a name below has in its chain what those above it have.
    const wildcards = hosts.filter(({ host }) => isWildcard(host));
    for (const { host, own } of wildcards.sort((a, b) => a.host.length - b.host.length)) {
      this.#below.set(host.slice(1), [own, ...this.#chainAbove(host.slice(2))]);
    }
    for (const { host, own } of hosts) {
      if (!isWildcard(host)) this.#exact.set(host, [own, ...this.#chainAbove(host)]);
    }
  }

  match(host: string, path: string): Route | NoRoute {
    const chain = this.#chainOf(host);
    const only = chain[0]?.only ?? null;
    if (only !== null) return only;
    const readings = readPath(path);
    if (readings === null) return chain.length === 0 ? 'none' : 'unclear_path';
    for (const table of chain) {
      const route = table.find(readings.furthest);
      if (route !== undefined) return isClear(route, path, readings) ? route : 'unclear_path';
    }
    return 'none';
  }

  #chainOf(host: string): readonly PathTable[] {
    if (this.#exact.size === 0 && this.#below.size === 0) return this.#any;
    const name = hostName(host);
    return this.#exact.get(name) ?? this.#chainAbove(name);
  }

  /** What the names above a host say of it. */
  #chainAbove(name: string): readonly PathTable[] {
    for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
      const chain = this.#below.get(name.slice(dot));
      if (chain !== undefined) return chain;
    }
    return this.#any;
  }
}

/** The routes of one host, by path. */
class PathTable {
  /** The one route for everything, if that is all there is: whatever a server makes of a path, it is that route's. */
  readonly only: Route | null;
  readonly #byPath: ReadonlyMap<string, Route>;
  /** Segments of the longest prefix. */
  readonly #depth: number;

  constructor(routes: readonly Route[]) {
    this.#byPath = new Map(routes.map((route) => [furthestOf(route.path), route]));
    this.#depth = Math.max(...[...this.#byPath.keys()].map((path) => path.split('/').length - 1));
    const [first] = routes;
    this.only = routes.length === 1 && first && takesAnything(first) ? first : null;
  }

  /** The route with the longest prefix of a path. @param path the furthest reading of it */
  find(path: string): Route | undefined {
    let found = this.#byPath.get('');
    let end = 0;
    for (let i = 0; i < this.#depth && end < path.length; i++) {
      const slash = path.indexOf('/', end + 1);
      end = slash < 0 ? path.length : slash;
      found = this.#byPath.get(path.slice(0, end)) ?? found;
    }
    return found;
  }
}

/** Whether a route is that of all readings of a path, given that it is that of the furthest. */
function isClear({ path: prefix, rewrite }: Route, path: string, { exact }: PathReadings): boolean {
  if (!isBelow(exact, prefix)) return false;
  if (rewrite === null || prefix === '/') return true;
  // What stays of the path is a path of its own, and it has to be known where it begins.
  if (!isBelow(path, prefix)) return false;
  return path.length === prefix.length || readPath(path.slice(prefix.length)) !== null;
}

/** Whether there is nothing of a server that a path could lead out of. */
function takesAnything({ path, rewrite, group }: Route): boolean {
  return path === '/' && rewrite === null && group.targets.every(({ basePath }) => basePath === '');
}

function furthestOf(prefix: string): string {
  const readings = readPath(prefix);
  if (readings === null) throw new Error(`${prefix} cannot be the path of a route`);
  return readings.furthest;
}

function isWildcard(host: string): boolean {
  return host.startsWith('*.');
}

/** A `Host` header's name in lower case, without port and without the dot that may end it. */
function hostName(host: string): string {
  const colon = host.startsWith('[') ? host.indexOf(':', host.indexOf(']')) : host.indexOf(':');
  const name = colon < 0 ? host : host.slice(0, colon);
  return (name.endsWith('.') ? name.slice(0, -1) : name).toLowerCase();
}
