import { compare, WARM_UP_SECONDS } from './arena.ts';
import { nginxStatic } from './contenders/nginx.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { fullLoad } from './gateway.ts';
import type { Outcome } from './results.ts';

const CONNECTIONS = 512;

/** The same work over many connections at once. */
export async function benchConnections({ quick }: { quick: boolean }): Promise<Outcome> {
  const seconds = quick ? 2 : 5;
  const settings = { rounds: quick ? 2 : 5, warmUpSeconds: quick ? 1 : WARM_UP_SECONDS };
  const outcome = await compare([nginxStatic, tollgateNodeHttp, tollgateFastLane], settings, (run) =>
    fullLoad(run, CONNECTIONS, seconds),
  );
  const conditions = { connections: CONNECTIONS, 'seconds a run': seconds, ...outcome.conditions };
  return { ...outcome, conditions };
}
