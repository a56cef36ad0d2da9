import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../shared/log.ts';
import type { Window } from '../../shared/plans.ts';
import { needsRedis, startRedis, type TestRedis } from '../../test/redis-servers.ts';
import { newChain } from './key.ts';
import { MemoryWindows } from './limits.ts';
import { RedisCounter } from './redis-counter.ts';
import { LimitsUnavailable, SharedWindows, type WithoutServer } from './shared-windows.ts';

const open: { close(): unknown }[] = [];
let redis: TestRedis;
beforeEach(async (context) => {
  needsRedis(context);
  redis = await startRedis();
  open.push(redis);
});
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

const second = (requests: number): Window => ({ name: 'second', requests, seconds: 1 });
const minute = (requests: number): Window => ({ name: 'minute', requests, seconds: 60 });
const hour = (requests: number): Window => ({ name: 'hour', requests, seconds: 3600 });

/** What one gateway has of it. */
type Node = {
  server: RedisCounter;
  windows: SharedWindows;
  spend(limits: Window[], cost?: number, needed?: number): ReturnType<SharedWindows['spend']>;
  settle(limits: Window[], difference: number): ReturnType<SharedWindows['settle']>;
  remaining(limits: Window[]): Promise<number | undefined>;
  /** Lines logged. */
  log: string[];
};

let roots = 0;
/** Gateways that share the limits of one key. */
async function nodes(count: number, without: WithoutServer = 'local'): Promise<Node[]> {
  const rootId = `root${++roots}`;
  return Promise.all(
    Array.from({ length: count }, async () => {
      const log: string[] = [];
      const destination = { write: (line: string) => void log.push(line) };
      const server = new RedisCounter(redis.url, createLogger({ level: 'info', destination }));
      open.push(server);
      await server.start();
      expect(server.up).toBe(true);
      const chain = newChain(rootId);
      const windows = new SharedWindows('requests', server, without);
      return {
        server,
        windows,
        log,
        spend: (limits, cost = 1, needed = cost) => windows.spend(chain, limits, cost, needed, Date.now()),
        settle: (limits, difference) => windows.settle(chain, limits, difference, Date.now(), Date.now()),
        remaining: async (limits) =>
          (await windows.spend(chain, limits, 0, 0, Date.now())).windows[0]?.remaining,
      };
    }),
  );
}

async function admitted(calls: readonly ReturnType<SharedWindows['spend']>[]): Promise<number> {
  const answers = await Promise.all(calls);
  return answers.filter(({ violated }) => violated.length === 0).length;
}

describe('windows shared through Redis', () => {
  it('decide as those in memory do, whatever is spent in whatever order', async () => {
    const [node] = (await nodes(1)) as [Node];
    const limits = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 3 });
    const spends = fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 4 })), {
      maxLength: 20,
    });
    await fc.assert(
      fc.asyncProperty(limits, spends, async (requests, costs) => {
        const rootId = `property${++roots}`;
        const here = newChain(rootId);
        const there = newChain(rootId);
        const memory = new MemoryWindows();
        const plan = requests.map((limit, i) => ({ name: `w${i}`, requests: limit, seconds: 600 * (i + 1) }));
        for (const [cost, needed] of costs) {
          const now = Date.now();
          const expected = memory.spend(here, plan, cost, needed, now);
          const found = await node.windows.spend(there, plan, cost, needed, now);
          expect(found.violated).toEqual(expected.violated);
          expect(found.windows.map(({ remaining }) => remaining)).toEqual(
            expected.windows.map(({ remaining }) => remaining),
          );
        }
      }),
      { numRuns: 60 },
    );
  });

  it('of 3N requests to three gateways at once exactly N get in, and a refused one consumes nothing', async () => {
    const all = await nodes(3);
    const limits = [minute(50), hour(70)];
    expect(await admitted(Array.from({ length: 150 }, (_, i) => (all[i % 3] as Node).spend(limits)))).toBe(
      50,
    );
    const refused = await (all[0] as Node).spend(limits);
    expect(refused).toMatchObject({ violated: ['minute'], windows: [{ remaining: 0 }, { remaining: 20 }] });
    expect(refused.retryAfterSeconds).toBeGreaterThanOrEqual(refused.windows[0]?.resetSeconds as number);
  });

  it('renew when their time is up, for all at the same moment', async () => {
    const all = (await nodes(2)) as [Node, Node];
    const limits = [second(3)];
    expect(await admitted([1, 2, 3, 4].map((i) => (all[i % 2] as Node).spend(limits)))).toBe(3);
    await vi.waitFor(async () => expect((await all[0].spend(limits)).violated).toEqual([]), {
      timeout: 3000,
      interval: 20,
    });
    expect(await admitted([1, 2, 3, 4].map((i) => (all[i % 2] as Node).spend(limits)))).toBe(2);
  });

  it('in a cluster: all keys of a chain are on one node of it, and each goes by itself when its window ends', async () => {
    redis = await startRedis({ cluster: true });
    open.push(redis);
    const [node] = (await nodes(1)) as [Node];
    expect((await node.spend([second(9), minute(9), hour(9)])).violated).toEqual([]);
    expect(node.windows.decided).toEqual({ shared: 1, local: 0, unavailable: 0 });
    const keys = await redis.client.keys('tollgate:{*');
    expect(keys).toHaveLength(3);
    for (const key of keys) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
  });

  it('what a request cost less is given back where it was counted, and what it cost more is counted', async () => {
    const all = (await nodes(2)) as [Node, Node];
    const limits = [minute(100)];
    const chain = newChain(`root${roots}`);
    const countedAt = Date.now();
    await all[0].windows.spend(chain, limits, 40, 40, countedAt);
    expect(await all[0].windows.settle(chain, limits, -30, countedAt, Date.now())).toMatchObject([
      { remaining: 90 },
    ]);
    expect(await all[1].windows.settle(chain, limits, 15, countedAt, Date.now())).toMatchObject([
      { remaining: 75 },
    ]);
    // Counted before this window began.
    expect(await all[1].windows.settle(chain, limits, -5, countedAt - 120_000, Date.now())).toMatchObject([
      { remaining: 75 },
    ]);
    expect(await all[1].windows.look(chain, limits, Date.now())).toMatchObject([{ remaining: 75 }]);
  });
});

describe('while Redis is away', () => {
  const limits = [minute(20)];

  it.each(['killed', 'suspended'] as const)(
    '%s: each gateway goes on from what it last saw, and what it counted is added once when Redis is back',
    async (how) => {
      const [node] = (await nodes(1)) as [Node];
      for (let i = 0; i < 5; i++) await node.spend(limits);
      if (how === 'killed') await redis.kill();
      else redis.suspend();
      expect(await admitted(Array.from({ length: 10 }, () => node.spend(limits)))).toBe(10);
      expect(node.server.up).toBe(false);
      expect(await admitted(Array.from({ length: 10 }, () => node.spend(limits)))).toBe(5);
      if (how === 'killed') await redis.restart();
      else redis.resume();
      await vi.waitFor(() => expect(node.server.up).toBe(true));
      const now = await node.spend(limits, 0, 0);
      const { remaining } = now.windows[0] as { remaining: number };
      // Those that were on their way when it hung may have been counted or not; the others are, and none is twice.
      const counted = 20 - remaining;
      expect(counted).toBeLessThanOrEqual(20);
      expect(counted).toBeGreaterThanOrEqual(how === 'killed' ? 20 : 10);
    },
  );

  it('nodes that cannot see each other admit no more than each of them would alone', async () => {
    const all = await nodes(3);
    for (const node of all) await node.spend(limits);
    await redis.kill();
    await vi.waitFor(() => expect(all.some(({ server }) => server.up)).toBe(false));
    const inAll = await admitted(Array.from({ length: 120 }, (_, i) => (all[i % 3] as Node).spend(limits)));
    // They had seen 1, 2 and 3 requests.
    expect(inAll).toBe(19 + 18 + 17);
  });

  it('a window that a Redis lost goes on where a gateway saw it last', async () => {
    const all = (await nodes(2)) as [Node, Node];
    for (let i = 0; i < 15; i++) await all[0].spend(limits);
    await redis.kill();
    await redis.restart();
    await vi.waitFor(() => expect(all.every(({ server }) => server.up)).toBe(true));
    expect((await all[0].spend(limits)).windows[0]?.remaining).toBe(4);
    expect((await all[1].spend(limits)).windows[0]?.remaining).toBe(3);
  });

  it('closed: nothing passes, as a failure of ours; when it is back all goes on', async () => {
    const [node] = (await nodes(1, 'closed')) as [Node];
    await node.spend(limits);
    redis.suspend();
    const answers = await Promise.allSettled(Array.from({ length: 5 }, () => node.spend(limits)));
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 'rejected', reason: expect.any(LimitsUnavailable) });
    }
    await expect(node.spend(limits)).rejects.toThrow(LimitsUnavailable);
    redis.resume();
    await vi.waitFor(async () => expect((await node.spend(limits)).violated).toEqual([]));
  });
});

describe('a Redis that answers, and refuses to write', () => {
  const limits = [minute(100)];
  const refusals = {
    'out of memory': {
      begin: () => redis.client.config('SET', 'maxmemory', '1'),
      end: () => redis.client.config('SET', 'maxmemory', '0'),
    },
    'a demoted primary': {
      begin: () => redis.client.replicaof('127.0.0.1', 1),
      end: () => redis.client.replicaof('NO', 'ONE'),
    },
  };
  const isBack = (node: Node) =>
    vi.waitFor(() => expect(node.server.up).toBe(true), { timeout: 10_000, interval: 5 });

  it.each(Object.entries(refusals))(
    '%s: is away until it writes again, and all that was admitted meanwhile is counted',
    async (_, { begin, end }) => {
      const [node] = (await nodes(1)) as [Node];
      expect(await admitted(Array.from({ length: 60 }, () => node.spend(limits)))).toBe(60);
      await begin();
      expect(await admitted(Array.from({ length: 20 }, () => node.spend(limits)))).toBe(20);
      for (let i = 0; i < 40; i++) {
        expect(node.server.up).toBe(false);
        await pause(5);
      }
      expect(await admitted(Array.from({ length: 30 }, () => node.spend(limits)))).toBe(20);
      expect(node.windows.decided).toEqual({ shared: 60, local: 50, unavailable: 0 });
      expect(node.log).toHaveLength(1);
      await end();
      await isBack(node);
      expect(await node.remaining(limits)).toBe(0);
      expect((await node.spend(limits)).violated).toEqual(['minute']);
    },
  );

  it('what it refuses to take over of what was counted without it is not lost', async () => {
    const { begin, end } = refusals['out of memory'];
    const [node] = (await nodes(1)) as [Node];
    await node.spend(limits, 60);
    await begin();
    await node.spend(limits, 20);
    await end();
    await isBack(node);
    await begin();
    await node.spend(limits, 10);
    await node.settle(limits, 5);
    expect(node.server.up).toBe(false);
    await end();
    await isBack(node);
    expect(await node.remaining(limits)).toBe(5);
  });

  it('nor is what it refuses only after nobody waited for its answer any more', async () => {
    const { begin, end } = refusals['out of memory'];
    const [node] = (await nodes(1)) as [Node];
    await node.spend(limits, 60);
    await begin();
    redis.suspend();
    const spends = [node.spend(limits, 10)];
    await turn();
    await turn();
    spends.push(node.spend(limits, 7));
    await Promise.all([...spends, node.settle(limits, 3)]);
    expect(node.log.join()).toContain('no answer within 35 ms');
    redis.resume();
    await pause(100);
    expect(node.server.up).toBe(false);
    await end();
    await isBack(node);
    expect(await node.remaining(limits)).toBe(20);
  });
});

describe('what was settled while Redis was away reaches it', () => {
  const limits = [hour(1000)];
  /** Has the node notice it, by something that counts nothing. */
  async function away(node: Node): Promise<void> {
    redis.suspend();
    await node.remaining(limits);
    expect(node.server.up).toBe(false);
  }
  async function back(node: Node): Promise<void> {
    redis.resume();
    await vi.waitFor(() => expect(node.server.up).toBe(true), { timeout: 5000, interval: 5 });
  }

  it.each([
    ['more than was thought', 1, 50],
    ['less than was thought', 50, 1],
  ])('%s', async (_, estimate, actual) => {
    const [node, other] = (await nodes(2)) as [Node, Node];
    await node.spend(limits, 4);
    await away(node);
    for (let i = 0; i < 16; i++) {
      await node.spend(limits, estimate);
      await node.settle(limits, actual - estimate);
    }
    await back(node);
    expect(await node.remaining(limits)).toBe(996 - 16 * actual);
    expect(await node.remaining(limits)).toBe(996 - 16 * actual);
    await back(other);
    expect(await other.remaining(limits)).toBe(996 - 16 * actual);
  });

  it('of a request that Redis had counted', async () => {
    const [node] = (await nodes(1)) as [Node];
    await node.spend(limits, 50);
    await away(node);
    await node.settle(limits, -49);
    await back(node);
    expect(await node.remaining(limits)).toBe(999);
  });

  it('never as less than nothing', async () => {
    const [{ server }] = (await nodes(1)) as [Node];
    const ask = (cost: number, unsent: number) =>
      server.spend({
        of: 'requests',
        rootId: `root${roots}`,
        cost,
        needed: cost,
        windows: [[1000, 3_600_000, 1, unsent, 3_000_000]],
      });
    await ask(10, 0);
    expect((await ask(0, -4)).slice(0, 2)).toEqual([1, 7]);
    expect((await ask(2, -49)).slice(0, 2)).toEqual([1, 2]);
  });
});
