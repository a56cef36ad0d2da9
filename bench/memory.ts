import { setTimeout as pause } from 'node:timers/promises';
import { compare, type Reading, type Run } from './arena.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { load } from './load.ts';
import { residentBytes } from './processes.ts';
import type { Outcome } from './results.ts';
import { measured } from './statistics.ts';

const CONNECTIONS = 64;
const MIB = 2 ** 20;

/** Memory under ten minutes of full load, read at regular intervals: a leak shows as a second half above the first. */
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
  const middle = Math.floor(samples.length / 2);
  const growth = measured(samples.slice(middle)).median / measured(samples.slice(0, middle)).median;
  return {
    'resident memory': { value: samples, unit: 'MiB' },
    'second half / first half': { value: growth, unit: '' },
  };
}
