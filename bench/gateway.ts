import { compare, type Reading, type Run, WARM_UP_SECONDS } from './arena.ts';
import { CONTENDERS } from './contenders/all.ts';
import type { Contender } from './contenders/contender.ts';
import { load } from './load.ts';
import { cpuMicroseconds } from './processes.ts';
import type { Outcome } from './results.ts';

const CONNECTIONS = 64;

/** What load generator and API do by themselves: nobody in between could be faster. */
export const STRAIGHT: Contender = {
  name: 'Nobody: load and API alone, on their core',
  works: false,
  madeOf: () => 'the API itself',
  missing: () => null,
  start: async ({ upstream }) => ({ url: `http://${upstream}`, processes: [] }),
};

/** Everyone at the same work, at full load: requests a second, processor time a request, latency. */
export async function benchGateway({ quick }: { quick: boolean }): Promise<Outcome> {
  const seconds = quick ? 2 : 5;
  const settings = { rounds: quick ? 2 : 5, warmUpSeconds: quick ? 1 : WARM_UP_SECONDS };
  const outcome = await compare([STRAIGHT, ...CONTENDERS], settings, (run) =>
    fullLoad(run, CONNECTIONS, seconds),
  );
  const conditions = { connections: CONNECTIONS, 'seconds a run': seconds, ...outcome.conditions };
  return { ...outcome, conditions };
}

/** All that a contender takes over some connections. */
export async function fullLoad(
  { url, processes, arena, wentItsWay }: Run,
  connections: number,
  seconds: number,
): Promise<Reading> {
  const before = cpuMicroseconds(processes);
  const { perSecond, p50, p99, requests } = await load({
    url,
    keyFile: arena.keys.keyFile,
    connections,
    seconds,
  });
  const cpu = cpuMicroseconds(processes) - before;
  await wentItsWay?.();
  return {
    'requests a second': { value: perSecond, unit: '/s' },
    ...(processes.length > 0 ? { 'CPU a request': { value: cpu / requests, unit: 'us' } } : {}),
    p50: { value: p50, unit: 'ms' },
    p99: { value: p99, unit: 'ms' },
  };
}
