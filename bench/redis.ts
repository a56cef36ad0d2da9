import { compare, WARM_UP_SECONDS } from './arena.ts';
import {
  tollgateFastLane,
  tollgateFastLaneWithRedis,
  tollgateNodeHttp,
  tollgateNodeHttpWithRedis,
} from './contenders/tollgate.ts';
import { fullLoad } from './gateway.ts';
import type { Outcome } from './results.ts';

const CONTENDERS = [tollgateNodeHttp, tollgateNodeHttpWithRedis, tollgateFastLane, tollgateFastLaneWithRedis];
const CONNECTIONS = 64;

/** What it costs to count in a Redis that several gateways share, against counting in memory, in one run. */
export async function benchRedis({ quick }: { quick: boolean }): Promise<Outcome> {
  const seconds = quick ? 2 : 5;
  const settings = { rounds: quick ? 2 : 5, warmUpSeconds: quick ? 1 : WARM_UP_SECONDS };
  const outcome = await compare(CONTENDERS, settings, (run) => fullLoad(run, CONNECTIONS, seconds));
  const conditions = { connections: CONNECTIONS, 'seconds a run': seconds, ...outcome.conditions };
  return { ...outcome, conditions };
}
