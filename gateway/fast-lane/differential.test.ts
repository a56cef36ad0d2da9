import { afterEach, expect, it } from 'vitest';
import { compare, type Difference, fuzzCase, isOfTiming, startPairs } from '../../test/fuzz-pairs.ts';
import { closeAll } from '../../test/gateways.ts';

afterEach(closeAll);

const CASES = Number(process.env.FUZZ_CASES ?? 1000);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
/** The number of the first case, to play one again: FUZZ_FROM=123 FUZZ_CASES=1. */
const FROM = Number(process.env.FUZZ_FROM ?? 0);
/** So many that none of the gateways gets more wrong keys in a second than it looks at without making them wait. */
const PAIRS = 3;
const MAX_DIFFERENCES = 10;

it(
  `with the fast lane and without it, upstream and client get the same bytes (${CASES} cases)`,
  async () => {
    const { pairs, keys } = await startPairs(PAIRS);
    const key = keys[0] as string;
    const differences: (Difference & { index: number })[] = [];
    let unsteady = 0;
    let next = FROM;
    const startedAt = Date.now();
    await Promise.all(
      pairs.map(async (pair) => {
        for (
          let index = next++;
          index < FROM + CASES && differences.length < MAX_DIFFERENCES;
          index = next++
        ) {
          if (index > FROM && index % 10_000 === 0) {
            const seconds = (Date.now() - startedAt) / 1000;
            console.log({ cases: index - FROM, differences: differences.length, unsteady, seconds });
          }
          const played = fuzzCase(SEED, index, keys);
          const difference = await compare(pair, played, key);
          if (difference === null) continue;
          if (await isOfTiming(pair, difference, key)) unsteady++;
          else differences.push({ index, ...difference });
        }
      }),
    );
    const lanes = await Promise.all(
      pairs.map(async ({ with: { gateway } }) => (await fetch(`${gateway.internalUrl}/metrics`)).text()),
    );
    const figures = (name: string) =>
      lanes.reduce((sum, text) => sum + Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0), 0);
    console.log({
      cases: next - FROM - PAIRS,
      seconds: (Date.now() - startedAt) / 1000,
      inTheLane: figures('tollgate_gateway_fast_lane_requests_total'),
      handedOver: Object.fromEntries(
        [
          'incomplete',
          'unusual',
          'pipelined',
          'route',
          'busy',
          'answer',
          'unreachable',
          'broken',
          'timeout',
        ].map((why) => [why, figures(`tollgate_gateway_fast_lane_handed_over_total\\{why="${why}"\\}`)]),
      ),
      unsteady,
    });
    expect(differences.map((each) => JSON.stringify(each, null, 1))).toEqual([]);
    // More would not be chance any more.
    expect(unsteady).toBeLessThanOrEqual(Math.max(3, CASES / 2000));
  },
  6 * 3_600_000,
);
