import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Pool } from 'undici';
import { openKeystore } from '../keystore/keystore.ts';
import { createLogger } from '../shared/log.ts';
import { SERVER_SECRET } from './keys.ts';
import { type Node, REDIS_MISSING, startNodes, startRedisServer } from './nodes.ts';
import { startOrigin } from './origin.ts';
import { stop, temporaryFolder } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

const NODES = [1, 3, 5, 9];
const LIMITS = [10, 100, 1000, 10_000];
const WINDOWS = [10, 60];
const LOADS = [0.9, 1, 2];
const ALL_CORES = '0,1';
/** Windows whose ends are told to whole seconds are told apart by so much. */
const APART_S = 4;
const TICK_MS = 5;
/** A load that was held up by more than this does not make up for it: it is to be steady. */
const HELD_UP_MS = 50;

export const ACCURACY_IN_ALL = 'All cells';
export const ABOVE = 'windows above their limit';
export const REFUSED_BELOW = 'refused at 0.9 of the limit, with room left in the window';

/** A limit under a load: one key of a plan of its own. */
type Cell = { limit: number; window: number; load: number; key: string; sent: number; answers: Answer[] };
type Answer = { admitted: boolean; ends: number };

/**
 * How exact limits are that several gateways share through Redis: a steady load on each of many limits at once, round robin
 * over the gateways, and of each window how many requests were let through it.
 */
export async function benchAccuracy({ quick }: { quick: boolean }): Promise<Outcome> {
  if (REDIS_MISSING !== null) {
    return { figures: [], conditions: {}, madeOf: {}, leftOut: [{ name: 'Redis', why: REDIS_MISSING }] };
  }
  const windows = quick ? [10] : WINDOWS;
  const seconds = quick ? 25 : 135;
  const folder = temporaryFolder();
  const figures: Figure[] = [];
  const summary = { above: 0, refused: 0 };
  for (const count of quick ? [3] : NODES) {
    const started: ChildProcess[] = [];
    try {
      const cells = await measure(count, windows, seconds, join(folder, `${count}`), started);
      for (const cell of cells) figures.push(...figuresOf(count, cell, summary));
      process.stderr.write(`  ${count} gateways: ${summary.above} windows above their limit so far\n`);
    } finally {
      await Promise.all(started.map(stop));
    }
  }
  figures.push(
    { subject: ACCURACY_IN_ALL, measure: ABOVE, unit: '', runs: [summary.above] },
    { subject: ACCURACY_IN_ALL, measure: REFUSED_BELOW, unit: '', runs: [summary.refused] },
  );
  return {
    figures,
    conditions: {
      'seconds of load': seconds,
      cores: 'gateways, Redis, API and load on the same two',
      load: 'steady, each request to the next gateway',
    },
    madeOf: {},
    leftOut: [],
  };
}

async function measure(
  count: number,
  windows: readonly number[],
  seconds: number,
  name: string,
  started: ChildProcess[],
): Promise<Cell[]> {
  const folder = temporaryFolder();
  const cells: Cell[] = [];
  const plans: string[] = [];
  const url = `sqlite:${join(folder, 'keystore.sqlite')}`;
  const keyHash = { memoryKib: 8, passes: 1, lanes: 1 };
  const log = createLogger({ level: 'silent' });
  const keystore = await openKeystore({ url, serverSecret: SERVER_SECRET, keyHash, revealTtlMs: 1, log });
  for (const limit of LIMITS) {
    for (const window of windows) {
      const planId = `l${limit}_w${window}`;
      plans.push(`  ${planId}: { name: ${planId}, limits: [{ requests: ${limit}, per: ${window}s }] }`);
      for (const load of LOADS) {
        const { plaintext } = await keystore.createKey({
          mode: 'test',
          prefix: 'tg',
          planId,
          name: null,
          expiresAt: null,
          actor: 'bench',
        });
        cells.push({ limit, window, load, key: plaintext, sent: 0, answers: [] });
      }
    }
  }
  await keystore.close();
  const plansFile = join(folder, 'plans.yaml');
  writeFileSync(plansFile, `plans:\n${plans.join('\n')}\n`);
  const redis = await startRedisServer(folder, ALL_CORES, started);
  const origin = await startOrigin(folder, 1, started);
  const nodes = await startNodes(
    count,
    {
      KEYSTORE_URL: url,
      PLANS_FILE: plansFile,
      UPSTREAM_URL: `http://${origin.address}`,
      REDIS_URL: redis.url,
    },
    ALL_CORES,
    started,
  );
  await drive(nodes, cells, seconds);
  for (const node of nodes) await noneAlone(node, name);
  return cells;
}

/** Sends to each cell at its rate. An answer that is neither 200 nor 429 fails the run. */
async function drive(nodes: readonly Node[], cells: readonly Cell[], seconds: number): Promise<void> {
  const pools = nodes.map(({ url }) => new Pool(url, { connections: 16 }));
  // Each key is verified by each gateway before anything is counted: at a route that spends nothing.
  for (const pool of pools) {
    for (const { key } of cells) await send(pool, '/quota', key);
  }
  const underWay = new Set<Promise<void>>();
  let failure: Error | undefined;
  let begun = performance.now();
  let last = begun;
  let turn = 0;
  for (;;) {
    const now = performance.now();
    if (now - last > HELD_UP_MS) begun += now - last;
    last = now;
    const elapsed = (now - begun) / 1000;
    if (elapsed >= seconds || failure) break;
    for (const cell of cells) {
      const due = Math.floor((elapsed * cell.limit * cell.load) / cell.window);
      for (; cell.sent < due; cell.sent++) {
        const pool = pools[turn++ % pools.length] as Pool;
        const sending = send(pool, '/v1/items', cell.key)
          .then((answer) => void cell.answers.push(answer))
          .catch((error: Error) => {
            failure ??= error;
          })
          .finally(() => underWay.delete(sending));
        underWay.add(sending);
      }
    }
    await pause(TICK_MS);
  }
  await Promise.all(underWay);
  await Promise.all(pools.map((pool) => pool.close()));
  if (failure) throw failure;
}

async function send(pool: Pool, path: string, key: string): Promise<Answer> {
  const { statusCode, headers, body } = await pool.request({
    path,
    method: 'GET',
    headers: { 'x-api-key': key },
  });
  await body.dump();
  if (statusCode !== 200 && statusCode !== 429) throw new Error(`An answer was ${statusCode}`);
  return {
    admitted: statusCode === 200,
    ends: Date.now() / 1000 + Number(headers['x-ratelimit-reset']),
  };
}

/** A decision that a gateway made without Redis would not be about what is measured. */
async function noneAlone({ internalUrl }: Node, name: string): Promise<void> {
  const text = await (await fetch(`${internalUrl}/metrics`)).text();
  const alone = Number(/limit_decisions_total\{by="this_gateway"\} (\d+)/.exec(text)?.[1] ?? 0);
  if (alone > 0) process.stderr.write(`  ${name}: ${alone} decisions without Redis\n`);
}

function figuresOf(nodes: number, cell: Cell, summary: { above: number; refused: number }): Figure[] {
  const { limit, window, load, answers } = cell;
  const subject = `${nodes} ${nodes === 1 ? 'gateway' : 'gateways'}, ${limit.toLocaleString('en')} per ${window} s, load ${load}`;
  const counts = byWindow(answers, window);
  // The last one has not ended.
  const whole = counts.length > 1 ? counts.slice(0, -1) : counts;
  const refused = answers.filter(({ admitted }) => !admitted).length;
  summary.above += counts.filter((count) => count.admitted > limit).length;
  if (load < 1) {
    for (const count of counts) if (count.admitted < limit) summary.refused += count.refused;
  }
  return [
    { subject, measure: 'allowed', unit: '', runs: [limit] },
    { subject, measure: 'admitted a window', unit: '', runs: whole.map(({ admitted }) => admitted) },
    { subject, measure: 'refused in all', unit: '', runs: [refused] },
  ];
}

/** How many were admitted and refused in each window, in the order of the windows. */
function byWindow(answers: readonly Answer[], window: number): { admitted: number; refused: number }[] {
  const counts: { admitted: number; refused: number }[] = [];
  let end = Number.NEGATIVE_INFINITY;
  for (const { admitted, ends } of answers.toSorted((a, b) => a.ends - b.ends)) {
    if (ends - end > Math.min(APART_S, window / 2)) counts.push({ admitted: 0, refused: 0 });
    end = Math.max(end, ends);
    (counts.at(-1) as { admitted: number; refused: number })[admitted ? 'admitted' : 'refused']++;
  }
  return counts;
}
