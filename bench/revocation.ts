import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as breath } from 'node:timers/promises';
import { Pool } from 'undici';
import { openKeystore } from '../keystore/keystore.ts';
import { createLogger } from '../shared/log.ts';
import { POSTGRES_MISSING, startPostgres } from '../test/postgres-servers.ts';
import { PLAN, SERVER_SECRET } from './keys.ts';
import { startNodes } from './nodes.ts';
import { startOrigin } from './origin.ts';
import { stop, temporaryFolder } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

const NODES = 3;
const ALL_CORES = '0,1';
/** A request every so often asks each gateway whether it knows already. */
const EVERY_MS = 2;

export const P99 = 'p99';

/** From the commit of a revocation, made by another process, to the first refusal by each of several gateways. */
export async function benchRevocation({ quick }: { quick: boolean }): Promise<Outcome> {
  const count = quick ? 20 : 300;
  const figures: Figure[] = [];
  const leftOut: Outcome['leftOut'] = [];
  const sqlite = `sqlite:${join(temporaryFolder(), 'keystore.sqlite')}`;
  figures.push(...(await measure('SQLite', sqlite, count)));
  if (POSTGRES_MISSING === null) {
    const postgres = await startPostgres();
    try {
      figures.push(...(await measure('PostgreSQL', postgres.url, count)));
    } finally {
      await postgres.close();
    }
  } else leftOut.push({ name: 'PostgreSQL', why: POSTGRES_MISSING });
  return {
    figures,
    conditions: {
      gateways: NODES,
      revocations: count,
      'asked every': `${EVERY_MS} ms`,
      cores: 'all on the same two',
    },
    madeOf: {},
    leftOut,
  };
}

async function measure(engine: string, url: string, count: number): Promise<Figure[]> {
  const folder = temporaryFolder();
  const started: ChildProcess[] = [];
  const log = createLogger({ level: 'silent' });
  const keyHash = { memoryKib: 8, passes: 1, lanes: 1 };
  const keystore = await openKeystore({ url, serverSecret: SERVER_SECRET, keyHash, revealTtlMs: 1, log });
  try {
    const plansFile = join(folder, 'plans.yaml');
    writeFileSync(plansFile, `plans: { ${PLAN}: { name: Bench } }\n`);
    const origin = await startOrigin(folder, 1, started);
    const env = {
      KEYSTORE_URL: url,
      PLANS_FILE: plansFile,
      UPSTREAM_URL: `http://${origin.address}`,
    };
    const nodes = await startNodes(NODES, env, ALL_CORES, started);
    const pools = nodes.map((node) => new Pool(node.url, { connections: 2 }));
    const took: number[] = [];
    const key = { mode: 'test', prefix: 'tg', planId: PLAN, name: null, expiresAt: null } as const;
    for (const { plaintext, id } of await keystore.createKeys({
      keys: Array(count).fill(key),
      actor: 'bench',
    })) {
      for (const pool of pools) {
        if ((await statusOf(pool, plaintext)) !== 200) throw new Error('A good key was refused');
      }
      let revokedAt = Number.POSITIVE_INFINITY;
      const refused = pools.map(async (pool) => {
        for (;;) {
          const askedAt = performance.now();
          const status = await statusOf(pool, plaintext);
          if (status === 401) return performance.now() - revokedAt;
          if (status !== 200) throw new Error(`An answer was ${status}`);
          while (performance.now() - askedAt < EVERY_MS) await breath();
        }
      });
      await keystore.revokeKey({ id, reason: 'operator', actor: 'bench' });
      revokedAt = performance.now();
      // A gateway may know before whoever revoked does.
      took.push(...(await Promise.all(refused)).map((ms) => Math.max(0, ms)));
    }
    await Promise.all(pools.map((pool) => pool.close()));
    took.sort((a, b) => a - b);
    const at = (share: number) => took[Math.min(took.length - 1, Math.floor(took.length * share))] as number;
    return [
      { subject: engine, measure: 'p50', unit: 'ms', runs: [at(0.5)] },
      { subject: engine, measure: P99, unit: 'ms', runs: [at(0.99)] },
      { subject: engine, measure: 'longest', unit: 'ms', runs: [at(1)] },
    ];
  } finally {
    await keystore.close();
    await Promise.all(started.map(stop));
  }
}

async function statusOf(pool: Pool, key: string): Promise<number> {
  const { statusCode, body } = await pool.request({
    path: '/',
    method: 'GET',
    headers: { 'x-api-key': key },
  });
  await body.dump();
  return statusCode;
}
