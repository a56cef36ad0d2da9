import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port.ts';
import { variables } from '../../shared/config-variables.ts';
import { PLAN, SERVER_SECRET } from '../keys.ts';
import { LOAD_CORE } from '../load.ts';
import { REDIS_MISSING, startRedisServer } from '../nodes.ts';
import { start } from '../processes.ts';
import {
  type Contender,
  debianVersion,
  missingProgram,
  type Setup,
  type StartedContender,
} from './contender.ts';
import { startGuard } from './nginx.ts';

export const tollgateNodeHttp: Contender = {
  name: 'Tollgate, node:http path',
  works: true,
  madeOf: () => `Tollgate at ${commit()}, FAST_LANE=off, on Node ${process.version}`,
  missing: () => null,
  start: (setup) => startTollgate(setup, 'off'),
};

export const tollgateFastLane: Contender = {
  name: 'Tollgate, fast lane',
  works: true,
  madeOf: () => `Tollgate at ${commit()}, FAST_LANE=on, on Node ${process.version}`,
  missing: () => ('FAST_LANE' in variables ? null : 'this Tollgate has no setting FAST_LANE'),
  start: (setup) => startTollgate(setup, 'on'),
};

/** As one of several gateways: each request is counted in a Redis, which shares a core with load and API. */
function withRedis(path: Contender, fastLane: 'on' | 'off'): Contender {
  return {
    ...path,
    name: `${path.name}, limits in Redis`,
    madeOf: () => `${path.madeOf()}; Redis ${debianVersion('redis-server')}`,
    missing: () => REDIS_MISSING,
    async start(setup) {
      const redis = await startRedisServer(setup.folder, LOAD_CORE, setup.started);
      const gateway = await startTollgate(setup, fastLane, { REDIS_URL: redis.url });
      // What Redis uses belongs to what a request costs.
      return { ...gateway, processes: [...gateway.processes, redis.child] };
    },
  };
}

export const tollgateNodeHttpWithRedis = withRedis(tollgateNodeHttp, 'off');
export const tollgateFastLaneWithRedis = withRedis(tollgateFastLane, 'on');

/** Tollgate as the verifier of a proxy that is there already; each request is asked about. */
export const tollgateBehindNginx: Contender = {
  name: 'nginx + auth_request to Tollgate, not cached',
  works: true,
  madeOf: () =>
    `nginx ${debianVersion('nginx')}; /verify/nginx of Tollgate at ${commit()}, Node ${process.version}`,
  missing: () => missingProgram('nginx'),
  async start(setup) {
    const gateway = await startTollgate(setup, 'off');
    const verifier = new URL(gateway.internalUrl).host;
    const guard = await startGuard('nginx-auth-request.conf', setup, {
      verifier,
      verifierPath: '/verify/nginx',
    });
    return { url: guard.url, processes: [...guard.processes, ...gateway.processes] };
  },
};

/** The least share of requests that makes a measurement one of the fast lane. */
const IN_THE_LANE = 0.99;

/** The gateway as a process, with its defaults but for what a benchmark has to set. */
async function startTollgate(
  { keys, upstream, perKey, folder, core, started }: Setup,
  fastLane: 'on' | 'off',
  env: Record<string, string> = {},
): Promise<StartedContender & { internalUrl: string }> {
  const plans = join(folder, 'plans.yaml');
  writeFileSync(
    plans,
    `plans: { ${PLAN}: { name: Bench, limits: [{ requests: ${perKey}, per: minute }] } }\n`,
  );
  const internalPort = await freePort();
  const { child, url } = await start(
    ['gateway/main.ts'],
    {
      KEYSTORE_URL: keys.keystoreUrl,
      TOLLGATE_SECRET: SERVER_SECRET,
      PLANS_FILE: plans,
      UPSTREAM_URL: `http://${upstream}`,
      ROUTES_FILE: 'off',
      GATEWAY_PORT: String(await freePort()),
      INTERNAL_PORT: String(internalPort),
      KEY_HASH: keys.keyHash,
      FAST_LANE: fastLane,
      ...env,
    },
    core,
    started,
  );
  const internalUrl = `http://127.0.0.1:${internalPort}`;
  const wentItsWay = () => inTheLane(`${internalUrl}/metrics`);
  return { url, internalUrl, processes: [child], ...(fastLane === 'on' ? { wentItsWay } : {}) };
}

/** Nearly all requests must have been in the fast lane: it may hand over any, and then something else is measured. */
async function inTheLane(metricsUrl: string): Promise<void> {
  const text = await (await fetch(metricsUrl)).text();
  const sum = (metric: string) =>
    [...text.matchAll(new RegExp(`^${metric}(?:\\{[^}]*\\})? (\\d+)$`, 'gm'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    );
  const lane = sum('tollgate_gateway_fast_lane_requests_total');
  const all = sum('tollgate_gateway_requests_total');
  if (!(lane > IN_THE_LANE * all)) throw new Error(`Only ${lane} of ${all} requests were in the fast lane`);
}

function commit(): string {
  try {
    const args = ['describe', '--always', '--dirty'];
    return execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
  } catch {
    return 'an unknown commit';
  }
}
