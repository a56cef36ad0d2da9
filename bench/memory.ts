import { setTimeout as pause } from 'node:timers/promises';
import { compare, type Reading, type Run } from './arena.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { load } from './load.ts';
import { residentBytes } from './processes.ts';
import type { Outcome } from './results.ts';

const CONNECTIONS = 64;
const MIB = 2 ** 20;

/** Memory under ten minutes of full load. A leak shows as a slope over the second half, when caches are full. */
export async function benchMemory({ quick }: { quick: boolean }): Promise<Outcome> {
  const seconds = quick ? 20 : 600;
  const everySeconds = quick ? 1 : 10;
  const outcome = await compare(
    [tollgateNodeHttp, tollgateFastLane],
    { rounds: 1, warmUpSeconds: 1 },
    (run) => sampled(run, seconds, everySeconds),
  );
  const conditions = {
    connections: CONNECTIONS,
    'seconds of load': seconds,
    'seconds between samples': everySeconds,
    ...outcome.conditions,
  };
  return { ...outcome, conditions };
}

async function sampled({ url, processes, arena }: Run, seconds: number, every: number): Promise<Reading> {
  const samples: number[] = [];
  const stopped = new AbortController();
  const sampling = (async () => {
    while (!stopped.signal.aborted) {
      samples.push(processes.reduce((sum, child) => sum + residentBytes(child), 0) / MIB);
      await pause(every * 1000, undefined, { signal: stopped.signal }).catch(() => {});
    }
  })();
  try {
    await load({ url, keyFile: arena.keys.keyFile, connections: CONNECTIONS, seconds });
  } finally {
    stopped.abort();
    await sampling;
  }
  const half = samples.slice(Math.floor(samples.length / 2));
  const tenMinutes = 600 / every;
  return {
    'at the start': { value: samples[0] as number, unit: 'MiB' },
    'after half of the time': { value: half[0] as number, unit: 'MiB' },
    'at the end': { value: samples.at(-1) as number, unit: 'MiB' },
    most: { value: Math.max(...samples), unit: 'MiB' },
    'trend in ten minutes': { value: slope(half) * tenMinutes, unit: 'MiB' },
  };
}

/** The slope of the line closest to some values (least squares), a step. */
function slope(values: readonly number[]): number {
  const n = values.length;
  const meanX = (n - 1) / 2;
  const meanY = values.reduce((sum, value) => sum + value, 0) / n;
  let above = 0;
  let below = 0;
  for (const [x, y] of values.entries()) {
    above += (x - meanX) * (y - meanY);
    below += (x - meanX) ** 2;
  }
  return above / below;
}
