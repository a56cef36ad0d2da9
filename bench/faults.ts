import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Pool } from 'undici';
import { openKeystore } from '../keystore/keystore.ts';
import { createLogger } from '../shared/log.ts';
import { POSTGRES_MISSING, startPostgres, type TestPostgres } from '../test/postgres-servers.ts';
import { SERVER_SECRET } from './keys.ts';
import { type Node, REDIS_MISSING, startNodes, startRedisAt, startRedisServer } from './nodes.ts';
import { startOrigin } from './origin.ts';
import { stop, temporaryFolder } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

const NODES = 3;
const ALL_CORES = '0,1';
/** A request so often, to one gateway after the other. */
const EVERY_MS = 4;
/** How long each fault lasts, and how long the load goes on after it. */
const FAULT_MS = 4000;
const AFTER_MS = 3000;
/** A connection that is cut is no answer; one that hangs is given up on after this. */
const ANSWER_MS = 10_000;

export const WRONG = '401, 403 or 429';
export const LONGEST = 'longest answer';

type Env = {
  nodes: Node[];
  redis: { port: number; child: ChildProcess };
  postgres: TestPostgres;
  folder: string;
};
type Fault = {
  name: string;
  begin(env: Env): Promise<void> | void;
  end(env: Env, started: ChildProcess[]): Promise<void> | void;
  /** Says that all is as before. */
  over: 'tollgate_gateway_redis_up' | 'tollgate_gateway_keystore_up' | null;
  /** Gateways that are dead while it lasts. */
  dead?: number;
};

const FAULTS: readonly Fault[] = [
  { name: 'nothing', begin() {}, end() {}, over: null },
  {
    name: 'Redis killed, then back empty',
    begin: ({ redis }) => void redis.child.kill('SIGKILL'),
    async end(env, started) {
      env.redis.child = await startRedisAt(env.redis.port, env.folder, ALL_CORES, started);
    },
    over: 'tollgate_gateway_redis_up',
  },
  {
    name: 'Redis stopped (SIGSTOP)',
    begin: ({ redis }) => void redis.child.kill('SIGSTOP'),
    end: ({ redis }) => void redis.child.kill('SIGCONT'),
    over: 'tollgate_gateway_redis_up',
  },
  {
    name: 'PostgreSQL killed, then restarted',
    begin: ({ postgres }) => postgres.kill(),
    end: ({ postgres }) => postgres.restart(),
    over: 'tollgate_gateway_keystore_up',
  },
  {
    name: 'PostgreSQL stopped (SIGSTOP)',
    begin: ({ postgres }) => postgres.suspend(),
    end: ({ postgres }) => postgres.resume(),
    over: 'tollgate_gateway_keystore_up',
  },
  {
    name: 'one gateway killed',
    begin: ({ nodes }) => void (nodes.at(-1) as Node).child.kill('SIGKILL'),
    end() {},
    over: null,
    dead: 1,
  },
];

/** What callers with a good key see while something fails: whether they are told the truth, and how long it takes. */
export async function benchFaults({ quick }: { quick: boolean }): Promise<Outcome> {
  const missing = REDIS_MISSING ?? POSTGRES_MISSING;
  if (missing !== null)
    return { figures: [], conditions: {}, madeOf: {}, leftOut: [{ name: 'all', why: missing }] };
  const figures: Figure[] = [];
  for (const fault of FAULTS) {
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      for (const figure of await one(fault)) {
        const known = figures.find(
          (each) => each.subject === figure.subject && each.measure === figure.measure,
        );
        if (known) known.runs.push(...figure.runs);
        else figures.push(figure);
      }
    }
    process.stderr.write(`  ${fault.name}: done\n`);
  }
  return {
    figures,
    conditions: {
      gateways: NODES,
      'a request every': `${EVERY_MS} ms`,
      'each fault lasts': `${FAULT_MS / 1000} s`,
      cores: 'all on the same two',
    },
    madeOf: {},
    leftOut: [],
  };
}

async function one(fault: Fault): Promise<Figure[]> {
  const folder = temporaryFolder();
  const started: ChildProcess[] = [];
  const postgres = await startPostgres();
  try {
    const redis = await startRedisServer(folder, ALL_CORES, started);
    const keyHash = { memoryKib: 8, passes: 1, lanes: 1 };
    const log = createLogger({ level: 'silent' });
    const keystore = await openKeystore({
      url: postgres.url,
      serverSecret: SERVER_SECRET,
      keyHash,
      revealTtlMs: 1,
      log,
    });
    const { plaintext: key } = await keystore.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'bench',
      name: null,
      expiresAt: null,
      actor: 'bench',
    });
    await keystore.close();
    const plansFile = join(folder, 'plans.yaml');
    writeFileSync(
      plansFile,
      'plans: { bench: { name: Bench, limits: [{ requests: 1000000, per: minute }, { requests: 9000000, per: hour }] } }\n',
    );
    const origin = await startOrigin(folder, 1, started);
    const nodes = await startNodes(
      NODES,
      {
        KEYSTORE_URL: postgres.url,
        PLANS_FILE: plansFile,
        UPSTREAM_URL: `http://${origin.address}`,
        REDIS_URL: redis.url,
        LOG_LEVEL: 'silent',
      },
      ALL_CORES,
      started,
    );
    const env: Env = { nodes, redis, postgres, folder };
    return await watch(fault, env, key, started);
  } finally {
    await Promise.all(started.map(stop));
    await postgres.close();
  }
}

async function watch(fault: Fault, env: Env, key: string, started: ChildProcess[]): Promise<Figure[]> {
  const alive = env.nodes.slice(0, NODES - (fault.dead ?? 0));
  const pools = env.nodes.map(
    ({ url }) => new Pool(url, { connections: 32, headersTimeout: ANSWER_MS, bodyTimeout: ANSWER_MS }),
  );
  const statuses = new Map<number, number>();
  let longest = 0;
  let cut = 0;
  const ask = async (pool: Pool) => {
    const begun = performance.now();
    try {
      const { statusCode, body } = await pool.request({
        path: '/v1/items',
        method: 'GET',
        headers: { 'x-api-key': key },
      });
      await body.dump();
      statuses.set(statusCode, (statuses.get(statusCode) ?? 0) + 1);
      longest = Math.max(longest, performance.now() - begun);
    } catch {
      cut++;
    }
  };
  // Everything that a first use takes is done before.
  for (let i = 0; i < 50; i++) await Promise.all(pools.map(ask));
  longest = 0;
  statuses.clear();
  let turn = 0;
  const asked = new Set<Promise<void>>();
  const timer = setInterval(() => {
    const asking = ask(pools[turn++ % pools.length] as Pool).finally(() => asked.delete(asking));
    asked.add(asking);
  }, EVERY_MS);
  await pause(500);
  await fault.begin(env);
  await pause(FAULT_MS);
  await fault.end(env, started);
  const endedAt = performance.now();
  if (fault.over !== null) await Promise.all(alive.map((node) => isBack(node, fault.over as string)));
  const back = performance.now() - endedAt;
  await pause(AFTER_MS);
  clearInterval(timer);
  await Promise.all(asked);
  await Promise.all(pools.map((pool) => pool.close()));
  const wrong = [401, 403, 429].reduce((sum, status) => sum + (statuses.get(status) ?? 0), 0);
  const ours = [...statuses].reduce((sum, [status, count]) => sum + (status >= 500 ? count : 0), 0);
  const subject = fault.name;
  return [
    { subject, measure: 'answered 200', unit: '', runs: [statuses.get(200) ?? 0] },
    { subject, measure: WRONG, unit: '', runs: [wrong] },
    { subject, measure: '5xx', unit: '', runs: [ours] },
    { subject, measure: 'not answered', unit: '', runs: [cut] },
    { subject, measure: LONGEST, unit: 'ms', runs: [longest] },
    ...(fault.over === null
      ? []
      : [{ subject, measure: 'noticed that it is back after', unit: 'ms', runs: [back] }]),
  ];
}

async function isBack({ internalUrl }: Node, metric: string): Promise<void> {
  for (;;) {
    const text = await (await fetch(`${internalUrl}/metrics`)).text();
    if (new RegExp(`^${metric} 1$`, 'm').test(text)) return;
    await pause(5);
  }
}
