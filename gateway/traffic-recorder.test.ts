import { afterEach, expect, it, vi } from 'vitest';
import type { Keystore, TrafficCount, TrafficKind } from '../keystore/keystore.ts';
import { createLogger } from '../shared/log.ts';
import { closeAll, startTestGateway } from '../test/gateways.ts';
import { openTestKeystore } from '../test/keystores.ts';
import { TrafficRecorder } from './traffic-recorder.ts';

afterEach(closeAll);

const HOUR_MS = 3_600_000;
const HOUR = 495_000;

/** What is in a keystore, summed up over hours. */
async function written(keystore: Keystore, what: TrafficKind): Promise<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const each of await keystore.traffic({ by: 'hour', since: 0 })) {
    if (each.what === what) sums[each.name] = (sums[each.name] ?? 0) + each.count;
  }
  return sums;
}

/** A recorder of one figure, over a keystore that can be away, at a time of its own. */
function recorder(clock?: () => number) {
  const state = {
    count: 0,
    now: HOUR * HOUR_MS,
    away: false,
    rows: [] as TrafficCount[],
    /** Called between the look and the answer. */
    meanwhile: () => {},
  };
  const lines: string[] = [];
  const recording = new TrafficRecorder({
    keystore: {
      async recordTraffic(counts) {
        state.meanwhile();
        if (state.away) throw new Error('The keystore is away');
        state.rows.push(...counts);
      },
    },
    metrics: {
      counts: () => [{ what: 'requests', name: 'forwarded 2xx', count: state.count }].values() as never,
    },
    log: createLogger({ level: 'warn', destination: { write: (line) => void lines.push(line) } }),
    now: clock ?? (() => state.now),
  });
  const sums = () =>
    [...Map.groupBy(state.rows, ({ hour }) => hour - HOUR)].map(([hour, rows]) => [
      hour,
      rows.reduce((sum, { count }) => sum + count, 0),
    ]);
  return { state, recording, sums, lines };
}

it('writes what happened over HTTP, up to the last request before the stop', async () => {
  const gateway = await startTestGateway();
  const { plaintext } = await gateway.key('small');
  for (let i = 0; i < 7; i++) await gateway.get('/x', plaintext);
  await gateway.get('/x');
  await gateway.get('/whoami', plaintext);
  await gateway.close();
  const after = await openTestKeystore({ url: gateway.keystoreUrl });
  expect(await written(after, 'requests')).toEqual({
    'forwarded 2xx': 5,
    'refused 4xx': 3,
    'answered 2xx': 1,
  });
  expect(await written(after, 'refusals')).toEqual({ rate_limited: 2, missing_key: 1 });
  const answers = await written(after, 'answers');
  expect(Object.values(answers).reduce((sum, count) => sum + count)).toBe(5);
  expect(Object.keys(answers).every((bucket) => /^[\d.]+-[\d.]+$/.test(bucket))).toBe(true);
  await after.close();
});

it('adds up over gateways on one keystore', async () => {
  const one = await startTestGateway();
  const other = await startTestGateway({ keystoreUrl: one.keystoreUrl });
  const { plaintext } = await one.key('open');
  for (const gateway of [one, other, one]) await gateway.get('/x', plaintext);
  await Promise.all([one.close(), other.close()]);
  const after = await openTestKeystore({ url: one.keystoreUrl });
  expect(await written(after, 'requests')).toEqual({ 'forwarded 2xx': 3 });
  await after.close();
});

it('keeps what could not be written, for the hour in which it was, and writes it once', async () => {
  const { state, recording, sums } = recorder();
  state.away = true;
  state.count = 5;
  state.now += HOUR_MS - 1;
  await recording.flush();
  state.now += 1;
  state.count = 7;
  await recording.flush();
  state.count = 10;
  await recording.flush();
  expect(state.rows).toEqual([]);
  state.away = false;
  state.meanwhile = () => {
    state.count = 11;
  };
  await recording.flush();
  expect(sums()).toEqual([
    [0, 7],
    [1, 3],
  ]);
  await recording.flush();
  await recording.close();
  expect(sums()).toEqual([
    [0, 7],
    [1, 4],
  ]);
});

it('says at a stop that something is lost, and does not wait for a keystore that is away', async () => {
  const { state, recording, lines } = recorder();
  state.count = 5;
  state.away = true;
  await recording.close();
  expect(lines.at(-1)).toContain('could not be written before the stop');
});

it('looks by itself, and as an hour ends', async () => {
  vi.useFakeTimers({ now: HOUR * HOUR_MS - 1000 });
  try {
    const { state, recording, sums } = recorder(Date.now);
    state.count = 3;
    await vi.advanceTimersByTimeAsync(1000);
    expect(sums()).toEqual([[-1, 3]]);
    state.count = 5;
    await vi.advanceTimersByTimeAsync(5000);
    expect(sums()).toEqual([
      [-1, 3],
      [0, 2],
    ]);
    await recording.close();
  } finally {
    vi.useRealTimers();
  }
});
