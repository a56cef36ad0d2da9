import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Window } from '../shared/plans.ts';
import { Windows } from './limits.ts';

beforeEach(() => {
  vi.useFakeTimers({ now: Date.UTC(2026, 10, 21) });
});
afterEach(() => {
  vi.useRealTimers();
});

const second = (requests: number): Window => ({ name: 'second', requests, seconds: 1 });
const minute = (requests: number): Window => ({ name: 'minute', requests, seconds: 60 });
const left = async (windows: Windows, limits: Window[]) =>
  (await windows.look('r', limits)).map((window) => window.remaining);

describe('windows', () => {
  it('a request refused by one consumes nothing from the others', async () => {
    const windows = new Windows();
    const limits = [second(2), minute(10)];
    await windows.spend('r', limits);
    await windows.spend('r', limits);
    const refused = await windows.spend('r', limits);
    expect(refused).toMatchObject({
      violated: ['second'],
      retryAfterSeconds: 1,
      windows: [{ remaining: 0 }, { remaining: 8 }],
    });
    expect(await left(windows, limits)).toEqual([0, 8]);
    vi.advanceTimersByTime(1000);
    expect((await windows.spend('r', limits)).violated).toEqual([]);
    expect(await left(windows, limits)).toEqual([1, 7]);
  });

  it('of any number of concurrent requests exactly as many as allowed get in', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20 }), async (a, b) => {
        const windows = new Windows();
        const limits = [second(a), minute(b)];
        const all = await Promise.all(
          Array.from({ length: 3 * Math.max(a, b) }, () => windows.spend('r', limits)),
        );
        const admitted = Math.min(a, b);
        expect(all.filter((spent) => spent.violated.length === 0)).toHaveLength(admitted);
        expect(await left(windows, limits)).toEqual([a - admitted, b - admitted]);
      }),
    );
  });

  it('a burst is told of the windows that are full, not of those that it filled only by being refused', async () => {
    const windows = new Windows();
    const limits = [second(2), minute(10)];
    const all = await Promise.all(Array.from({ length: 30 }, () => windows.spend('r', limits)));
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
    const windows = new Windows();
    const limits = [second(1), minute(1)];
    await windows.spend('r', limits);
    vi.advanceTimersByTime(400);
    expect(await windows.spend('r', limits)).toMatchObject({
      violated: ['second', 'minute'],
      retryAfterSeconds: 60,
    });
  });

  it('never says to come back before the window has renewed', async () => {
    const windows = new Windows();
    await windows.spend('r', [minute(1)]);
    for (const passed of [1, 499, 500, 8001, 50_000]) {
      vi.advanceTimersByTime(passed);
      const { retryAfterSeconds } = await windows.spend('r', [minute(1)]);
      const elapsed = Date.now() - Date.UTC(2026, 10, 21);
      expect(elapsed + retryAfterSeconds * 1000).toBeGreaterThanOrEqual(60_000);
    }
  });

  it('a change of plan keeps what was counted and applies the new limit at once', async () => {
    const windows = new Windows();
    for (let i = 0; i < 5; i++) await windows.spend('r', [minute(5)]);
    for (let i = 0; i < 9; i++) expect((await windows.spend('r', [minute(5)])).violated).toEqual(['minute']);
    expect(await left(windows, [minute(20)])).toEqual([15]);
    expect((await windows.spend('r', [minute(20)])).violated).toEqual([]);
    expect((await windows.spend('r', [minute(3)])).violated).toEqual(['minute']);
    expect((await windows.spend('other', [minute(3)])).violated).toEqual([]);
  });

  it('given back, a request was never counted; a window that has ended is not touched', async () => {
    const windows = new Windows();
    const spent = await windows.spend('r', [second(3)]);
    await windows.giveBack(spent);
    expect(spent.windows[0]?.remaining).toBe(3);
    expect(await left(windows, [second(3)])).toEqual([3]);
    const late = await windows.spend('r', [second(3)]);
    vi.advanceTimersByTime(1000);
    await windows.giveBack(late);
    expect(await left(windows, [second(3)])).toEqual([3]);
    for (let i = 0; i < 3; i++) await windows.spend('r', [second(3)]);
    expect((await windows.spend('r', [second(3)])).violated).toEqual(['second']);
  });

  it('an idle key leaves no timer behind', async () => {
    const windows = new Windows();
    for (let i = 0; i < 100; i++) await windows.spend(`r${i}`, [second(1), minute(1)]);
    expect(vi.getTimerCount()).toBe(200);
    vi.advanceTimersByTime(60_000);
    expect(vi.getTimerCount()).toBe(0);
  });
});
