import { run } from './processes.ts';
import type { Figure, Outcome } from './results.ts';

/** Processor time of a decision on wrong keys of each kind, from ever other addresses, beside that on a good one. */
export async function benchWrongKeys({ quick }: { quick: boolean }): Promise<Outcome> {
  const decisions = quick ? 100_000 : 400_000;
  const figures: Figure[] = [];
  for (const [kind, subject] of [
    ['known', 'a good key'],
    ['form', 'no key at all'],
    ['checksum', 'a wrong checksum'],
    ['unknown', 'a key that was never issued'],
  ] as const) {
    const runs: number[] = [];
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      const args = ['bench/decisions.ts', kind, '10000', `${decisions}`];
      runs.push((await run<{ microseconds: number }>(args, 1)).microseconds);
    }
    figures.push({ subject, measure: 'a decision', unit: 'us', runs });
  }
  return { figures, conditions: { decisions, 'known keys': 10_000 }, madeOf: {}, leftOut: [] };
}
