import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Window } from '../../shared/plans.ts';
import { type Chain, newChain } from './key.ts';
import { MemoryWindows } from './limits.ts';

beforeEach(() => {
  vi.useFakeTimers({ now: Date.UTC(2026, 10, 21) });
});
afterEach(() => {
  vi.useRealTimers();
});

const second = (requests: number): Window => ({ name: 'second', requests, seconds: 1 });
const minute = (requests: number): Window => ({ name: 'minute', requests, seconds: 60 });
const hour = (requests: number): Window => ({ name: 'hour', requests, seconds: 3600 });

const chains = new WeakMap<MemoryWindows, Map<string, Chain>>();
/** The chain of a name, in front of these windows. */
function chainOf(windows: MemoryWindows, rootId = 'r'): Chain {
  const known = chains.get(windows) ?? new Map<string, Chain>();
  chains.set(windows, known);
  const chain = known.get(rootId) ?? newChain(rootId);
  known.set(rootId, chain);
  return chain;
}

const left = (windows: MemoryWindows, limits: Window[], chain = chainOf(windows)) =>
  windows.look(chain, limits, Date.now()).map((window) => window.remaining);
const spend = (windows: MemoryWindows, limits: Window[], cost = 1, needed = cost, root = 'r') =>
  windows.spend(chainOf(windows, root), limits, cost, needed, Date.now());

describe('windows', () => {
  it('a request refused by one consumes nothing from the others', async () => {
    const windows = new MemoryWindows();
    const limits = [second(2), minute(10)];
    spend(windows, limits);
    spend(windows, limits);
    const refused = spend(windows, limits);
    expect(refused).toMatchObject({
      violated: ['second'],
      retryAfterSeconds: 1,
      windows: [{ remaining: 0 }, { remaining: 8 }],
    });
    expect(left(windows, limits)).toEqual([0, 8]);
    vi.advanceTimersByTime(1000);
    expect(spend(windows, limits).violated).toEqual([]);
    expect(left(windows, limits)).toEqual([1, 7]);
  });

  it('of any number of concurrent requests exactly as many as allowed get in', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20 }), async (a, b) => {
        const windows = new MemoryWindows();
        const limits = [second(a), minute(b)];
        const all = await Promise.all(
          Array.from({ length: 3 * Math.max(a, b) }, () => spend(windows, limits)),
        );
        const admitted = Math.min(a, b);
        expect(all.filter((spent) => spent.violated.length === 0)).toHaveLength(admitted);
        expect(left(windows, limits)).toEqual([a - admitted, b - admitted]);
      }),
    );
  });

  it('a burst is told of the windows that are full, not of those that it filled only by being refused', async () => {
    const windows = new MemoryWindows();
    const limits = [second(2), minute(10)];
    const all = await Promise.all(Array.from({ length: 30 }, () => spend(windows, limits)));
    const refused = all.filter((spent) => spent.violated.length > 0);
    expect(refused).toHaveLength(28);
    for (const spent of refused) {
      expect(spent).toMatchObject({
        violated: ['second'],
        retryAfterSeconds: 1,
        windows: [{ remaining: 0 }, { remaining: 8 }],
      });
    }
  });

  it('names every window that was full, and says to wait for the slowest', async () => {
    const windows = new MemoryWindows();
    const limits = [second(1), minute(1)];
    spend(windows, limits);
    vi.advanceTimersByTime(400);
    expect(spend(windows, limits)).toMatchObject({
      violated: ['second', 'minute'],
      retryAfterSeconds: 60,
    });
  });

  it('never says to come back before the window has renewed', async () => {
    const windows = new MemoryWindows();
    spend(windows, [minute(1)]);
    for (const passed of [1, 499, 500, 8001, 50_000]) {
      vi.advanceTimersByTime(passed);
      const { retryAfterSeconds } = spend(windows, [minute(1)]);
      const elapsed = Date.now() - Date.UTC(2026, 10, 21);
      expect(elapsed + retryAfterSeconds * 1000).toBeGreaterThanOrEqual(60_000);
    }
  });

  it('a change of plan keeps what was counted and applies the new limit at once', async () => {
    const windows = new MemoryWindows();
    for (let i = 0; i < 5; i++) spend(windows, [minute(5)]);
    for (let i = 0; i < 9; i++) expect(spend(windows, [minute(5)]).violated).toEqual(['minute']);
    expect(left(windows, [minute(20)])).toEqual([15]);
    expect(spend(windows, [minute(20)]).violated).toEqual([]);
    expect(spend(windows, [minute(3)]).violated).toEqual(['minute']);
    expect(spend(windows, [minute(3)], 1, 1, 'other').violated).toEqual([]);
  });

  it('what a request cost more is counted in the windows of now, what it cost less only where it was counted', () => {
    const windows = new MemoryWindows();
    const limits = [second(10), minute(20)];
    const countedAt = Date.now();
    spend(windows, limits, 6);
    const settle = (difference: number) =>
      windows
        .settle(chainOf(windows), limits, difference, countedAt, Date.now())
        .map((window) => window.remaining);
    expect(settle(-5)).toEqual([9, 19]);
    expect(settle(30), 'it may go below zero').toEqual([0, 0]);
    expect(spend(windows, limits).violated).toEqual(['second', 'minute']);
    vi.advanceTimersByTime(1000);
    expect(settle(-25), 'the second that it was counted in is over').toEqual([10, 14]);
    spend(windows, [second(10)], 3);
    expect(settle(-1)).toEqual([7, 15]);
    vi.advanceTimersByTime(60_000);
    expect(settle(-1)).toEqual([10, 20]);
    expect(settle(4)).toEqual([6, 16]);
  });

  it('a request counts as many as it costs, where that many are left; one that costs nothing is never refused', () => {
    const windows = new MemoryWindows();
    const limits = [second(10), minute(12)];
    expect(spend(windows, limits, 8).violated).toEqual([]);
    expect(spend(windows, limits, 5)).toMatchObject({
      violated: ['second', 'minute'],
      windows: [{ remaining: 2 }, { remaining: 4 }],
    });
    expect(spend(windows, limits, 4).violated).toEqual(['second']);
    expect(spend(windows, limits, 2).violated).toEqual([]);
    expect(spend(windows, limits, 0).violated).toEqual([]);
    expect(spend(windows, limits, 0, 1).violated, 'priced later, and nothing is left').toEqual(['second']);
  });

  it('long ones outlast a chain that is forgotten, and are forgotten when they have ended, with no timer', () => {
    const windows = new MemoryWindows();
    const limits = [second(1), minute(9), hour(9)];
    for (let i = 0; i < 100; i++) spend(windows, limits, 1, 1, `r${i}`);
    expect([windows.size, vi.getTimerCount()]).toEqual([100, 0]);
    const again = newChain('r7');
    expect(left(windows, limits, again)).toEqual([1, 9, 8]);
    windows.spend(again, limits, 1, 1, Date.now());
    expect(left(windows, limits, chainOf(windows, 'r7')), 'both are the same window').toEqual([0, 8, 7]);
    for (let i = 0; i < 4; i++) {
      vi.advanceTimersByTime(3_600_000);
      left(windows, limits, newChain('r7'));
    }
    expect(windows.size).toBe(0);
  });

  it('one that has ended hides none that was begun for the same keys meanwhile', () => {
    const windows = new MemoryWindows();
    const [chain, again] = [newChain('r'), newChain('r')];
    windows.spend(chain, [hour(9)], 1, 1, Date.now());
    vi.advanceTimersByTime(3_600_000);
    windows.spend(again, [hour(9)], 4, 4, Date.now());
    expect(left(windows, [hour(9)], chain)).toEqual([5]);
    windows.spend(chain, [hour(9)], 1, 1, Date.now());
    expect(left(windows, [hour(9)], again), 'both are the same window').toEqual([4]);
    expect([chain.requests].flat()).toHaveLength(1);
  });

  it('of requests and of messages are counted apart', () => {
    const [requests, messages] = [new MemoryWindows(), new MemoryWindows('messages')];
    const chain = newChain('r');
    requests.spend(chain, [minute(5)], 1, 1, Date.now());
    messages.spend(chain, [minute(5)], 3, 3, Date.now());
    expect([left(requests, [minute(5)], chain), left(messages, [minute(5)], chain)]).toEqual([[4], [2]]);
  });

  it('a request that waited counts in the window of those that it let pass', () => {
    const windows = new MemoryWindows();
    const limits = [minute(3)];
    const at = Date.now();
    windows.spend(chainOf(windows), limits, 1, 1, at + 900);
    windows.spend(chainOf(windows), limits, 1, 1, at);
    windows.spend(chainOf(windows), limits, 1, 1, at + 1000);
    expect(windows.spend(chainOf(windows), limits, 1, 1, at).violated).toEqual(['minute']);
  });

  it('a clock that is set back makes no window longer', () => {
    const windows = new MemoryWindows();
    spend(windows, [minute(1)]);
    vi.setSystemTime(Date.now() - 3_600_000);
    expect(spend(windows, [minute(1)]).violated).toEqual([]);
    expect(spend(windows, [minute(1)])).toMatchObject({ violated: ['minute'], retryAfterSeconds: 60 });
  });
});
