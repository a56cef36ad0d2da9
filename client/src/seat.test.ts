import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { TollgateError } from './error.ts';
import { holdSeat } from './seat.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A device whose heartbeats end as listed, and then well. */
function device(...ends: (string | null)[]) {
  const calls: string[] = [];
  return {
    calls,
    async heartbeat() {
      calls.push('heartbeat');
      const code = ends.shift() ?? null;
      if (code !== null)
        throw new TollgateError(code, code, null, code === 'server_unreachable' ? {} : { status: 409 });
      return 60;
    },
    async activate() {
      calls.push('activate');
      const code = ends.shift() ?? null;
      if (code !== null) throw new TollgateError(code, code, null, { status: 409 });
    },
  };
}

it('is heard of twice as often as the server asks, until it stops', async () => {
  const holder = device();
  const seat = holdSeat(holder, 60, () => {});
  await vi.advanceTimersByTimeAsync(95_000);
  expect(holder.calls).toEqual(['heartbeat', 'heartbeat', 'heartbeat']);
  seat.stop();
  await vi.advanceTimersByTimeAsync(600_000);
  expect(holder.calls).toHaveLength(3);
});

it('a seat lost while the network was gone is taken again', async () => {
  const lost: string[] = [];
  const holder = device('server_unreachable', 'device_not_active', null);
  const seat = holdSeat(holder, 60, ({ code }) => lost.push(code));
  await vi.advanceTimersByTimeAsync(95_000);
  expect(holder.calls).toEqual(['heartbeat', 'heartbeat', 'activate', 'heartbeat']);
  expect(lost).toEqual([]);
  seat.stop();
});

it.each([
  ['half a year', 15_552_000, 2, 2 * 86_400_000],
  ['no time', 0, 60, 60_000],
])(
  'a server that wants to hear of it every %s is asked neither in a loop nor never',
  async (_what, everyS, most, ms) => {
    let beats = 0;
    const holder = {
      async heartbeat() {
        beats += 1;
        if (beats > most) seat.stop();
        return everyS;
      },
      async activate() {},
    };
    const seat = holdSeat(holder, everyS, () => {});
    await vi.advanceTimersByTimeAsync(ms);
    expect(beats).toBe(most);
    seat.stop();
  },
);

it('a server that is asked too often is asked again when it says so', async () => {
  let beats = 0;
  const holder = {
    async heartbeat() {
      beats += 1;
      if (beats > 1) return 60;
      throw new TollgateError('too_many_requests', 'Too many.', null, {
        status: 429,
        extensions: { retry_after: 300 },
      });
    },
    async activate() {},
  };
  const seat = holdSeat(holder, 60, () => {});
  await vi.advanceTimersByTimeAsync(30_000 + 299_000);
  expect(beats).toBe(1);
  await vi.advanceTimersByTimeAsync(2000);
  expect(beats).toBe(2);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(beats).toBe(3);
  seat.stop();
});

it('one that is taken is told once', async () => {
  const lost: string[] = [];
  const holder = device('device_not_active', 'device_limit');
  holdSeat(holder, 60, ({ code }) => lost.push(code));
  await vi.advanceTimersByTimeAsync(600_000);
  expect(lost).toEqual(['device_limit']);
  expect(holder.calls).toEqual(['heartbeat', 'activate']);
});

it('that no more devices are activated today does not keep it from saying that it is there', async () => {
  let beats = 0;
  const holder = {
    async heartbeat(): Promise<number> {
      beats += 1;
      throw new TollgateError('device_not_active', 'Device not active.');
    },
    async activate() {
      throw new TollgateError('too_many_requests', 'Too many devices were activated today.', null, {
        status: 429,
        extensions: { retry_after: 70_000 },
      });
    },
  };
  const seat = holdSeat(holder, 60, () => {});
  await vi.advanceTimersByTimeAsync(95_000);
  expect(beats).toBe(3);
  seat.stop();
});
