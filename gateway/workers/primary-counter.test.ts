import { afterEach, expect, it, vi } from 'vitest';
import { createLogger } from '../../shared/log.ts';
import { newChain } from '../decision/key.ts';
import { LimitsUnavailable, SharedWindows, type WithoutServer } from '../decision/shared-windows.ts';
import { Counting } from './counting.ts';
import type { CounterCall } from './messages.ts';
import { PrimaryCounter } from './primary-counter.ts';

const open: PrimaryCounter[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

/** A primary without a process: it answers in a later turn, or, while it hangs, once it goes on. */
function startPrimary() {
  const counting = new Counting();
  const messages: number[] = [];
  let held: (() => void)[] | null = null;
  return {
    /** How many calls were in each message. */
    messages,
    hang() {
      held = [];
    },
    goOn() {
      const answers = held ?? [];
      held = null;
      for (const answer of answers) answer();
    },
    ask(calls: readonly CounterCall[]): Promise<readonly (readonly number[])[]> {
      messages.push(calls.length);
      return new Promise((resolve) => {
        const answer = () => resolve(calls.map((call) => counting.answer(call, Date.now())));
        if (held === null) setImmediate(answer);
        else held.push(answer);
      });
    },
  };
}

type TestPrimary = ReturnType<typeof startPrimary>;

/** A worker's view of the windows of one key. */
async function startWorker(primary: TestPrimary, without: WithoutServer = 'local') {
  const counter = new PrimaryCounter((calls) => primary.ask(calls), createLogger({ level: 'silent' }));
  open.push(counter);
  await counter.start();
  expect(counter.up).toBe(true);
  const windows = new SharedWindows('requests', counter, without);
  const chain = newChain('root');
  const limits = [
    { name: 'minute', requests: 50, seconds: 60 },
    { name: 'hour', requests: 80, seconds: 3600 },
  ];
  return {
    counter,
    windows,
    spend: async () => (await windows.spend(chain, limits, 1, 1, Date.now())).violated.length === 0,
    remaining: async () => (await windows.look(chain, limits, Date.now())).map(({ remaining }) => remaining),
  };
}

type TestWorker = Awaited<ReturnType<typeof startWorker>>;

async function admitted(workers: readonly TestWorker[], count: number): Promise<number> {
  const calls = Array.from({ length: count }, (_, i) => (workers[i % workers.length] as TestWorker).spend());
  return (await Promise.all(calls)).filter(Boolean).length;
}

it('of 3N requests to three workers exactly N are admitted, with one message of each worker', async () => {
  const primary = startPrimary();
  const workers = [await startWorker(primary), await startWorker(primary), await startWorker(primary)];
  primary.messages.length = 0;
  expect(await admitted(workers, 150)).toBe(50);
  expect(primary.messages).toEqual([50, 50, 50]);
  expect(await workers[2]?.remaining()).toEqual([0, 30]);
});

it('a worker that takes the place of another goes on with what was counted', async () => {
  const primary = startPrimary();
  expect(await admitted([await startWorker(primary)], 20)).toBe(20);
  expect(await admitted([await startWorker(primary)], 40)).toBe(30);
});

it('while the primary hangs each worker decides alone, at once when it knows, and then what it counted is added', async () => {
  const primary = startPrimary();
  const worker = await startWorker(primary);
  expect(await admitted([worker], 10)).toBe(10);
  primary.hang();
  expect(await admitted([worker], 5)).toBe(5);
  expect(worker.counter.up).toBe(false);
  const sent = primary.messages.length;
  expect(await admitted([worker], 60)).toBe(35);
  expect(primary.messages).toHaveLength(sent);
  expect(worker.windows.decided).toEqual({ shared: 10, local: 65, unavailable: 0 });
  primary.goOn();
  await vi.waitFor(() => expect(worker.counter.up).toBe(true));
  // The five that were on their way are counted there once, and so are the others.
  expect(await worker.remaining()).toEqual([0, 30]);
});

it('while the primary hangs and nothing may pass uncounted, nothing passes', async () => {
  const primary = startPrimary();
  const worker = await startWorker(primary, 'closed');
  primary.hang();
  await expect(worker.spend()).rejects.toThrow(LimitsUnavailable);
  await expect(worker.spend()).rejects.toThrow('The primary process is away: no answer within 500 ms');
  primary.goOn();
  await vi.waitFor(async () => expect(await worker.spend()).toBe(true));
});
