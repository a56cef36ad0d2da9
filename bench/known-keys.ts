import { run } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

type Decisions = { microseconds: number; mib: number };

/** Processor time of a decision with 10,000 and with 1,000,000 keys in memory, each asked for in turn. */
export async function benchKnownKeys({ quick }: { quick: boolean }): Promise<Outcome> {
  const decisions = quick ? 200_000 : 1_000_000;
  const figures: Figure[] = [];
  for (const known of [10_000, 1_000_000]) {
    const runs: Decisions[] = [];
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      runs.push(await run<Decisions>(['bench/decisions.ts', 'known', `${known}`, `${decisions}`], 1));
    }
    const subject = `${known.toLocaleString('en')} known keys`;
    figures.push(
      { subject, measure: 'a decision', unit: 'us', runs: runs.map((each) => each.microseconds) },
      { subject, measure: 'memory', unit: 'MiB', runs: runs.map((each) => each.mib) },
    );
  }
  return { figures, conditions: { decisions }, madeOf: {}, leftOut: [] };
}
