import type { Socket } from 'node:net';
import { vi } from 'vitest';
import { Connections } from '../gateway/listener/connections.ts';
import {
  POLICY_DEFAULTS,
  type RouteSpec,
  UPSTREAM_DEFAULTS,
  type UpstreamSpec,
} from '../gateway/routes/route-spec.ts';
import { closeLater, startTestGateway, type TestGateway } from './gateways.ts';

/** A route for everything, to these servers. */
export function routeToServers(urls: readonly string[], upstream: Partial<UpstreamSpec> = {}): RouteSpec {
  return {
    name: 'default',
    hosts: [],
    path: '/',
    rewrite: null,
    upstream: { ...UPSTREAM_DEFAULTS, ...upstream, urls },
    policy: POLICY_DEFAULTS,
  };
}

/** Settings of `FAST_LANE`. What happens must not depend on it. */
export const LANES = ['off', 'on'] as const;

/** A gateway in front of these servers, and a key. */
export async function gatewayBefore(
  urls: readonly string[],
  upstream: Partial<UpstreamSpec> = {},
  lane: (typeof LANES)[number] = 'off',
): Promise<{ gateway: TestGateway; key: string; get(path?: string): Promise<Response> }> {
  const gateway = await startTestGateway({
    routes: [routeToServers(urls, upstream)],
    env: { FAST_LANE: lane },
  });
  const { plaintext: key } = await gateway.key();
  return { gateway, key, get: (path = '/') => gateway.get(path, key) };
}

/** The value of a metric's line, found by its beginning. */
export async function metric({ internalUrl }: TestGateway, beginning: string): Promise<number | undefined> {
  const text = await (await fetch(`${internalUrl}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(beginning));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
}

/** Waits until a check passes, also on a machine that is busy with other things. */
export function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, 20_000);
}

/** The gateway's side of all connections from now on. */
export function acceptedSockets(): Socket[] {
  const accepted: Socket[] = [];
  const { open } = Connections.prototype;
  const spy = vi.spyOn(Connections.prototype, 'open').mockImplementation(function (
    this: Connections,
    socket,
  ) {
    accepted.push(socket);
    return open.call(this, socket);
  });
  closeLater({ close: async () => spy.mockRestore() });
  return accepted;
}
