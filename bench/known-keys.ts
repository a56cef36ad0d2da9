import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTENDER_CORE, KEYS } from './arena.ts';
import type { Contender, StartedContender } from './contenders/contender.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { useEachKeyOnce } from './each-key-once.ts';
import { type SeededKeys, seedKeys } from './keys.ts';
import { LOAD_CORE, load } from './load.ts';
import { startOrigin } from './origin.ts';
import { cpuMicroseconds, residentBytes, run, stop, temporaryFolder } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

const CONNECTIONS = 64;
const NEVER_REACHED = 1_000_000_000;
/** As many as are noted in two transactions, so that a million keys are known within minutes. */
const FIRST_USES_AT_ONCE = 200;
const MIB = 2 ** 20;
/** What a load used is written to the ledger within 5 s, and belongs to what it cost. */
const WRITTEN_AFTER_MS = 6000;
/** Tollgate remembers as many keys as half of the heap holds, and a 64-bit machine's default is 4 GiB or less. */
export const MANY = 1_000_000;

type Decisions = { microseconds: number; mib: number };
type Crowd = { name: string; keys: SeededKeys };
/** Some of the keys that a gateway knows, used in turn. */
type InTurn = {
  subject: string;
  gateway: StartedContender;
  keyFile: string;
  cpu: number[];
  rate: number[];
  mib: number[];
};

/** @param inTurn how many of the known keys are used */
export function knownKeys(contender: Contender, known: number, inTurn = known): string {
  const all = `${contender.name}, ${known.toLocaleString('en')} keys`;
  return inTurn === known ? all : `${all}, ${inTurn.toLocaleString('en')} of them in use`;
}

/**
 * What a request costs a gateway that knows so many keys: with as many of them in use as a gateway has that knows no others,
 * and with all in use, each in turn. In whole requests, the gateways side by side, and in decisions alone.
 */
export async function benchKnownKeys({ quick }: { quick: boolean }): Promise<Outcome> {
  const counts = [KEYS, quick ? 100_000 : MANY];
  const folder = temporaryFolder();
  const started: ChildProcess[] = [];
  const figures: Figure[] = [];
  try {
    const origin = await startOrigin(folder, LOAD_CORE, started);
    const crowds: Crowd[] = [];
    for (const count of counts) {
      const own = join(folder, `${count}`);
      mkdirSync(own);
      crowds.push({ name: `${count}`, keys: await seedKeys(own, count) });
    }
    for (const contender of [tollgateNodeHttp, tollgateFastLane]) {
      figures.push(...(await wholeRequests(contender, crowds, origin.address, folder, started, quick)));
    }
    for (const count of counts) figures.push(...(await decisionsAlone(count, quick)));
    return {
      figures,
      conditions: { connections: CONNECTIONS, 'keys in turn': counts.join(' and ') },
      madeOf: { [tollgateNodeHttp.name]: tollgateNodeHttp.madeOf(), API: origin.madeOf },
      leftOut: [],
    };
  } finally {
    await Promise.all(started.map(stop));
  }
}

async function wholeRequests(
  contender: Contender,
  crowds: readonly Crowd[],
  upstream: string,
  folder: string,
  started: ChildProcess[],
  quick: boolean,
): Promise<Figure[]> {
  const running: InTurn[] = [];
  for (const crowd of crowds) {
    const own = join(folder, `${contender.name.replace(/\W+/g, '-')}-${crowd.name}`);
    mkdirSync(own);
    const { keys } = crowd;
    const setup = { keys, upstream, perKey: NEVER_REACHED, folder: own, core: CONTENDER_CORE, started };
    const gateway = await contender.start(setup);
    await useEachKeyOnce(gateway.url, keys, FIRST_USES_AT_ONCE);
    const inTurn = (keyFile: string, count: number) =>
      running.push({
        subject: knownKeys(contender, keys.keys.length, count),
        gateway,
        keyFile,
        cpu: [],
        rate: [],
        mib: [],
      });
    for (const count of new Set([KEYS, keys.keys.length])) {
      const file = join(own, `${count}-keys`);
      writeFileSync(file, `${shuffled(spread(keys.keys, count)).join('\n')}\n`);
      inTurn(file, count);
    }
  }
  const all = { connections: CONNECTIONS, seconds: quick ? 2 : 5 };
  // The first round is to warm up.
  for (let round = 0; round <= (quick ? 2 : 5); round++) {
    for (const { gateway, keyFile, cpu, rate, mib } of running) {
      const { url, processes } = gateway;
      const before = cpuMicroseconds(processes);
      const { requests, perSecond } = await load({ url, keyFile, ...all });
      await sleep(WRITTEN_AFTER_MS);
      if (round === 0) continue;
      cpu.push((cpuMicroseconds(processes) - before) / requests);
      rate.push(perSecond);
      mib.push(processes.reduce((sum, child) => sum + residentBytes(child), 0) / MIB);
    }
  }
  await Promise.all(running.flatMap(({ gateway }) => gateway.processes.map(stop)));
  return running.flatMap(({ subject, cpu, rate, mib }) => [
    { subject, measure: 'CPU a request', unit: 'us', runs: cpu },
    { subject, measure: 'requests a second', unit: '/s', runs: rate },
    { subject, measure: 'resident memory', unit: 'MiB', runs: mib },
  ]);
}

/**
 * Shuffled. Keys that were made and first used one after the other stand side by side in memory and in the keystore, and nobody
 * uses them in that order.
 */
function shuffled(keys: string[]): string[] {
  return keys
    .map((key) => ({ key, place: createHash('sha1').update(key).digest('hex') }))
    .sort((a, b) => (a.place < b.place ? -1 : 1))
    .map(({ key }) => key);
}

/** So many of the keys, from among all of them. */
function spread(keys: SeededKeys['keys'], count: number): string[] {
  const step = Math.floor(keys.length / count);
  return keys.filter((_, i) => i % step === 0).map(({ plaintext }) => plaintext);
}

async function decisionsAlone(count: number, quick: boolean): Promise<Figure[]> {
  const decisions = quick ? 200_000 : 1_000_000;
  const runs: Decisions[] = [];
  for (let round = 0; round < (quick ? 1 : 3); round++) {
    runs.push(await run<Decisions>(['bench/decisions.ts', 'known', `${count}`, `${decisions}`], LOAD_CORE));
  }
  const subject = `Decisions alone, ${count.toLocaleString('en')} keys`;
  return [{ subject, measure: 'CPU a decision', unit: 'us', runs: runs.map((each) => each.microseconds) }];
}
