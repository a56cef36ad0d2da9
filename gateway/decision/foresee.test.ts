import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createLogger } from '../../shared/log.ts';
import { PLAN_DEFAULTS, type Plan } from '../../shared/plan.ts';
import { POLICY_DEFAULTS } from '../routes/route-spec.ts';
import { createDecide } from './decide.ts';
import type { Decision } from './decision.ts';
import { type Key, newChain } from './key.ts';
import { MemoryWindows } from './limits.ts';
import { Quotas } from './quota.ts';
import { UnderWay } from './under-way.ts';

const START = Date.UTC(2026, 10, 29);
const log = createLogger({ level: 'silent' });

function newKey(): Key {
  return {
    id: 'abcdefghijkl',
    rootId: 'abcdefghijkl',
    mode: 'test',
    prefix: 'tg',
    hash: '',
    tag: 0,
    lastFour: 'abcd',
    planId: 'p',
    customerId: null,
    entitlements: [],
    quantity: 1,
    createdAt: 0,
    expiresAt: null,
    revokedAt: null,
    revokedReason: null,
    suspendedAt: null,
    disputedSince: null,
    override: null,
    allowedAddresses: null,
    firstUsedAt: 1,
    replacedBy: null,
    subscription: null,
    usedThisMonth: 0,
    monthStartHour: Math.floor(Date.UTC(2026, 10, 1) / 3_600_000),
    readInHour: 0,
    readAt: 0,
    renewAt: 0,
    over: false,
    turn: 0,
    usedThisHour: 0,
    usedInAll: 0,
    chain: newChain('abcdefghijkl'),
    count: null,
  };
}

function saidBy(decision: Decision) {
  if (decision.allowed) return 'allowed';
  const { code, detail, extensions, retryAfterSeconds } = decision;
  return { code, detail, extensions, retryAfterSeconds };
}

const plans = fc.record({
  quota: fc.option(fc.integer({ min: 1, max: 12 })),
  quotaPer: fc.constantFrom('month' as const, 'purchase' as const),
  limits: fc.constantFrom(
    [],
    [{ name: 'second', requests: 2, seconds: 1 }],
    [
      { name: 'second', requests: 2, seconds: 1 },
      { name: 'minute', requests: 5, seconds: 60 },
    ],
  ),
});
const steps = fc.array(
  fc.record({
    after: fc.constantFrom(0, 0, 300, 1000, 61_000),
    cost: fc.constantFrom(0, 1, 1, 3, { header: 'x-cost', estimate: 0 }, { header: 'x-cost', estimate: 2 }),
    concurrency: fc.constantFrom(null, 2),
  }),
  { minLength: 1, maxLength: 25 },
);

it('what is foreseen is what happens, and foreseeing changes nothing', () => {
  fc.assert(
    fc.property(plans, steps, (terms, requests) => {
      const plan: Plan = { ...PLAN_DEFAULTS, id: 'p', name: 'P', ...terms };
      const decide = createDecide({
        identify: { mode: 'test', identify: () => Promise.reject(new Error('not asked')) },
        plans: { plan: () => plan },
        counters: {
          windows: new MemoryWindows(),
          messages: new MemoryWindows('messages'),
          quotas: new Quotas(),
          usage: { count() {}, settle() {} },
          underWay: new UnderWay(),
          log,
        },
        pages: { manageUrl: 'm', pricingUrl: 'p' },
        log,
      });
      const key = newKey();
      const policies = new Map<string, typeof POLICY_DEFAULTS>();
      let now = START;
      for (const { after, cost, concurrency } of requests) {
        now += after;
        const name = JSON.stringify([cost, concurrency]);
        const policy = policies.get(name) ?? { ...POLICY_DEFAULTS, cost, concurrency };
        policies.set(name, policy);
        const ask = { credential: { kind: 'known', key }, address: null, policy, now } as const;
        const foreseen = [decide(ask, 'foresee'), decide(ask, 'foresee')] as [Decision, Decision];
        const happened = decide(ask, 'spend') as Decision;
        expect(saidBy(foreseen[0])).toEqual(saidBy(happened));
        expect(saidBy(foreseen[1])).toEqual(saidBy(happened));
      }
    }),
    { numRuns: 500 },
  );
});
