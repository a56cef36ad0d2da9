import { BadKeys } from '../gateway/decision/bad-keys.ts';
import { createDecide } from '../gateway/decision/decide.ts';
import { FactsCache } from '../gateway/decision/facts-cache.ts';
import { FirstUses } from '../gateway/decision/first-uses.ts';
import { HashQueue } from '../gateway/decision/hash-queue.ts';
import { Identify } from '../gateway/decision/identify.ts';
import { MemoryWindows } from '../gateway/decision/limits.ts';
import { Quotas } from '../gateway/decision/quota.ts';
import { UnderWay } from '../gateway/decision/under-way.ts';
import { UsageRecorder } from '../gateway/decision/usage-recorder.ts';
import { KeyHasher } from '../keystore/key-hash.ts';
import { hourOf, type KeyFacts, type Keystore, type UsageRow } from '../keystore/keystore.ts';
import { mintKey } from '../shared/keys.ts';
import { createLogger } from '../shared/log.ts';
import { PLAN_DEFAULTS, type Plan } from '../shared/plans.ts';

const PLAN: Plan = {
  ...PLAN_DEFAULTS,
  id: 'bench',
  name: 'Bench',
  limits: [
    { name: 'second', requests: 1_000_000_000, seconds: 1 },
    { name: 'minute', requests: 1_000_000_000, seconds: 60 },
  ],
  quota: 1_000_000_000,
};

/**
 * The gateway's decision by itself, over keys that are made up on the spot: all of it is real but the keystore's file
 * and its Argon2 runs, so that a million keys are known within seconds.
 */
export function decider(count: number, capacity: number) {
  const log = createLogger({ level: 'silent' });
  const hasher = new KeyHasher('bench', { memoryKib: 8, passes: 1, lanes: 1 });
  const keys: string[] = [];
  const ids = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const key = mintKey('tg', 'test');
    keys.push(key.plaintext);
    ids.set(key.id, key.lastFour);
  }
  const changes = { healthy: true, subscribe: async () => () => {} };
  const keystore = {
    hasher: {
      tagMatches: (secret: string, tag: number) => hasher.tagMatches(secret, tag) || tag === 0,
      verify: async () => true,
      isOutdated: () => false,
    },
    changes,
    mode: async () => 'test',
    findKeyFacts: async (id: string) => {
      const lastFour = ids.get(id);
      return lastFour === undefined ? undefined : factsOf(id, lastFour);
    },
    recordUsage: async (rows: readonly UsageRow[], onWritten: (row: UsageRow, total: number) => void) => {
      for (const row of rows) onWritten(row, row.requests);
    },
    markKeysUsed: async () => {},
  } as unknown as Keystore;
  const quotas = new Quotas();
  const usage = new UsageRecorder({
    keystore,
    log,
    onWritten: (chain, row, total) => quotas.written(chain, row, total),
    isPressing: (chain) => quotas.isPressing(chain),
  });
  const facts = new FactsCache({
    keystore,
    capacity,
    graceMs: 0,
    now: Date.now,
    usageWrite: () => 0,
    onRead: (key) => {
      quotas.learn(key, true);
      return true;
    },
  });
  const identify = new Identify({
    keystore,
    facts,
    queue: new HashQueue(),
    badKeys: new BadKeys(),
    firstUses: new FirstUses({ keystore, log }),
    capacity,
    log,
  });
  const windows = new MemoryWindows();
  const counters = { windows, messages: windows, quotas, usage, underWay: new UnderWay(), log };
  const pages = { manageUrl: '', pricingUrl: '' };
  const plans = { plan: () => PLAN };
  return { keys, decide: createDecide({ identify, plans, counters, pages, log }) };
}

/** Tag 0 stands for a secret that fits. */
function factsOf(id: string, lastFour: string): KeyFacts {
  return {
    id,
    rootId: id,
    mode: 'test',
    prefix: 'tg',
    hash: `$argon2id$v=19$m=4096,t=1,p=1$${id}$${id}${id}${id}`,
    tag: 0,
    lastFour,
    planId: 'bench',
    customerId: `cust_${id}`,
    entitlements: [],
    quantity: 1,
    createdAt: 1,
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
    monthStartHour: 0,
    readInHour: hourOf(Date.now()),
    usedThisHour: 0,
    usedInAll: 0,
  };
}
