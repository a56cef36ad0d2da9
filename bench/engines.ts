import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { Pool } from 'undici';
import { newChain } from '../gateway/decision/key.ts';
import { RedisCounter } from '../gateway/decision/redis-counter.ts';
import { SharedWindows } from '../gateway/decision/shared-windows.ts';
import { copyKeystore, openKeystore } from '../keystore/keystore.ts';
import { isPostgres } from '../shared/keystore-url.ts';
import { createLogger } from '../shared/log.ts';
import { purchase, subscription } from '../test/keystore-fixtures.ts';
import { POSTGRES_MISSING, startPostgres } from '../test/postgres-servers.ts';
import { rawQuery } from '../test/raw-sql.ts';
import { PLAN, SERVER_SECRET, seedKeys } from './keys.ts';
import { REDIS_MISSING, startNodes, startRedisServer } from './nodes.ts';
import { startOrigin } from './origin.ts';
import { residentBytes, stop, temporaryFolder } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

const FEW = 1000;
const MANY = 1_000_000;
const ALL_CORES = '0,1';
const MIB = 2 ** 20;
const CHEAP_HASH = { memoryKib: 8, passes: 1, lanes: 1 };
/** Keys whose first and second use is measured, over so many connections, and keys used to see what they take in memory. */
const USED = 1000;
const CONNECTIONS = 4;
const IN_MEMORY = 50_000;
const STARTS = 3;
const PARALLEL = 4;

type Crowd = { keyFile: string; urls: { SQLite: string; PostgreSQL?: string } };

/**
 * What a keystore of a million keys costs against one of a thousand, on both engines: on disk, at a gateway's start, in its
 * memory, at a key's first use and after it. And what the engines themselves carry.
 */
export async function benchEngines({ quick }: { quick: boolean }): Promise<Outcome> {
  const counts = [FEW, quick ? 20_000 : MANY];
  const folder = temporaryFolder();
  const figures: Figure[] = [];
  const leftOut: Outcome['leftOut'] = [];
  if (POSTGRES_MISSING !== null) leftOut.push({ name: 'PostgreSQL', why: POSTGRES_MISSING });
  const postgres = POSTGRES_MISSING === null ? await startPostgres() : null;
  try {
    for (const count of counts) {
      const crowd = await seed(join(folder, `${count}`), count, postgres?.url ?? null, figures);
      for (const [engine, url] of Object.entries(crowd.urls)) {
        const subject = `${engine}, ${count.toLocaleString('en')} keys`;
        process.stderr.write(`  ${subject}\n`);
        figures.push({ subject, measure: 'on disk', unit: 'MiB', runs: [(await bytesOnDisk(url)) / MIB] });
        figures.push(...(await gatewayOn(url, crowd.keyFile, count, subject)));
      }
    }
    const empty: [string, string][] = [['SQLite', `sqlite:${join(folder, 'empty', 'keystore.sqlite')}`]];
    if (postgres !== null) empty.push(['PostgreSQL', `${postgres.url}?schema=empty`]);
    for (const [engine, url] of empty) figures.push(...(await writesOf(engine, url, quick)));
    if (REDIS_MISSING === null) figures.push(...(await redisFigures(folder, quick)));
    else leftOut.push({ name: 'Redis', why: REDIS_MISSING });
  } finally {
    await postgres?.close();
  }
  return {
    figures,
    conditions: { 'Argon2id cost': 'm=8 (the least there is)', cores: 'all on the same two' },
    madeOf: {},
    leftOut,
  };
}

/** Keys in a SQLite file, and the same in a schema of PostgreSQL. */
async function seed(
  folder: string,
  count: number,
  postgres: string | null,
  figures: Figure[],
): Promise<Crowd> {
  mkdirSync(folder);
  const { keystoreUrl, keyFile } = await seedKeys(folder, count);
  const urls: Crowd['urls'] = { SQLite: keystoreUrl };
  if (postgres !== null) {
    urls.PostgreSQL = `${postgres}?schema=k${count}`;
    const begun = performance.now();
    await copyKeystore(keystoreUrl, urls.PostgreSQL);
    const perSecond = count / ((performance.now() - begun) / 1000);
    const subject = `PostgreSQL, ${count.toLocaleString('en')} keys`;
    figures.push({ subject, measure: 'copied and compared', unit: 'keys/s', runs: [perSecond] });
    await rawQuery(urls.PostgreSQL, 'vacuum analyze');
  }
  return { keyFile, urls };
}

async function bytesOnDisk(url: string): Promise<number> {
  const [row] = await rawQuery(
    url,
    isPostgres(url)
      ? "select sum(pg_total_relation_size(c.oid)) as bytes from pg_class c where relnamespace = current_schema()::regnamespace and relkind = 'r'"
      : 'select page_count * page_size as bytes from pragma_page_count(), pragma_page_size()',
  );
  return Number(row?.bytes);
}

async function gatewayOn(url: string, keyFile: string, count: number, subject: string): Promise<Figure[]> {
  const folder = temporaryFolder();
  const plansFile = join(folder, 'plans.yaml');
  writeFileSync(plansFile, `plans: { ${PLAN}: { name: Bench } }\n`);
  const started: ChildProcess[] = [];
  const origin = await startOrigin(folder, 1, started);
  const env = {
    KEYSTORE_URL: url,
    PLANS_FILE: plansFile,
    UPSTREAM_URL: `http://${origin.address}`,
  };
  const keys = readFileSync(keyFile, 'utf8').trim().split('\n');
  const starts: number[] = [];
  const idle: number[] = [];
  try {
    for (let i = 1; ; i++) {
      const begun = performance.now();
      const [node] = await startNodes(1, env, ALL_CORES, started);
      if (node === undefined) throw new Error('No gateway');
      starts.push((performance.now() - begun) / 1000);
      idle.push(residentBytes(node.child) / MIB);
      if (i < STARTS) {
        await stop(node.child);
        continue;
      }
      const step = Math.max(1, Math.floor(keys.length / USED));
      const some = keys.filter((_, at) => at % step === 0).slice(0, USED);
      const first = await latencies(node.url, some);
      const cached = await latencies(node.url, some);
      const many = Math.min(IN_MEMORY, keys.length);
      await latencies(node.url, keys.slice(0, many), 32);
      const used = residentBytes(node.child) / MIB;
      return [
        { subject, measure: 'gateway started', unit: 's', runs: starts },
        { subject, measure: 'its memory idle', unit: 'MiB', runs: idle },
        {
          subject,
          measure: `with ${Math.min(IN_MEMORY, count).toLocaleString('en')} keys used`,
          unit: 'MiB',
          runs: [used],
        },
        ...quantiles(subject, 'first use', first),
        ...quantiles(subject, 'known key', cached),
      ];
    }
  } finally {
    await Promise.all(started.map(stop));
  }
}

/** How long each key's request took, milliseconds. */
async function latencies(url: string, keys: readonly string[], connections = CONNECTIONS): Promise<number[]> {
  const pool = new Pool(url, { connections });
  const took: number[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (let key = keys[next++]; key !== undefined; key = keys[next++]) {
        const begun = performance.now();
        const { statusCode, body } = await pool.request({
          path: '/v1/items',
          method: 'GET',
          headers: { 'x-api-key': key },
        });
        await body.dump();
        if (statusCode !== 200) throw new Error(`An answer was ${statusCode}`);
        took.push(performance.now() - begun);
      }
    }),
  );
  await pool.close();
  return took;
}

function quantiles(subject: string, what: string, values: number[]): Figure[] {
  values.sort((a, b) => a - b);
  const at = (share: number) =>
    values[Math.min(values.length - 1, Math.floor(values.length * share))] as number;
  return [
    { subject, measure: `${what}, p50`, unit: 'ms', runs: [at(0.5)] },
    { subject, measure: `${what}, p99`, unit: 'ms', runs: [at(0.99)] },
  ];
}

/** What several processes together can write: purchases, each a business step, and usage. */
async function writesOf(engine: string, url: string, quick: boolean): Promise<Figure[]> {
  const log = createLogger({ level: 'silent' });
  const options = { url, serverSecret: SERVER_SECRET, keyHash: CHEAP_HASH, revealTtlMs: 1, log };
  const first = await openKeystore(options);
  const rest = await Promise.all(Array.from({ length: PARALLEL - 1 }, () => openKeystore(options)));
  const stores = [first, ...rest];
  const count = quick ? 100 : 1000;
  try {
    const begun = performance.now();
    await Promise.all(
      stores.map(async (store, process) => {
        for (let i = process; i < count; i += PARALLEL) {
          await store.provisionPurchase(
            purchase({
              sessionId: `cs_test_${String(i).padStart(8, '0').repeat(7)}`,
              buyer: { stripeCustomerId: `cus_${i}`, email: `buyer${i}@example.com` },
              subscription: subscription({ id: `sub_${i}` }),
            }),
          );
        }
      }),
    );
    const step = (performance.now() - begun) / count;
    const before = await bytesOnDisk(url);
    const rows = quick ? 10_000 : 100_000;
    const usageBegun = performance.now();
    await Promise.all(
      stores.map(async (store, process) => {
        for (let at = process * 250; at < rows; at += PARALLEL * 250) {
          const batch = Array.from({ length: 250 }, (_, i) => ({
            keyId: `key${String(at + i).padStart(9, '0')}`,
            hour: 497_000,
            requests: 10,
            refused: 0,
          }));
          await store.recordUsage(batch, () => {});
        }
      }),
    );
    const seconds = (performance.now() - usageBegun) / 1000;
    const subject = `${engine}, ${PARALLEL} processes' writes`;
    return [
      { subject, measure: 'a purchase', unit: 'ms', runs: [step] },
      { subject, measure: 'usage', unit: 'rows/s', runs: [rows / seconds] },
      {
        subject,
        measure: 'a row of usage',
        unit: 'bytes',
        runs: [((await bytesOnDisk(url)) - before) / rows],
      },
      { subject, measure: 'a purchase on disk', unit: 'bytes', runs: [before / count] },
    ];
  } finally {
    for (const store of stores) await store.close();
  }
}

/** What a running window takes of Redis, and a decision on two windows of its time. */
async function redisFigures(folder: string, quick: boolean): Promise<Figure[]> {
  const started: ChildProcess[] = [];
  const redis = await startRedisServer(folder, ALL_CORES, started);
  const client = new Redis(redis.url);
  const server = new RedisCounter(redis.url, createLogger({ level: 'silent' }));
  try {
    await server.start();
    const windows = new SharedWindows('requests', server, 'local');
    const info = async (name: string) =>
      Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(await client.info())?.[1]);
    const cpu = async () => (await info('used_cpu_user')) + (await info('used_cpu_sys'));
    const limits = [
      { name: 'minute', requests: 1000, seconds: 3600 },
      { name: 'hour', requests: 10_000, seconds: 36_000 },
    ];
    const keys = quick ? 2000 : 50_000;
    const round = async () => {
      for (let at = 0; at < keys; at += 100) {
        await Promise.all(
          Array.from({ length: 100 }, (_, i) =>
            windows.spend(newChain(`k${String(at + i).padStart(11, '0')}`), limits, 1, 1, Date.now()),
          ),
        );
      }
    };
    const empty = await info('used_memory');
    await round();
    const bytes = ((await info('used_memory')) - empty) / (keys * limits.length);
    const cpuBefore = await cpu();
    for (let i = 0; i < 3; i++) await round();
    const seconds = (await cpu()) - cpuBefore;
    if (windows.decided.local > 0)
      throw new Error(`${windows.decided.local} decisions were made without Redis`);
    const subject = 'Redis';
    return [
      { subject, measure: 'a running window', unit: 'bytes', runs: [bytes] },
      { subject, measure: 'CPU a decision on two windows', unit: 'us', runs: [(seconds * 1e6) / (3 * keys)] },
    ];
  } finally {
    server.close();
    client.disconnect();
    await Promise.all(started.map(stop));
  }
}
