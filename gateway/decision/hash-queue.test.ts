import { describe, expect, it } from 'vitest';
import { HashQueue, HashQueueFull } from './hash-queue.ts';

/** Tasks that end when told to. */
function tasks() {
  const release: (() => void)[] = [];
  const started: number[] = [];
  const task = (n: number) => () =>
    new Promise<number>((resolve) => {
      started.push(n);
      release.push(() => resolve(n));
    });
  return { task, started, release };
}

describe('the line for Argon2', () => {
  it('runs a bounded number at once, the rest in order', async () => {
    const queue = new HashQueue({ concurrency: 2, capacity: 10 });
    const { task, started, release } = tasks();
    const all = [1, 2, 3, 4].map((n) => queue.run(task(n)));
    expect(started).toEqual([1, 2]);
    expect([queue.running, queue.depth]).toEqual([2, 2]);
    release[0]?.();
    await all[0];
    expect(started).toEqual([1, 2, 3]);
    for (let i = 1; i < 4; i++) {
      release[i]?.();
      await all[i];
    }
    expect(await Promise.all(all)).toEqual([1, 2, 3, 4]);
    expect([queue.running, queue.depth]).toEqual([0, 0]);
  });

  it('forgets what has been served while somebody always waits', async () => {
    const queue = new HashQueue({ concurrency: 1, capacity: 10 });
    const slow = () => new Promise<void>((resolve) => setImmediate(resolve));
    const waiting = [0, 1, 2, 3].map(() => queue.run(slow));
    let mostHeld = 0;
    for (let i = 0; i < 5000; i++) {
      await waiting.shift();
      waiting.push(queue.run(slow));
      expect(queue.depth).toBeGreaterThan(0);
      mostHeld = Math.max(mostHeld, queue.held);
    }
    await Promise.all(waiting);
    expect(mostHeld).toBeLessThan(1100);
  });

  it('refuses when it is full, and again admits when it is not', async () => {
    const queue = new HashQueue({ concurrency: 1, capacity: 1 });
    const { task, release } = tasks();
    const running = queue.run(task(1));
    const waiting = queue.run(task(2));
    await expect(queue.run(task(3))).rejects.toBeInstanceOf(HashQueueFull);
    release[0]?.();
    await running;
    const next = queue.run(task(4));
    release[1]?.();
    await waiting;
    release[2]?.();
    expect(await next).toBe(4);
  });

  it('refuses who waited too long', async () => {
    const queue = new HashQueue({ concurrency: 1, capacity: 5, maxWaitMs: -1 });
    const { task, release } = tasks();
    const running = queue.run(task(1));
    const waiting = queue.run(task(2));
    release[0]?.();
    await running;
    await expect(waiting).rejects.toBeInstanceOf(HashQueueFull);
  });

  it('goes on after a task that failed, and does improvements only when nobody waits', async () => {
    const queue = new HashQueue({ concurrency: 1, capacity: 5 });
    const { task, started, release } = tasks();
    const failing = queue.run(() => Promise.reject(new Error('no')));
    queue.whenIdle(task(9));
    const next = queue.run(task(1));
    await expect(failing).rejects.toThrow('no');
    expect(started).toEqual([1]);
    release[0]?.();
    await next;
    await expect.poll(() => started).toEqual([1, 9]);
  });
});
