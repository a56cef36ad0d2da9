import { compare, type Reading, type Run } from './arena.ts';
import { nginxStatic } from './contenders/nginx.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { load } from './load.ts';
import { LARGE_BYTES, LARGE_PATH, UPLOAD_PATH } from './origin.ts';
import type { Outcome } from './results.ts';

const CONNECTIONS = 64;
const CONTENDERS = [nginxStatic, tollgateNodeHttp, tollgateFastLane];

/** Large bodies, each way: 256 KiB from the API, then 256 KiB to it. */
export async function benchBodies({ quick }: { quick: boolean }): Promise<Outcome> {
  const seconds = quick ? 2 : 5;
  const settings = { rounds: quick ? 2 : 5, warmUpSeconds: 1 };
  const outcome = await compare(CONTENDERS, settings, (run) => largeBodies(run, seconds));
  const conditions = {
    connections: CONNECTIONS,
    'body bytes': LARGE_BYTES,
    'seconds a run': seconds,
    ...outcome.conditions,
  };
  return { ...outcome, conditions };
}

async function largeBodies({ url, arena }: Run, seconds: number): Promise<Reading> {
  const common = { url, keyFile: arena.keys.keyFile, connections: CONNECTIONS, seconds };
  const down = await load({ ...common, path: LARGE_PATH });
  const up = await load({ ...common, path: UPLOAD_PATH, bodyBytes: LARGE_BYTES });
  const perSecond = (requests: number) => (requests * LARGE_BYTES) / 2 ** 20;
  return {
    'from the API': { value: perSecond(down.perSecond), unit: 'MiB/s' },
    'to the API': { value: perSecond(up.perSecond), unit: 'MiB/s' },
  };
}
