import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { checkWork } from './check.ts';
import { type Contender, debianVersion, FOLDER, type StartedContender } from './contenders/contender.ts';
import { useEachKeyOnce } from './each-key-once.ts';
import { type SeededKeys, seedKeys } from './keys.ts';
import { GENERATOR, LOAD_CORE, load } from './load.ts';
import { startOrigin } from './origin.ts';
import { PIN, stop, temporaryFolder } from './processes.ts';
import type { Figure, Outcome } from './results.ts';
import { measured, quoted } from './statistics.ts';

/** The core of whoever is measured. */
export const CONTENDER_CORE = 0;
export const KEYS = 10_000;
/** More than any run makes. */
const NEVER_REACHED = 1_000_000_000;
/**
 * Full load before anything is measured, seconds. What compiles itself while it runs becomes faster for as long as that, and then
 * runs for weeks.
 */
export const WARM_UP_SECONDS = 6;
/** Connections over which each key is used once before anything is measured. */
const FIRST_USES_AT_ONCE = 16;

/** What one run of one contender showed: by measure, with its unit. Several values where it was read again and again. */
export type Reading = Record<string, { value: number | number[]; unit: string }>;

/** A run under way: a contender that has just started and remembers every key. */
export type Run = StartedContender & { contender: Contender; arena: Arena };

/** Where contenders are measured: the same API behind all, the same keys, the same load, one core for each side. */
export type Arena = { keys: SeededKeys; origin: string; originMadeOf: string; folder: string };

/**
 * Measures contenders side by side: checks that each does its work, then starts each afresh in every round, in another
 * order each time, and reads what it does.
 *
 * @throws Error when a contender does not do the work, or an answer is not 200
 */
export async function compare(
  contenders: readonly Contender[],
  { rounds, warmUpSeconds }: { rounds: number; warmUpSeconds: number },
  read: (run: Run) => Promise<Reading>,
): Promise<Outcome> {
  installPackages(contenders);
  const leftOut = contenders.flatMap((contender) => {
    const why = contender.missing();
    return why === null ? [] : [{ name: contender.name, why }];
  });
  for (const { name, why } of leftOut) process.stderr.write(`Left out: ${name}: ${why}\n`);
  const present = contenders.filter((contender) => contender.missing() === null);
  const folder = temporaryFolder();
  const started: ChildProcess[] = [];
  try {
    const keys = await seedKeys(folder, KEYS);
    const origin = await startOrigin(folder, LOAD_CORE, started);
    const arena: Arena = { keys, origin: origin.address, originMadeOf: origin.madeOf, folder };
    for (const contender of present.filter(({ works }) => works)) {
      const own = join(folder, `check-${contender.name.replace(/\W+/g, '-')}`);
      mkdirSync(own);
      await checkWork(contender, { keys, folder: own, core: CONTENDER_CORE, started });
    }
    const figures: Figure[] = [];
    for (let round = 0; round < rounds; round++) {
      for (const contender of rotated(present, round)) {
        const reading = await oneRun(contender, arena, round, warmUpSeconds, started, read);
        for (const [measure, { value, unit }] of Object.entries(reading)) {
          const known = figures.find((each) => each.subject === contender.name && each.measure === measure);
          const values = [value].flat();
          if (known) known.runs.push(...values);
          else figures.push({ subject: contender.name, measure, unit, runs: values });
        }
        const shown = Object.entries(reading).map(
          ([what, { value, unit }]) => `${what} ${quoted(measured([value].flat()).median)} ${unit}`,
        );
        process.stderr.write(`  round ${round + 1} of ${rounds}: ${contender.name}: ${shown.join(', ')}\n`);
      }
    }
    const order = present.map(({ name }) => name);
    figures.sort((a, b) => order.indexOf(a.subject) - order.indexOf(b.subject));
    return {
      figures,
      conditions: {
        rounds,
        keys: KEYS,
        'seconds to warm up': warmUpSeconds,
        load: GENERATOR === 'wrk' ? `wrk ${debianVersion('wrk')}` : GENERATOR,
        upstream: origin.madeOf,
        cores: PIN
          ? `${CONTENDER_CORE} for the contender, ${LOAD_CORE} for load and upstream`
          : 'not pinned: there is no taskset, or only one core',
      },
      madeOf: Object.fromEntries(present.map((contender) => [contender.name, contender.madeOf()])),
      leftOut,
    };
  } finally {
    await Promise.all(started.map(stop));
  }
}

async function oneRun(
  contender: Contender,
  arena: Arena,
  round: number,
  warmUpSeconds: number,
  started: ChildProcess[],
  read: (run: Run) => Promise<Reading>,
): Promise<Reading> {
  const folder = join(arena.folder, `${round}-${contender.name.replace(/\W+/g, '-')}`);
  mkdirSync(folder);
  const running = await contender.start({
    keys: arena.keys,
    upstream: arena.origin,
    perKey: NEVER_REACHED,
    folder,
    core: CONTENDER_CORE,
    started,
  });
  try {
    await useEachKeyOnce(running.url, arena.keys, FIRST_USES_AT_ONCE);
    await load({ url: running.url, keyFile: arena.keys.keyFile, connections: 64, seconds: warmUpSeconds });
    return await read({ ...running, contender, arena });
  } catch (error) {
    throw new Error(`${contender.name}: ${(error as Error).message}`, { cause: error });
  } finally {
    await Promise.all(running.processes.map(stop));
  }
}

/** The contenders from npm are installed beside their code, once; the product does not depend on them. */
function installPackages(contenders: readonly Contender[]): void {
  const wanted = contenders.some((contender) => contender.missing()?.includes('npm ci'));
  if (!wanted || existsSync(join(FOLDER, 'node_modules'))) return;
  process.stderr.write('Installing the contenders from npm: npm ci --prefix bench/contenders\n');
  try {
    execFileSync('npm', ['ci', '--no-fund', '--no-audit'], { cwd: FOLDER, stdio: ['ignore', 2, 2] });
  } catch {
    process.stderr.write('That failed; the benchmark goes on without them.\n');
  }
}

function rotated<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}
