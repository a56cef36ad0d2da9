import type { RoutePolicy } from '../routes/route-spec.ts';

/** Requests of each key that are under way on each route that limits them. Holds nothing of keys that are idle. */
export class UnderWay {
  readonly #routes = new WeakMap<RoutePolicy, Map<string, number>>();

  /** How many requests of a rotation chain are under way on a route. */
  count(policy: RoutePolicy, rootId: string): number {
    return this.#routes.get(policy)?.get(rootId) ?? 0;
  }

  /** Takes a place. `false`, and nothing taken, when the policy leaves none. {@link leave} has to follow, once. */
  enter(policy: RoutePolicy, rootId: string): boolean {
    const keys = this.#keysOf(policy);
    const count = keys.get(rootId) ?? 0;
    if (policy.concurrency !== null && count >= policy.concurrency) return false;
    keys.set(rootId, count + 1);
    return true;
  }

  /** Gives a place back. */
  leave(policy: RoutePolicy, rootId: string): void {
    const keys = this.#routes.get(policy);
    const count = keys?.get(rootId) ?? 0;
    if (count > 1) keys?.set(rootId, count - 1);
    else keys?.delete(rootId);
  }

  /** A route gets another policy: what is under way under the old one counts in the new one's limit. */
  policyChanged(before: RoutePolicy, after: RoutePolicy): void {
    this.#routes.set(after, this.#keysOf(before));
  }

  #keysOf(policy: RoutePolicy): Map<string, number> {
    let keys = this.#routes.get(policy);
    if (keys === undefined) {
      keys = new Map();
      this.#routes.set(policy, keys);
    }
    return keys;
  }
}
