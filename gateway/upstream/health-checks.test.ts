import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, closeLater, startUpstream } from '../../test/gateways.ts';
import { eventually, gatewayBefore, metric } from '../../test/servers.ts';
import type { HealthSpec } from '../routes/route-spec.ts';
import { Health } from './health-checks.ts';

afterEach(closeAll);

const HEALTH: HealthSpec = {
  path: '/healthz?deep=1',
  intervalMs: 50,
  timeoutMs: 10_000,
  healthyAfter: 2,
  unhealthyAfter: 2,
};

/** A server that is told what to say of itself. */
async function server(name: string) {
  const state = { status: 200, checks: 0 };
  const upstream = await startUpstream((req, res: ServerResponse) => {
    if (!req.url?.startsWith('/healthz')) {
      res.end(name);
      return;
    }
    state.checks++;
    res.writeHead(state.status).end();
  });
  return Object.assign(state, { upstream, url: upstream.url });
}

describe('health checks', () => {
  it('take a server out that says it is not well, and back in when it is', async () => {
    const [a, b] = await Promise.all([server('a'), server('b')]);
    const { gateway, get } = await gatewayBefore([a.url, b.url], { health: HEALTH });
    const answers = async () => {
      const names = new Set<string>();
      for (let i = 0; i < 6; i++) names.add(await (await get()).text());
      return [...names].sort();
    };
    const healthy = () =>
      metric(gateway, `tollgate_gateway_upstream_healthy{route="default",server="${a.url}"}`);
    expect(await answers()).toEqual(['a', 'b']);
    expect(await healthy()).toBe(1);

    a.status = 500;
    await eventually(async () => expect(await answers()).toEqual(['b']));
    expect(await healthy()).toBe(0);

    a.status = 204;
    await eventually(async () => expect(await answers()).toEqual(['a', 'b']));
    const lines = gateway.lines.filter((line) => line.includes('A server of the upstream changed'));
    expect(lines).toHaveLength(2);
    expect(JSON.parse(lines[0] as string)).toMatchObject({
      route: 'default',
      server: a.url,
      event: 'unhealthy',
      reason: 'answered 500',
    });
    expect(JSON.parse(lines[1] as string)).toMatchObject({ server: a.url, event: 'healthy' });
    const check = a.upstream.requests.find(({ url }) => url.startsWith('/healthz'));
    expect(check).toMatchObject({ method: 'GET', url: '/healthz?deep=1' });
  });

  it('that fail on all servers: 502 with Retry-After, until one is well again', async () => {
    const only = await server('only');
    only.status = 404;
    const { get } = await gatewayBefore([only.url], { health: HEALTH });
    await eventually(async () => {
      const response = await get();
      expect(response.status).toBe(502);
      expect(response.headers.get('retry-after')).toBe('1');
    });
    only.status = 302;
    await eventually(async () => expect((await get()).status).toBe(200));
  });

  it('notice a server that takes the question and says nothing', async () => {
    const sockets = new Set<Socket>();
    let questions = 0;
    const silent = createTcpServer((socket) => {
      questions++;
      sockets.add(socket);
      // Else its end would wait behind what was not read.
      socket.resume();
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
    });
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    closeLater({
      close: async () => {
        for (const socket of sockets) socket.destroy();
        silent.close();
      },
    });
    const { port } = silent.address() as AddressInfo;
    const { gateway } = await gatewayBefore([`http://127.0.0.1:${port}`], {
      health: { ...HEALTH, timeoutMs: 100 },
    });
    await eventually(() => expect(gateway.lines.join('')).toContain('no answer within 100 ms'));
    // One question at a time, and none is left open.
    await eventually(() => expect(questions).toBeGreaterThan(5));
    await eventually(() => expect(sockets.size).toBeLessThanOrEqual(2));
  });

  it('show the server the secret that it wants on every request', async () => {
    const guarded = await startUpstream((req, res) => {
      res.writeHead(req.headers['x-gateway-secret'] === 's3cret' ? 200 : 403).end();
    });
    const { gateway, get } = await gatewayBefore([guarded.url], {
      health: { ...HEALTH, unhealthyAfter: 1 },
      secret: { header: 'X-Gateway-Secret', value: 's3cret' },
    });
    await eventually(() =>
      expect(guarded.requests.filter(({ url }) => url.startsWith('/healthz')).length).toBeGreaterThan(3),
    );
    expect((await get()).status).toBe(200);
    expect(gateway.lines.join('')).not.toMatch(/unhealthy|s3cret/);
  });

  it('end with the gateway', async () => {
    const a = await server('a');
    const { gateway } = await gatewayBefore([a.url], { health: HEALTH });
    await eventually(() => expect(a.checks).toBeGreaterThan(1));
    await gateway.close();
    const { checks } = a;
    const next = await server('next');
    await gatewayBefore([next.url], { health: HEALTH });
    await eventually(() => expect(next.checks).toBeGreaterThan(3));
    // One may have been on its way.
    expect(a.checks).toBeLessThanOrEqual(checks + 1);
  });
});

describe('what checks come to', () => {
  it('changes only after so many in a row, whatever came before', () => {
    fc.assert(
      fc.property(
        fc.array(fc.boolean(), { maxLength: 60 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        (results, healthyAfter, unhealthyAfter) => {
          const health = new Health({ healthyAfter, unhealthyAfter });
          let expected = true;
          for (const [i, result] of results.entries()) {
            const needed = expected ? unhealthyAfter : healthyAfter;
            const last = results.slice(Math.max(0, i + 1 - needed), i + 1);
            // So many against it in a row; those from before it last changed were for it.
            const changes = last.length === needed && last.every((each) => each !== expected);
            expect(health.checked(result)).toBe(changes);
            if (changes) expected = !expected;
            expect(health.healthy).toBe(expected);
          }
        },
      ),
    );
  });
});
