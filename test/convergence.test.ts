import fc from 'fast-check';
import { it } from 'vitest';
import type { KeyRecord } from '../keystore/keystore.ts';
import { tokenTimes } from '../licensing/entitlement-token.ts';
import { type Licence, licenceOf } from '../licensing/licence.ts';
import { accessOf } from '../shared/access.ts';
import { ProblemError } from '../shared/problems.ts';
import { compareIncome } from './convergence-income.ts';
import { type AtStripe, expectedOf, type May } from './convergence-model.ts';
import { DEVICES, PLANS, type PlanTerms } from './convergence-plans.ts';
import { objectsOf } from './convergence-report.ts';
import { type ConvergenceWorld, startWorld } from './convergence-world.ts';
import { history } from './histories.ts';
import { Life } from './histories-life.ts';

const { CONVERGE_HISTORIES, FC_SEED, FC_PATH } = process.env;
const HISTORIES = Number(CONVERGE_HISTORIES ?? 60);
/** Worlds at once: each waits much for its own processes. */
const WORLDS = 2;
/** Buyers who share a world: its clock, its events, its processes. */
const LIVES = Math.min(125, Math.ceil(HISTORIES / WORLDS));
const RUNS = Math.ceil(HISTORIES / LIVES / WORLDS);
/** `npm test` lives the same lives each time, so that a change is judged by what it changed; looking for more is left to chance. */
const SEED = FC_SEED ? {} : { seed: 20_261_121 };
/** Lives lived at once. */
const AT_ONCE = 8;
const HOUR = 3600;
const DAY = 24 * HOUR;

const seed = fc.nat(1_000_000);
const delivery = fc.oneof(
  fc.record({ mode: fc.constant('concurrent') }),
  fc.record({ mode: fc.constant('shuffled'), seed, copies: fc.constantFrom(1, 1, 2) }),
  fc.record({ mode: fc.constant('duplicated'), copies: fc.constantFrom(2, 2, 3) }),
  fc.record({ mode: fc.constant('dropped'), seed, drop_fraction: fc.constantFrom(0.2, 0.5, 0.9) }),
  fc.record({ mode: fc.constant('dropped'), seed, drop_fraction: fc.constantFrom(0.2, 0.5, 0.9) }),
  fc.record({ mode: fc.constant('paused') }),
);
const round = fc.record({
  delivery,
  /** The clock's jump, seconds: in the middle of the round's steps. */
  jump: fc.constantFrom(2 * HOUR, 30 * HOUR, 3 * DAY, 5 * DAY, 9 * DAY, 16 * DAY, 20 * DAY, 32 * DAY),
  jumpsAt: fc.nat(100),
  afterFinalRetry: fc.constantFrom('canceled', 'canceled', 'unpaid', 'past_due'),
  /** After how many answers of the sandbox which processes are killed. */
  kill: fc.option(
    fc.record({
      after: fc.integer({ min: 1, max: 800 }),
      which: fc.constantFrom([0], [1], [0, 1]),
      comesBack: fc.boolean(),
    }),
    { freq: 2 },
  ),
  /** What is held or failed goes out in the end, in this order. */
  flush: fc.option(
    fc.record({
      order: fc.constantFrom('concurrent', 'concurrent', 'created', 'reversed', 'shuffled'),
      seed,
    }),
  ),
  /** Whether all that has arrived is worked off before the next round. */
  settles: fc.boolean(),
  /** Old events, chosen anew, that are delivered again. */
  again: fc.array(fc.nat(1_000_000), { maxLength: 10 }),
});
const world = fc.record({
  histories: fc.array(history, { minLength: LIVES, maxLength: LIVES }),
  rounds: fc.array(round, { minLength: 6, maxLength: 9 }),
});
type Plan = typeof world extends fc.Arbitrary<infer T> ? T : never;

/** What is printed in the end. `drift`: what the reconciles found; `uncertain`: where the model allows two answers. */
const totals = {
  worlds: 0,
  histories: 0,
  steps: 0,
  /** Sessions by what the model says of their keys. */
  none: 0,
  active: 0,
  suspended: 0,
  ended: 0,
  uncertain: 0,
  events: 0,
  deliveries: 0,
  dropped: 0,
  duplicates: 0,
  kills: 0,
  drift: 0,
  differences: 0,
};

it('after one reconcile every key may do what Stripe says, and the income is what was paid, whatever happened on the way', async () => {
  const begun = performance.now();
  const result = await fc.check(severalAtOnce, {
    endOnFailure: true,
    numRuns: FC_PATH ? 1 : RUNS,
    ...SEED,
    ...(FC_PATH ? { path: FC_PATH } : {}),
  });
  const seconds = Math.round((performance.now() - begun) / 1000);
  console.log(`Convergence: ${inOneLine({ ...totals, seconds })}`);
  if (!result.failed) return;
  const { errorInstance: error, seed, counterexamplePath: path } = result;
  throw new Error(
    `CONVERGE_HISTORIES=${HISTORIES} FC_SEED=${seed} FC_PATH=${path} tries these worlds again.\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
}, 3_600_000);

const severalAtOnce = fc.asyncProperty(
  fc.array(world, { minLength: WORLDS, maxLength: WORLDS }),
  async (worlds) => {
    const ends = await Promise.allSettled(worlds.map(live));
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed) throw failed.reason;
  },
);

async function live({ histories, rounds }: Plan): Promise<void> {
  totals.worlds += 1;
  const number = totals.worlds;
  const world = await startWorld();
  try {
    const lives = histories.map((each, index) => new Life(world, index + 1, each));
    await pass(world, lives, histories, rounds);
    await world.killAll();
    const atStripe = await world.look();
    const { drift } = await world.reconcile();
    const differences = await compare(world, atStripe, lives);
    // Events that never arrived are in the inbox now: they may change nothing any more.
    if (differences.length === 0) {
      await world.drain();
      differences.push(...(await compare(world, await world.look(), lives)));
      const again = await world.reconcile({ dryRun: true });
      for (const left of again.drift.filter(({ open }) => !open))
        differences.push(`A second reconcile would still find ${JSON.stringify(left)}`);
    }
    const { attempts, dropped, duplicates } = await world.deliveries();
    totals.histories += lives.length;
    totals.steps += lives.reduce((sum, { log }) => sum + log.length, 0);
    totals.events += world.events.length;
    totals.deliveries += attempts;
    totals.dropped += dropped;
    totals.duplicates += duplicates;
    totals.kills += world.kills;
    totals.drift += drift.length;
    totals.differences += differences.length;
    for (const session of atStripe.sessions) {
      const expected = expectedOf(atStripe, session);
      if (!expected.key) totals.none += 1;
      else totals[expected.may.length > 1 ? 'uncertain' : expected.may[0]!] += 1;
    }
    if (CONVERGE_HISTORIES) console.log(`${inOneLine(totals)}`);
    if (differences.length > 0)
      throw new Error(
        `World ${number}, ${differences.length} differences:\n\n${differences.slice(0, 5).join('\n\n')}`,
      );
  } finally {
    await world.close();
  }
}

/** Lets time pass: rounds of steps, with jumps of the clock, kills and trouble with deliveries. */
async function pass(
  world: ConvergenceWorld,
  lives: readonly Life[],
  histories: Plan['histories'],
  rounds: Plan['rounds'],
): Promise<void> {
  for (const [index, round] of rounds.entries()) {
    const last = index === rounds.length - 1;
    await world.control('/delivery', round.delivery);
    await world.control('/settings', { after_final_retry: round.afterFinalRetry });
    if (round.kill) world.killAfter(round.kill.after, round.kill.which, round.kill.comesBack);
    const turns = lives.flatMap((life, n) => {
      const { starts, pace } = histories[n]!;
      return starts > index ? [] : [{ life, steps: last ? Number.POSITIVE_INFINITY : pace }];
    });
    const jumpsAt = Math.floor((turns.length * round.jumpsAt) / 100);
    let next = 0;
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let mine = next++; mine < turns.length; mine = next++) {
          if (mine === jumpsAt) await world.advance(round.jump);
          const { life, steps } = turns[mine]!;
          for (let n = 0; n < steps && !life.over; n++) await life.go();
        }
      }),
    );
    if (jumpsAt >= turns.length) await world.advance(round.jump);
    await Promise.all(
      round.again.map(async (chosen) => {
        const event = world.events[chosen % world.events.length];
        if (event) await world.control(`/events/${event}/deliver`);
      }),
    );
    if (round.flush) await world.control('/delivery/flush', round.flush);
    world.checkAlive();
    const back = world.bringBack();
    if (!round.settles) continue;
    await back;
    await world.settled();
  }
}

/** Where a key may do something else than the model says, and where the income is not what was paid. */
async function compare(
  world: ConvergenceWorld,
  atStripe: AtStripe,
  lives: readonly Life[],
): Promise<string[]> {
  const differences: string[] = [];
  const keys = await world.keystore.listKeys({ limit: 100_000 });
  const chains = Map.groupBy(keys, (key) => key.rootId);
  const sessions = new Map(atStripe.sessions.map((session) => [session.id, session]));
  for (const life of lives) {
    for (const id of life.sessions) {
      const session = sessions.get(id)!;
      const expected = expectedOf(atStripe, session);
      const purchase = await world.keystore.findPurchase(id);
      const chain = (purchase?.keyId && chains.get(purchase.keyId)) || [];
      if (chain.length > 0) chains.delete(purchase!.keyId!);
      const wrong = wrongWith(world, atStripe, life, id, expected, chain);
      if (wrong.length > 0)
        differences.push(
          [
            `${life.name}, ${id}: ${wrong.join('; ')}`,
            `  The model: ${JSON.stringify(expected)}`,
            `  Here: ${JSON.stringify(purchase)}`,
            ...chain.map((key) => `  ${JSON.stringify(key)}`),
            ...life.log.map((line) => `    ${line}`),
            ...(await objectsOf(world, atStripe, id)).map((line) => `    ${line}`),
          ].join('\n'),
        );
    }
  }
  for (const [root, chain] of chains)
    differences.push(`The key ${root} belongs to no session: ${JSON.stringify(chain)}`);
  return [...differences, ...(await compareIncome(world.keystore, atStripe))];
}

function wrongWith(
  world: ConvergenceWorld,
  atStripe: AtStripe,
  life: Life,
  session: string,
  expected: ReturnType<typeof expectedOf>,
  chain: readonly KeyRecord[],
): string[] {
  const { now } = atStripe;
  const wrong: string[] = [];
  if ((life.claims.get(session) ?? 0) > 1) wrong.push('its key was shown twice');
  if (!expected.key) {
    if (chain.length > 0) wrong.push('there is a key, and should be none');
    return wrong;
  }
  if (chain.length === 0) return [...wrong, 'there is no key'];
  const ids = [chain[0]!.rootId];
  for (let next = life.successors.get(ids[0]!); next; next = life.successors.get(next)) ids.push(next);
  const known = chain.map(({ id }) => id);
  if (known.length !== ids.length || !ids.every((id) => known.includes(id)))
    wrong.push(`the keys are ${known}, and should be ${ids}`);
  const states: string[] = [];
  for (const key of chain) {
    const { state } = accessOf(key, key.subscription, world.config.plans.plan(key.planId)!, now * 1000);
    const may: May = state === 'active' || state === 'suspended' ? state : 'ended';
    const open = life.suspended.has(key.rootId)
      ? expected.may.map((each) => (each === 'active' ? 'suspended' : each))
      : expected.may;
    const allowed = life.switchedOff.has(key.id) ? ['ended'] : open;
    if (!allowed.includes(may)) wrong.push(`${key.id} is ${may}, and should be ${allowed.join(' or ')}`);
    else if (!life.switchedOff.has(key.id)) states.push(may);
    wrong.push(...wrongWithLicence(world, atStripe, session, key, may, expected));
    if (key.planId !== expected.plan || key.quantity !== expected.quantity)
      wrong.push(
        `${key.id} has ${key.quantity} of ${key.planId}, and should have ${expected.quantity} of ${expected.plan}`,
      );
  }
  if (new Set(states).size > 1) wrong.push('keys of one purchase may do different things');
  return wrong;
}

/** As a licence a key is good exactly while it has access, and its tokens never outlast what was paid for and its graces. */
function wrongWithLicence(
  { config }: ConvergenceWorld,
  { now, sessions, subscriptions }: AtStripe,
  session: string,
  key: KeyRecord,
  may: May,
  expected: { plan: string; quantity: number },
): string[] {
  let licence: Licence;
  try {
    licence = licenceOf(key, config.plans, now * 1000);
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    return may === 'active' ? [`the licence of ${key.id} is refused: ${error.code}`] : [];
  }
  if (may !== 'active') return [`the licence of ${key.id} is good, and the key is ${may}`];
  const places = DEVICES * (PLANS[expected.plan]?.perUnit ? expected.quantity : 1);
  const wrong =
    licence.terms.devices === places
      ? []
      : [`${key.id} has places for ${licence.terms.devices} devices, not ${places}`];
  const { subscription: id } = sessions.find((each) => each.id === session)!;
  const subscription = subscriptions.find((each) => each.id === id);
  if (!subscription) return wrong;
  const { graceDays = 14, access } = PLANS[expected.plan] as PlanTerms;
  const ends = Math.max(...subscription.items.data.map((item) => item.current_period_end));
  const { graceUntil } = tokenTimes(licence, now * 1000);
  // A plan that lets customers in who have not paid gives them tokens like others.
  const last = access ? Number.POSITIVE_INFINITY : Math.max(ends + (graceDays + 3) * DAY, now + 300);
  if (graceUntil / 1000 > last)
    wrong.push(`a token of ${key.id} lasts until ${graceUntil / 1000}, and is paid until ${ends}`);
  return wrong;
}

function inOneLine(counts: Record<string, number>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ');
}
