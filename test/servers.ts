import {
  POLICY_DEFAULTS,
  type RouteSpec,
  UPSTREAM_DEFAULTS,
  type UpstreamSpec,
} from '../gateway/route-spec.ts';
import { startTestGateway, type TestGateway } from './gateways.ts';

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

/** A gateway in front of these servers, and a key. */
export async function gatewayBefore(
  urls: readonly string[],
  upstream: Partial<UpstreamSpec> = {},
): Promise<{ gateway: TestGateway; key: string; get(path?: string): Promise<Response> }> {
  const gateway = await startTestGateway({ routes: [routeToServers(urls, upstream)] });
  const { plaintext: key } = await gateway.key();
  return { gateway, key, get: (path = '/') => gateway.get(path, key) };
}

/** The value of a metric's line, found by its beginning. */
export async function metric({ internalUrl }: TestGateway, beginning: string): Promise<number | undefined> {
  const text = await (await fetch(`${internalUrl}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(beginning));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
}
