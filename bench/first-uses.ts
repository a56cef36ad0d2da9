import type { ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { KEYS } from './arena.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { useEachKeyOnce } from './each-key-once.ts';
import { seedKeys } from './keys.ts';
import { startOrigin } from './origin.ts';
import { cpuMicroseconds, PIN, stop, temporaryFolder } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

const CONNECTIONS = 500;
const BOTH_CORES = '0,1';
/** Tollgate's default. */
const HASH = { memoryKib: 4096, passes: 1, lanes: 1 };

/** Every key of a keystore is used for the first time, over many connections, right after the gateway's start. */
export async function benchFirstUses({ quick }: { quick: boolean }): Promise<Outcome> {
  const count = quick ? 2000 : KEYS;
  const figures: Figure[] = [];
  const folder = temporaryFolder();
  const started: ChildProcess[] = [];
  try {
    const origin = await startOrigin(folder, 1, started);
    for (const contender of [tollgateNodeHttp, tollgateFastLane]) {
      const took: number[] = [];
      const cpu: number[] = [];
      for (let round = 0; round < (quick ? 1 : 3); round++) {
        const own = join(folder, `${round}-${figures.length}`);
        mkdirSync(own);
        // New keys each time: none of them was ever used.
        const keys = await seedKeys(own, count, HASH);
        const setup = {
          keys,
          upstream: origin.address,
          perKey: 1000,
          folder: own,
          core: BOTH_CORES,
          started,
        };
        const { url, processes } = await contender.start(setup);
        const begun = performance.now();
        await useEachKeyOnce(url, keys, CONNECTIONS);
        took.push((performance.now() - begun) / 1000);
        cpu.push(cpuMicroseconds(processes) / count);
        await Promise.all(processes.map(stop));
      }
      const subject = contender.name;
      figures.push({ subject, measure: 'all keys served', unit: 's', runs: took });
      // The gateway's start is in it.
      figures.push({ subject, measure: 'CPU a key', unit: 'us', runs: cpu });
    }
    const cores = PIN ? `${BOTH_CORES}, with load generator and API on them too` : 'not pinned';
    return {
      figures,
      conditions: { keys: count, connections: CONNECTIONS, cores, 'Argon2id cost': 'm=4096,t=1,p=1 (4 MiB)' },
      madeOf: { [tollgateNodeHttp.name]: tollgateNodeHttp.madeOf(), API: origin.madeOf },
      leftOut: [],
    };
  } finally {
    await Promise.all(started.map(stop));
  }
}
