import { request, type ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, startUpstream } from '../../test/gateways.ts';
import { eventually, LANES, metric, gatewayBefore as startGatewayBefore } from '../../test/servers.ts';
import type { UpstreamSpec } from '../routes/route-spec.ts';

afterEach(closeAll);

describe.each(LANES)('with the fast lane %s', (lane) => {
  const gatewayBefore = (urls: readonly string[], upstream: Partial<UpstreamSpec> = {}) =>
    startGatewayBefore(urls, upstream, lane);

  it('takes turns where nothing is under way', async () => {
    const servers = [await startUpstream(), await startUpstream(), await startUpstream()];
    const { get } = await gatewayBefore(servers.map(({ url }) => url));
    for (let i = 0; i < 12; i++) await (await get()).text();
    expect(servers.map(({ requests }) => requests.length)).toEqual([4, 4, 4]);
  });

  it('gives the next request to the server with the fewest under way', async () => {
    const held: ServerResponse[] = [];
    const slow = await startUpstream((_req, res) => void held.push(res));
    const quick = await startUpstream();
    const { gateway, get } = await gatewayBefore([slow.url, quick.url]);
    const first = get();
    await eventually(() => expect(held).toHaveLength(1));
    // The slow one has one under way, so the quick one has every turn.
    for (let i = 0; i < 20; i++) await (await get()).text();
    expect(slow.requests).toHaveLength(1);
    expect(quick.requests).toHaveLength(20);
    const pending = (url: string) =>
      metric(gateway, `tollgate_gateway_upstream_pending{route="default",server="${url}"}`);
    expect(await pending(slow.url)).toBe(1);
    expect(await pending(quick.url)).toBe(0);
    held[0]?.end('at last');
    expect(await (await first).text()).toBe('at last');
    await eventually(async () => expect(await pending(slow.url)).toBe(0));
  });

  it('counts a server as free again when its client left', async () => {
    const held: ServerResponse[] = [];
    const servers = [
      await startUpstream((_req, res) => void held.push(res)),
      await startUpstream((_req, res) => void held.push(res)),
    ];
    const { gateway, key } = await gatewayBefore(servers.map(({ url }) => url));
    const clients = [0, 1, 2, 3].map(() => {
      const client = request(gateway.url, { headers: { 'X-API-Key': key } });
      client.on('error', () => {});
      client.end();
      return client;
    });
    await eventually(() => expect(held).toHaveLength(4));
    expect(servers.map(({ requests }) => requests.length)).toEqual([2, 2]);
    for (const client of clients) client.destroy();
    for (const { url } of servers) {
      await eventually(async () =>
        expect(
          await metric(gateway, `tollgate_gateway_upstream_pending{route="default",server="${url}"}`),
        ).toBe(0),
      );
    }
  });

  it('sends requests below the path of each server’s own URL', async () => {
    const a = await startUpstream();
    const b = await startUpstream();
    const { get } = await gatewayBefore([`${a.url}/one`, `${b.url}/two/`]);
    for (let i = 0; i < 2; i++) await (await get('/x')).text();
    expect(a.requests[0]?.url).toBe('/one/x');
    expect(b.requests[0]?.url).toBe('/two/x');
  });
});
