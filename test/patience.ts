import { setTimeout as sleep } from 'node:timers/promises';
import { vi } from 'vitest';

/** What is waited for may take as long as a busy machine needs, unless the test says how long. Vitest gives up after a second. */
const TIMEOUT_MS = 120_000;

// The files share processes, and each comes by here.
const patient = Symbol.for('patient');
const { waitFor } = vi;
if (!(patient in waitFor)) {
  vi.waitFor = Object.assign(
    ((callback, options) => {
      const { timeout, interval } = typeof options === 'number' ? { timeout: options } : (options ?? {});
      return timeout === undefined || vi.isFakeTimers()
        ? waitFor(callback, { timeout: TIMEOUT_MS, ...(interval === undefined ? {} : { interval }) })
        : within(callback, timeout, interval);
    }) as typeof waitFor,
    { [patient]: true },
  );
}

/**
 * What has to come within a time comes within half as many looks as fit into it: a machine that stands still for a while
 * takes its time from whoever looks as from who is looked at.
 */
async function within<T>(callback: () => T | Promise<T>, timeoutMs: number, intervalMs = 50): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (let looks = 1; ; looks++) {
    try {
      return await callback();
    } catch (error) {
      if (performance.now() > deadline && looks >= timeoutMs / intervalMs / 2) throw error;
    }
    await sleep(intervalMs);
  }
}
