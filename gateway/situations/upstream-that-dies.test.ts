import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, closeLater, startUpstream } from '../../test/gateways.ts';
import { eventually, LANES, metric, gatewayBefore as startGatewayBefore } from '../../test/servers.ts';
import type { UpstreamSpec } from '../routes/route-spec.ts';

afterEach(closeAll);

describe.each(LANES)('with the fast lane %s', (lane) => {
  const gatewayBefore = (urls: readonly string[], upstream: Partial<UpstreamSpec> = {}) =>
    startGatewayBefore(urls, upstream, lane);

  /** Nobody listens there, and nobody without privileges can begin to. */
  const NOBODY = 'http://127.0.0.1:1';

  /** A server that resets every connection until it is started. Its port stays its own meanwhile. */
  async function deadServer() {
    const alive = createServer((_req, res) => res.end('alive'));
    let dead = true;
    const server = createTcpServer((socket) => {
      socket.on('error', () => {});
      if (dead) socket.resetAndDestroy();
      else alive.emit('connection', socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closeLater({
      close: async () => {
        alive.closeAllConnections();
        await new Promise<void>((resolve) => void server.close(() => resolve()));
      },
    });
    const start = () => {
      dead = false;
    };
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, start };
  }

  /** A server that ends every connection as soon as a request came, and counts them. */
  async function hangsUp() {
    const met = { connections: 0 };
    const server = createTcpServer((socket) => {
      met.connections++;
      socket.on('error', () => {});
      socket.on('data', () => socket.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closeLater({ close: () => new Promise<void>((resolve) => void server.close(() => resolve())) });
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, met };
  }

  const CIRCUIT = { failures: 3, openMs: 300 };

  describe('of two servers one is down', () => {
    it('and no request fails: what could not be sent there goes to the other', async () => {
      const well = await startUpstream();
      const { gateway, get } = await gatewayBefore([NOBODY, well.url], {
        circuit: { failures: 3, openMs: 60_000 },
        retryBudget: 1,
      });
      await eventually(async () => {
        expect((await get()).status).toBe(200);
        expect(gateway.lines.join('')).toContain('circuit_opened');
      });
      // Its circuit opened, so that it costs no more attempts.
      const healthy = (url: string) =>
        metric(gateway, `tollgate_gateway_upstream_healthy{route="default",server="${url}"}`);
      expect(await healthy(NOBODY)).toBe(0);
      expect(await healthy(well.url)).toBe(1);
      const retries = () => metric(gateway, 'tollgate_gateway_upstream_retries_total');
      const needed = await retries();
      expect(needed).toBeGreaterThanOrEqual(3);
      for (let i = 0; i < 10; i++) expect((await get()).status).toBe(200);
      expect(await retries()).toBe(needed);
      expect(gateway.lines.join('')).toMatch(/"server":"http:[^"]*","event":"circuit_opened"/);
    });

    it('and is used again soon after it is back', async () => {
      const dead = await deadServer();
      const well = await startUpstream();
      const { gateway, get } = await gatewayBefore([dead.url, well.url], { circuit: CIRCUIT });
      await eventually(async () => {
        await get();
        expect(gateway.lines.join('')).toContain('circuit_opened');
      });
      dead.start();
      await eventually(async () => expect(await (await get()).text()).toBe('alive'));
      expect(gateway.lines.join('')).toContain('circuit_closed');
    });
  });

  describe('the only server', () => {
    it('is left alone after failures in a row: 502 at once, with Retry-After', async () => {
      const { url, met } = await hangsUp();
      const { gateway, key } = await gatewayBefore([url], { circuit: { failures: 3, openMs: 60_000 } });
      const post = () => gateway.get('/', key, { method: 'POST' });
      await eventually(async () => {
        const response = await post();
        expect(response.status).toBe(502);
        expect(response.headers.get('retry-after')).not.toBeNull();
      });
      const before = met.connections;
      for (let i = 0; i < 10; i++) {
        const response = await post();
        expect(response.status).toBe(502);
        expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
        expect(Number(response.headers.get('retry-after'))).toBeLessThanOrEqual(60);
        expect(await response.json()).toMatchObject({ code: 'upstream_unreachable' });
      }
      expect(met.connections).toBe(before);
    });

    it('is used again when one request got through', async () => {
      const dead = await deadServer();
      const { gateway, get } = await gatewayBefore([dead.url], { circuit: CIRCUIT });
      await eventually(async () => {
        expect((await get()).status).toBe(502);
        expect(gateway.lines.join('')).toContain('circuit_opened');
      });
      dead.start();
      await eventually(async () => expect((await get()).status).toBe(200));
      for (let i = 0; i < 10; i++) expect((await get()).status).toBe(200);
    });

    it('may answer 503 as often as it likes: an answer is no failure', async () => {
      const upstream = await startUpstream((_req, res) => res.writeHead(503).end('of mine'));
      const { get } = await gatewayBefore([upstream.url], { circuit: { failures: 1, openMs: 60_000 } });
      for (let i = 0; i < 10; i++) {
        const response = await get();
        expect(response.status).toBe(503);
        expect(await response.text()).toBe('of mine');
      }
    });
  });

  it('an upstream in trouble is not asked twice as much: retries are a share of requests', async () => {
    const servers = await Promise.all([hangsUp(), hangsUp()]);
    const { gateway, get } = await gatewayBefore(
      servers.map(({ url }) => url),
      { circuit: { failures: 1_000_000, openMs: 1000 }, retryBudget: 0.1 },
    );
    for (let i = 0; i < 100; i++) expect((await get()).status).toBe(502);
    const asked = servers.reduce((sum, { met }) => sum + met.connections, 0);
    // Ten, and a tenth of the requests.
    expect(await metric(gateway, 'tollgate_gateway_upstream_retries_total')).toBeLessThanOrEqual(20);
    expect(asked).toBeGreaterThan(105);
    expect(asked).toBeLessThanOrEqual(120);
  });
});
