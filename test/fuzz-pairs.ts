import { LISTENER_LIMITS } from '../gateway/listener/listener.ts';
import { routeTo } from '../gateway/routes/route-spec.ts';
import { createLogger } from '../shared/log.ts';
import { fuzzAnswer, split } from './fuzz-answers.ts';
import { FuzzRandom } from './fuzz-random.ts';
import { fuzzRequest } from './fuzz-requests.ts';
import { comparable, FUZZ_CHECK_MS, type FuzzCase, type FuzzSight, FuzzUpstream, play } from './fuzz-rig.ts';
import { closeLater, startTestGateway, type TestGateway } from './gateways.ts';
import { openTestKeystore } from './keystores.ts';

const NOW = Date.now();

type Side = { gateway: TestGateway; upstream: FuzzUpstream };

/**
 * The same gateway twice, each with an upstream of its own: with the fast lane and links to the upstream, and with nothing but
 * `node:http` and undici.
 */
export type Pair = { without: Side; with: Side };

export type Difference = { fuzzCase: FuzzCase; without: FuzzSight; with: FuzzSight };

/** Starts pairs over one keystore, and makes the keys that their requests use: a good one, and some that are none. */
export async function startPairs(count: number): Promise<{ pairs: Pair[]; keys: string[] }> {
  const keystore = closeLater(await openTestKeystore());
  const start = async (FAST_LANE: 'on' | 'off'): Promise<Side> => {
    const upstream = closeLater(new FuzzUpstream());
    const upstreamUrl = await upstream.start();
    const route = routeTo(upstreamUrl, 60_000);
    // A circuit and a budget that is used up would carry over from one case to the next.
    const upstreamSpec = { ...route.upstream, circuit: { failures: 1e9, openMs: 1 }, retryBudget: 1e9 };
    const gateway = await startTestGateway({
      keystore,
      upstreamUrl,
      env: { FAST_LANE },
      log: createLogger({ level: 'silent' }),
      routes: [{ ...route, upstream: upstreamSpec }],
      listenerLimits: { ...LISTENER_LIMITS, checkMs: FUZZ_CHECK_MS, gatherMs: FUZZ_CHECK_MS },
      overLinks: FAST_LANE === 'on' && { otherwiseMs: 0 },
      // Time stands still, so that limits on wrong keys do not end at one side before the other.
      now: () => NOW,
    });
    return { gateway, upstream };
  };
  const pairs: Pair[] = [];
  for (let i = 0; i < count; i++) pairs.push({ without: await start('off'), with: await start('on') });
  const first = pairs[0] as Pair;
  const { plaintext } = await first.with.gateway.key('open');
  const revoked = await first.with.gateway.key('open');
  await keystore.revokeKey({ id: revoked.id, reason: 'operator', actor: 'test' });
  for (const { without, with: withLane } of pairs) {
    for (const { gateway } of [without, withLane]) {
      // The first use of a key takes longer than a case waits.
      await gateway.get('/', plaintext);
      await gateway.get('/', revoked.plaintext);
      // So many that all further ones are answered alike.
      for (let i = 0; i < 60; i++) await gateway.get('/', 'wrong');
    }
  }
  return {
    pairs,
    keys: [plaintext, plaintext, plaintext, plaintext, plaintext, plaintext, revoked.plaintext, 'wrong'],
  };
}

/** The case of a number; the same for the same seed. */
export function fuzzCase(seed: number, index: number, keys: readonly string[]): FuzzCase {
  const random = new FuzzRandom(Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b));
  const messages: string[][] = [];
  for (let n = random.pick([1, 1, 1, 2, 3]); n > 0; n--)
    messages.push(split(random, fuzzRequest(random, keys), 0.2));
  // Of a pipeline, only the request whose turn it is gets interim answers: which one that is, is a matter of time.
  const pipelined = messages.some((pieces) => (pieces.join('').match(/ HTTP\/1/g)?.length ?? 0) > 1);
  const answers = Array.from({ length: 1 + random.integer(2) }, () => fuzzAnswer(random, !pipelined));
  return { messages, answers, leave: random.chance(0.03) ? random.pick(['end', 'reset']) : 'no' };
}

/** Plays a case on both sides. `null`: nothing differs. */
export async function compare(pair: Pair, fuzzCase: FuzzCase, key: string): Promise<Difference | null> {
  const seen = await playBoth(pair, fuzzCase, key);
  return isSame(seen.without, seen.with) ? null : { fuzzCase, ...seen };
}

/** @param pause see {@link play} */
async function playBoth(
  pair: Pair,
  fuzzCase: FuzzCase,
  key: string,
  pause?: number,
): Promise<Omit<Difference, 'fuzzCase'>> {
  const [without, withLane] = await Promise.all(
    [pair.without, pair.with].map(({ gateway, upstream }) =>
      play(gateway.port, upstream, fuzzCase, key, pause),
    ),
  );
  return { without: without as FuzzSight, with: withLane as FuzzSight };
}

/**
 * Pauses with which a difference is played again: from none, so that all comes at once, to so long that whatever was begun is over
 * by then.
 */
const PAUSES = [0, 1, 2, 3, 5, 8, 11, 20];

/**
 * Whether a difference is one of timing: of what came first of two things at once, such as the end of a connection and the next
 * request on it, or a refusal and the rest of the body that it refuses. Then the side without the lane, too, does different things
 * with the same bytes when they come faster or slower; and at one pace at least, both do the same.
 */
export async function isOfTiming(pair: Pair, difference: Difference, key: string): Promise<boolean> {
  const { fuzzCase, without } = difference;
  let varies = false;
  let agree = false;
  for (const pause of [...PAUSES, ...PAUSES]) {
    const seen = await playBoth(pair, fuzzCase, key, pause);
    varies ||= !isSame(without, seen.without);
    agree ||= isSame(seen.without, seen.with);
  }
  return varies && agree;
}

/** Whether both sides showed the same. @param a without the lane @param b with it */
function isSame(a: FuzzSight, b: FuzzSight): boolean {
  return (
    comparable(a.client) === comparable(b.client) &&
    JSON.stringify(a.upstream) === JSON.stringify(b.upstream) &&
    isAmong(b.parts, a.parts)
  );
}

/**
 * Whether the upstream saw no other parts of requests with the fast lane than without it. It may have seen fewer: the lane
 * waits a little for the rest of a small request, and one that its client never finishes need not go there at all.
 */
function isAmong(parts: readonly string[], all: readonly string[]): boolean {
  const left = [...all];
  return parts.every((part) => {
    const at = left.indexOf(part);
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  });
}
