import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  closeAll,
  closeLater,
  startTestGateway,
  startUpstream,
  type TestGateway,
} from '../../test/gateways.ts';
import { newKeystoreUrl } from '../../test/keystores.ts';
import { needsRedis, startRedis, type TestRedis } from '../../test/redis-servers.ts';

beforeEach(needsRedis);
afterEach(closeAll);

async function gateways(count: number, env: Record<string, string> = {}) {
  const redis = closeLater(await startRedis());
  const upstream = await startUpstream();
  const keystoreUrl = newKeystoreUrl();
  const all: TestGateway[] = [];
  for (let i = 0; i < count; i++) {
    all.push(
      await startTestGateway({
        upstreamUrl: upstream.url,
        keystoreUrl,
        env: { REDIS_URL: redis.url, ...env },
      }),
    );
  }
  return { redis, upstream, all };
}

async function metric(gateway: TestGateway, name: string): Promise<number> {
  const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
}

const isUp = (gateway: TestGateway) => metric(gateway, 'tollgate_gateway_redis_up');
const statuses = async (calls: Promise<Response>[]) => {
  const counts: Record<number, number> = {};
  for (const { status } of await Promise.all(calls)) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};

describe('several gateways with one Redis', () => {
  // A Redis that gets no time for 35 ms on a busy machine is rightly taken for one that is away.
  it('of 3N concurrent requests exactly N are admitted, by all together', { retry: 2 }, async () => {
    const { upstream, all } = await gateways(3);
    const { plaintext } = await (all[0] as TestGateway).key('large');
    const got = await statuses(
      Array.from({ length: 150 }, (_, i) => (all[i % 3] as TestGateway).get('/', plaintext)),
    );
    expect(got).toEqual({ 200: 50, 429: 100 });
    expect(upstream.requests).toHaveLength(50);
    const { limits } = (await (await (all[2] as TestGateway).get('/quota', plaintext)).json()) as {
      limits: { remaining: number }[];
    };
    expect(limits.map(({ remaining }) => remaining)).toEqual([0, 30]);
  });

  it.each(['suspended', 'killed'] as const)(
    'Redis %s: a good key is never told that it is bad, nobody hangs, and each gateway limits on its own',
    async (how) => {
      const { redis, all } = await gateways(2);
      const [a, b] = all as [TestGateway, TestGateway];
      const { plaintext } = await a.key('large');
      for (const each of [a, b]) expect((await each.get('/', plaintext)).status).toBe(200);
      await stop(redis, how);
      const got = await statuses(
        Array.from({ length: 200 }, (_, i) => (all[i % 2] as TestGateway).get('/', plaintext)),
      );
      // What each had seen: one and two requests of fifty.
      expect(got).toEqual({ 200: 49 + 48, 429: 200 - 97 });
      expect(await isUp(a)).toBe(0);
      expect(
        await metric(a, 'tollgate_gateway_limit_decisions_total\\{by="this_gateway"\\}'),
      ).toBeGreaterThan(0);
      await start(redis, how);
      await vi.waitFor(async () => expect(await isUp(a)).toBe(1));
      await vi.waitFor(async () => expect(await isUp(b)).toBe(1));
      expect((await a.get('/', plaintext)).status).toBe(429);
    },
  );

  it('closed: 503 and when to come back, and never 401, 403 or 429; then all as before', async () => {
    const { redis, all } = await gateways(1, { LIMITS_WITHOUT_REDIS: 'closed' });
    const [gateway] = all as [TestGateway];
    const { plaintext } = await gateway.key('large');
    const open = await gateway.key('open');
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    await stop(redis, 'suspended');
    const refused = await gateway.get('/', plaintext);
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(await refused.json()).toMatchObject({
      code: 'limits_unavailable',
      remedy: expect.stringContaining('not the problem'),
    });
    // A plan without limits needs no Redis.
    expect((await gateway.get('/', open.plaintext)).status).toBe(200);
    redis.resume();
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(200));
  });

  it('starts without Redis, and counts in it as soon as it is there', async () => {
    const redis = closeLater(await startRedis());
    await redis.kill();
    const gateway = await startTestGateway({ env: { REDIS_URL: redis.url } });
    const { plaintext } = await gateway.key('small');
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    await redis.restart();
    await vi.waitFor(async () => expect(await isUp(gateway)).toBe(1));
    expect((await gateway.get('/', plaintext)).headers.get('x-ratelimit-remaining')).toBe('3');
    expect((await redis.client.keys('tollgate:*')).length).toBe(2);
    expect(gateway.lines.join('\n')).toContain('Redis does not answer');
  });
});

async function stop(redis: TestRedis, how: 'suspended' | 'killed'): Promise<void> {
  if (how === 'killed') await redis.kill();
  else redis.suspend();
}

async function start(redis: TestRedis, how: 'suspended' | 'killed'): Promise<void> {
  if (how === 'killed') await redis.restart();
  else redis.resume();
}
