import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { AskedWindow, Spend } from '../decision/counter-server.ts';
import { newChain } from '../decision/key.ts';
import { MemoryWindows } from '../decision/limits.ts';
import { Counting } from './counting.ts';
import type { CounterCall } from './messages.ts';

const NOW = Date.UTC(2027, 0, 1);
const MINUTE = 60_000;

/** A window of which the asking worker knows nothing. */
const unknown = (limit: number, lengthMs: number): AskedWindow => [limit, lengthMs, 0, 0, 0];

function spend(windows: readonly AskedWindow[], more: Partial<Spend> = {}): CounterCall {
  return { what: 'spend', of: 'requests', rootId: 'root', cost: 1, needed: 1, windows, ...more };
}

it('decides as a gateway that is alone does, whatever is spent in whatever order', () => {
  const step = fc.record({
    cost: fc.integer({ min: 0, max: 4 }),
    needed: fc.integer({ min: 0, max: 4 }),
    waitMs: fc.constantFrom(0, 10, 700, 61_000),
  });
  const limits = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(limits, fc.array(step, { maxLength: 30 }), (requests, steps) => {
      const counting = new Counting();
      const memory = new MemoryWindows();
      const chain = newChain('root');
      const lengths = [1, 60, 3600];
      const plan = requests.map((limit, i) => ({ name: '', requests: limit, seconds: lengths[i] as number }));
      const windows = plan.map(({ requests: limit, seconds }) => unknown(limit, seconds * 1000));
      let now = NOW;
      for (const { cost, needed, waitMs } of steps) {
        now += waitMs;
        if (cost === 0 && needed === 0) continue;
        const expected = memory.spend(chain, plan, cost, needed, now);
        const [counted, ...standing] = counting.answer(spend(windows, { cost, needed }), now);
        expect(counted === 1).toBe(expected.violated.length === 0);
        const used = plan.map((_, i) => standing[2 * i]);
        expect(used.map((each, i) => Math.max(0, (requests[i] as number) - (each as number)))).toEqual(
          expected.windows.map(({ remaining }) => remaining),
        );
      }
    }),
  );
});

it('a look counts nothing and begins nothing', () => {
  const counting = new Counting();
  const look = spend([unknown(5, MINUTE)], { cost: 0, needed: 0 });
  expect(counting.answer(look, NOW)).toEqual([1, 0, -1]);
  counting.answer(spend([unknown(5, MINUTE)]), NOW);
  expect(counting.answer(look, NOW + 1000)).toEqual([1, 1, MINUTE - 1000]);
});

it('messages are counted apart from requests', () => {
  const counting = new Counting();
  const windows = [unknown(1, MINUTE)];
  expect(counting.answer(spend(windows), NOW)).toEqual([1, 1, MINUTE]);
  expect(counting.answer(spend(windows), NOW)).toEqual([0, 1, MINUTE]);
  expect(counting.answer(spend(windows, { of: 'messages' }), NOW)).toEqual([1, 1, MINUTE]);
});

it('adds what a worker counted alone, and takes over a window that only a worker knows', () => {
  const counting = new Counting();
  counting.answer(spend([unknown(100, MINUTE)]), NOW);
  expect(counting.answer(spend([[100, MINUTE, 1, 10, 30_000]]), NOW)).toEqual([1, 12, MINUTE]);
  const other = spend([[100, MINUTE, 40, 0, 30_000]], { rootId: 'other' });
  expect(counting.answer(other, NOW)).toEqual([1, 41, 30_000]);
  expect(counting.answer(other, NOW)).toEqual([1, 42, 30_000]);
});

it('gives back only where it was counted, for workers that decided a moment before', () => {
  const counting = new Counting();
  const settle = (difference: number, agoMs: number): CounterCall => ({
    what: 'settle',
    of: 'requests',
    rootId: 'root',
    difference,
    agoMs,
    lengthsMs: [MINUTE],
  });
  counting.answer(spend([unknown(100, MINUTE)], { cost: 40, needed: 40 }), NOW);
  expect(counting.answer(settle(-30, 1020), NOW + 1000)).toEqual([10, 59_000]);
  expect(counting.answer(settle(15, 1000), NOW + 1000)).toEqual([25, 59_000]);
  expect(counting.answer(settle(-5, 120_000), NOW + 1000)).toEqual([25, 59_000]);
});

it('forgets chains that nobody asks about, and no window that runs', () => {
  const counting = new Counting();
  const windows = [unknown(5, MINUTE), unknown(9, 60 * MINUTE)];
  for (let i = 0; i < 1000; i++) counting.answer(spend(windows, { rootId: `root${i}` }), NOW);
  counting.answer(spend(windows, { rootId: 'busy' }), NOW);
  expect(counting.size).toBe(1001);
  for (let at = 0; at < 3 * MINUTE; at += 1000) counting.answer(spend(windows, { rootId: 'busy' }), NOW + at);
  expect(counting.size).toBe(1);
  const now = NOW + 3 * MINUTE;
  expect(counting.answer(spend(windows, { rootId: 'busy' }), now)).toEqual([0, 0, -1, 9, 57 * MINUTE]);
  expect(counting.answer(spend(windows, { rootId: 'root7' }), now)).toEqual([1, 1, MINUTE, 2, 57 * MINUTE]);
});

it('adds what a worker gave back alone, and goes below nothing with none of it', () => {
  const counting = new Counting();
  counting.answer(spend([unknown(100, MINUTE)], { cost: 10, needed: 10 }), NOW);
  const look = (unsent: number) =>
    counting.answer(spend([[100, MINUTE, 1, unsent, 30_000]], { cost: 0, needed: 0 }), NOW);
  expect(look(-4)).toEqual([1, 6, MINUTE]);
  expect(look(-49)).toEqual([1, 0, MINUTE]);
});
