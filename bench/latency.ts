import { compare, type Reading, type Run, WARM_UP_SECONDS } from './arena.ts';
import { nginxAuthRequest, nginxLua, nginxStatic } from './contenders/nginx.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { LOAD_CORE, load } from './load.ts';
import { run } from './processes.ts';
import type { Outcome } from './results.ts';
import { measured } from './statistics.ts';

const CONTENDERS = [nginxStatic, nginxLua, nginxAuthRequest, tollgateNodeHttp, tollgateFastLane];
const CONNECTIONS = 64;

/**
 * What a contender adds to the latency of the API at half of what it can take at the most: the same steady rate goes
 * through it and, right after, straight to the API. Each second has quantiles of its own, so that what the machine does to
 * whoever runs now and then is in the spread, and what a contender does again and again in the median.
 */
export async function benchLatency({ quick }: { quick: boolean }): Promise<Outcome> {
  const seconds = quick ? 2 : 6;
  const settings = { rounds: quick ? 2 : 5, warmUpSeconds: quick ? 1 : WARM_UP_SECONDS };
  const outcome = await compare(CONTENDERS, settings, (each) => halfLoad(each, quick ? 1 : 3, seconds));
  const conditions = {
    connections: CONNECTIONS,
    'seconds a run': seconds,
    quantiles: 'of each second by itself',
    ...outcome.conditions,
    load: `half of each one's own peak, at a steady rate, by bench/open-loop.ts; the peak by ${outcome.conditions.load}`,
  };
  return { ...outcome, conditions };
}

async function halfLoad(
  { url, arena, wentItsWay }: Run,
  peakSeconds: number,
  seconds: number,
): Promise<Reading> {
  const { keyFile } = arena.keys;
  const peak = await load({ url, keyFile, connections: CONNECTIONS, seconds: peakSeconds });
  const rate = Math.round(peak.perSecond / 2);
  const through = await steady(url, keyFile, rate, seconds);
  await wentItsWay?.();
  const straight = await steady(`http://${arena.origin}`, keyFile, rate, seconds);
  const withoutIt = measured(straight.p99).median;
  return {
    'steady rate': { value: rate, unit: '/s' },
    p50: { value: through.p50, unit: 'ms' },
    p99: { value: through.p99, unit: 'ms' },
    'p50 of the API alone': { value: straight.p50, unit: 'ms' },
    'p99 of the API alone': { value: straight.p99, unit: 'ms' },
    'p99 added': { value: through.p99.map((p99) => p99 - withoutIt), unit: 'ms' },
  };
}

async function steady(url: string, keyFile: string, rate: number, seconds: number) {
  const args = ['bench/open-loop.ts', url, keyFile, String(rate), String(seconds)];
  const result = await run<{ unexpected: number; p50: number[]; p99: number[] }>(args, LOAD_CORE);
  if (result.unexpected > 0) throw new Error(`${result.unexpected} requests were not answered 200`);
  return result;
}
