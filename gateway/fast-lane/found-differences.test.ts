import { afterEach, beforeEach, expect, it } from 'vitest';
import { foundCases } from '../../test/fuzz-found.ts';
import { type Pair, startPairs } from '../../test/fuzz-pairs.ts';
import { comparable, play } from '../../test/fuzz-rig.ts';
import { closeAll } from '../../test/gateways.ts';

let pair: Pair;
let key: string;

beforeEach(async () => {
  const { pairs, keys } = await startPairs(1);
  pair = pairs[0] as Pair;
  key = keys[0] as string;
});

afterEach(closeAll);

/** Often enough that an order of events which is a matter of chance is seen both ways. */
const PLAYS = 5;

it.each(foundCases('').map(({ name }, index) => [name, index] as const))('%s', async (_name, index) => {
  const { fuzzCase, statuses, upstream } = foundCases(key)[index] as ReturnType<typeof foundCases>[number];
  for (let n = 0; n < PLAYS; n++) {
    const [without, withLane] = await Promise.all(
      [pair.without, pair.with].map((side) => play(side.gateway.port, side.upstream, fuzzCase, key)),
    );
    expect(comparable(withLane?.client ?? '')).toBe(comparable(without?.client ?? ''));
    expect(withLane?.upstream).toEqual(without?.upstream);
    const got = [...(withLane?.client ?? '').matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) =>
      Number(status),
    );
    expect(got.slice(0, statuses.length)).toEqual(statuses);
    expect(withLane?.upstream.map((request) => request.slice(0, request.indexOf('\n') + 1))).toEqual(
      upstream,
    );
  }
});
