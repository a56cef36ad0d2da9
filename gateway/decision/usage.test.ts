import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type KeyFacts, type Keystore, KeystoreError, type UsageRow } from '../../keystore/keystore.ts';
import { createLogger } from '../../shared/log.ts';
import { closeAll, closeLater } from '../../test/gateways.ts';
import { openTestKeystore } from '../../test/keystores.ts';
import { Chains, type Key } from './key.ts';
import { type Allowance, Quotas } from './quota.ts';
import { UsageRecorder } from './usage-recorder.ts';

afterEach(closeAll);

const NOVEMBER = Date.UTC(2026, 10, 21, 12, 30);
const DECEMBER = Date.UTC(2026, 11, 1);
const log = createLogger({ level: 'silent' });
const monthly = (quota: number): Allowance => ({ quota, quotaPer: 'month' });
const bought = (quota: number): Allowance => ({ quota, quotaPer: 'purchase' });

async function keystoreWithKeys(count: number, now = () => NOVEMBER) {
  const keystore = closeLater(await openTestKeystore({ now }));
  const chains = new Chains(1000);
  const read = async (id: string) =>
    chains.keyOf((await keystore.findKeyFacts(id)) as KeyFacts, undefined, NOVEMBER);
  const facts: Key[] = [];
  for (let i = 0; i < count; i++) {
    const { id } = await keystore.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'p',
      name: null,
      expiresAt: null,
      actor: 't',
    });
    facts.push(await read(id));
  }
  return {
    keystore,
    facts,
    read,
    used: async (id: string) => (await keystore.findKeyFacts(id))?.usedThisMonth,
  };
}
type RecordUsage = Keystore['recordUsage'];
function recorder(recordUsage: RecordUsage, quotas?: Quotas) {
  return new UsageRecorder({
    keystore: { recordUsage },
    log,
    onWritten: (chain, row, total) => quotas?.written(chain, row, total),
    isPressing: (chain) => quotas?.isPressing(chain) ?? false,
  });
}

describe('the usage recorder', () => {
  it('writes what was counted once, and what is counted during a write with the next', async () => {
    const { keystore, facts, used } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const usage = recorder((rows, onWritten) => {
      usage.count(key, true, NOVEMBER);
      return keystore.recordUsage(rows, onWritten);
    });
    for (let i = 0; i < 7; i++) usage.count(key, true, NOVEMBER);
    expect(await usage.flush()).toBe(true);
    expect(await used(key.id)).toBe(7);
    expect(await usage.flush()).toBe(true);
    expect(await used(key.id)).toBe(8);
    await usage.close();
    expect(await used(key.id)).toBeGreaterThanOrEqual(9);
  });

  it('counts nothing twice and loses nothing when a write fails half-way', async () => {
    const { keystore, facts, used } = await keystoreWithKeys(250);
    let failAfter = 30;
    const usage = recorder(async (rows, onWritten) => {
      await keystore.recordUsage(rows.slice(0, failAfter), onWritten);
      if (rows.length > failAfter) throw new KeystoreError('disk full', 'SQLITE_FULL');
    });
    for (const key of facts) {
      usage.count(key, true, NOVEMBER);
      usage.count(key, true, NOVEMBER);
      usage.count(key, false, NOVEMBER);
    }
    expect(await usage.flush()).toBe(false);
    expect(usage.failures).toBe(1);
    expect(await usage.flush()).toBe(false);
    failAfter = Number.POSITIVE_INFINITY;
    expect(await usage.flush()).toBe(true);
    expect(await Promise.all(facts.map((key) => used(key.id)))).toEqual(Array(250).fill(2));
    await usage.close();
    expect(await Promise.all(facts.map((key) => used(key.id)))).toEqual(Array(250).fill(2));
  });

  it('counts once what was written although the answer got lost, whatever is counted before it is asked again', async () => {
    const { keystore, facts, used } = await keystoreWithKeys(3);
    const [more, less, late] = facts as [Key, Key, Key];
    const quotas = new Quotas();
    let lost = 0;
    const usage = recorder(async (rows, onWritten) => {
      if (lost-- <= 0) return keystore.recordUsage(rows, onWritten);
      await keystore.recordUsage(rows, () => {});
      throw new KeystoreError('Connection terminated unexpectedly', 'UNREACHABLE');
    }, quotas);
    const spend = (key: Key, cost: number) => {
      quotas.spend(key, monthly(1000), NOVEMBER, cost);
      usage.count(key, true, NOVEMBER, cost);
    };
    for (const key of facts) spend(key, 1);
    expect(await usage.flush()).toBe(true);
    lost = 2;
    spend(more, 5);
    spend(less, 5);
    expect(await usage.flush()).toBe(false);
    spend(more, 2);
    usage.settle(less, -5, NOVEMBER);
    quotas.settle(less, monthly(1000), -5, NOVEMBER, NOVEMBER);
    spend(late, 1);
    expect(await usage.flush()).toBe(false);
    expect(await usage.flush()).toBe(true);
    expect(await Promise.all([more, less, late].map(({ id }) => used(id)))).toEqual([8, 1, 2]);
    const looked = [more, less, late].map((key) => quotas.look(key, monthly(1000), NOVEMBER)?.used);
    expect(looked).toEqual([8, 1, 2]);
    await usage.close();
    expect(await Promise.all([more, less, late].map(({ id }) => used(id)))).toEqual([8, 1, 2]);
  });

  it('what is settled for the past hour while the next one has begun is counted once', async () => {
    const { keystore, facts } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    const usage = recorder((rows, onWritten) => keystore.recordUsage(rows, onWritten), quotas);
    const later = NOVEMBER + 3_600_000;
    const spend = (at: number) => {
      quotas.spend(key, monthly(1000), at, 10);
      usage.count(key, true, at, 10);
    };
    const settle = (at: number) => {
      quotas.settle(key, monthly(1000), 5, at, later);
      usage.settle(key, 5, at);
    };
    spend(NOVEMBER);
    await usage.flush();
    spend(NOVEMBER);
    for (let i = 0; i < 3; i++) {
      spend(later);
      settle(NOVEMBER);
    }
    expect(quotas.look(key, monthly(1000), later)?.used).toBe(65);
    await usage.flush();
    expect(quotas.look(key, monthly(1000), later)?.used).toBe(65);
    await usage.close();
    expect((await keystore.findKeyFacts(key.id))?.usedThisMonth).toBe(65);
  });

  it('a stop writes all that is left, also of an earlier hour, and after a failure', async () => {
    const { keystore, facts } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const written: UsageRow[] = [];
    let failing = true;
    const usage = recorder(async (rows, onWritten) => {
      if (failing) {
        failing = false;
        throw new KeystoreError('locked', 'SQLITE_BUSY');
      }
      await keystore.recordUsage(rows, (row, total) => {
        written.push(row);
        onWritten(row, total);
      });
    });
    usage.count(key, true, NOVEMBER);
    usage.count(key, true, NOVEMBER + 3_600_000);
    usage.count(key, false, NOVEMBER + 3_600_000);
    await usage.close();
    const hour = Math.floor(NOVEMBER / 3_600_000);
    expect(written).toMatchObject([
      { keyId: key.id, hour, requests: 1, refused: 0 },
      { keyId: key.id, hour: hour + 1, requests: 1, refused: 1 },
    ]);
  });

  it('writes less often what takes long, but for what other processes have to know soon; a stop writes all', async () => {
    const { keystore, facts, used } = await keystoreWithKeys(2);
    const [near, far] = facts as [Key, Key];
    const quotas = new Quotas();
    const usage = recorder(async (rows, onWritten) => {
      const until = performance.now() + 300;
      while (performance.now() < until);
      await keystore.recordUsage(rows, onWritten);
    }, quotas);
    const spend = () => {
      for (const [key, quota] of [[near, 100] as const, [far, 1000] as const]) {
        expect(quotas.spend(key, monthly(quota), NOVEMBER)).toBe(true);
        usage.count(key, true, NOVEMBER);
      }
    };
    spend();
    await usage.flush();
    spend();
    await vi.waitFor(async () => expect(await used(near.id)).toBe(2));
    expect(await used(far.id)).toBe(1);
    await usage.close();
    expect(await used(far.id)).toBe(2);
  });

  it('writes many counts a little at a time, what other processes have to know soon before the rest, and all at once when asked', async () => {
    const { facts } = await keystoreWithKeys(1);
    const chains = new Chains(1000);
    const keys = Array.from({ length: 700 }, (_, i) =>
      chains.keyOf({ ...(facts[0] as Key), id: `key${i}`, rootId: `key${i}` }, undefined, NOVEMBER),
    );
    const [pressing] = keys as [Key];
    const quotas = new Quotas();
    const written: string[][] = [];
    const usage = recorder(async (rows, onWritten) => {
      written.push(rows.map(({ keyId }) => keyId));
      // So that a pause follows that is long enough to see what happens in it.
      await sleep(200);
      for (const row of rows) onWritten(row, row.requests);
    }, quotas);
    for (const key of keys) usage.count(key, true, NOVEMBER);
    await vi.waitFor(() => expect(written).toHaveLength(1));
    quotas.spend(pressing, monthly(2), NOVEMBER);
    usage.count(pressing, true, NOVEMBER);
    await vi.waitFor(() => expect(written).toContainEqual([pressing.id]));
    expect(written.flat().length).toBeLessThan(keys.length);
    // Few at once, and more where that takes much of the time.
    const ofMany = () => written.map(({ length }) => length).filter((length) => length > 1);
    await vi.waitFor(() => expect(ofMany().slice(0, 2)).toEqual([100, 200]), 5000);
    expect(await usage.flush()).toBe(true);
    expect(written.flat().sort()).toEqual([pressing.id, ...keys.map(({ id }) => id)].sort());
    await usage.close();
  });

  /** Keys of these ids, that nobody ever bought. */
  async function keysOf(ids: readonly string[]) {
    const { facts } = await keystoreWithKeys(1);
    const chains = new Chains(10_000);
    return ids.map((id) => chains.keyOf({ ...(facts[0] as Key), id, rootId: id }, undefined, NOVEMBER));
  }

  it('writes in the order of the ledger: each batch is of neighbours there, whatever order they were counted in', async () => {
    const first = [...'09AZaz'];
    const ids = first.flatMap((a) =>
      first.flatMap((b) => Array.from({ length: 30 }, (_, i) => `${a}${b}${i}`)),
    );
    const keys = await keysOf(ids);
    const written: string[][] = [];
    const usage = recorder(async (rows, onWritten) => {
      written.push(rows.map(({ keyId }) => keyId));
      for (const row of rows) onWritten(row, row.requests);
    });
    for (let round = 0; round < 2; round++) {
      written.length = 0;
      // Their number is no multiple of 7: each comes once, far from the one before.
      for (let i = 0; i < keys.length; i++) usage.count(keys[(i * 7) % keys.length] as Key, true, NOVEMBER);
      await usage.flush();
      const beginnings = written.flat().map((id) => id.slice(0, 2));
      expect(beginnings).toEqual(ids.map((id) => id.slice(0, 2)).sort());
      expect(written.length).toBeLessThan(10);
    }
    await usage.close();
  });

  it('what is counted while all are written is written with them, if its turn is still to come', async () => {
    const [late, ...keys] = (await keysOf(['zz', ...Array.from({ length: 300 }, (_, i) => `aa${i}`)])) as [
      Key,
      ...Key[],
    ];
    let rounds = 0;
    let before = 0;
    const usage = recorder(async (rows, onWritten) => {
      if (usage.lastFlushedAt !== before) rounds++;
      before = usage.lastFlushedAt;
      if (rows.some(({ keyId }) => keyId === 'aa0')) usage.count(late, true, NOVEMBER);
      await sleep(5);
      for (const row of rows) onWritten(row, row.requests);
      if (rows.some(({ keyId }) => keyId === 'zz')) done = rounds;
    });
    let done = 0;
    for (const key of keys) usage.count(key, true, NOVEMBER);
    await vi.waitFor(() => expect(done).toBeGreaterThan(0), 10_000);
    expect(done).toBe(1);
    await usage.close();
  });

  it('says that usage is written again when it is, not when there was nothing to write', async () => {
    const { facts } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const said: string[] = [];
    const saidBefore: string[][] = [];
    let written = 0;
    const usage = new UsageRecorder({
      log: createLogger({ level: 'info', destination: { write: (line) => said.push(JSON.parse(line).msg) } }),
      onWritten: () => {
        written++;
      },
      // The next write of everything is some seconds away: until then, only what presses is written.
      isPressing: () => saidBefore.length === 1,
      keystore: {
        recordUsage: async (rows, onWritten) => {
          saidBefore.push([...said]);
          if (saidBefore.length === 2) throw new KeystoreError('disk I/O error', 'SQLITE_IOERR');
          await sleep(100);
          for (const row of rows) onWritten(row, row.requests);
        },
      },
    });
    usage.count(key, true, NOVEMBER);
    await vi.waitFor(() => expect(written).toBe(1));
    usage.count(key, true, NOVEMBER);
    await vi.waitFor(() => expect(saidBefore).toHaveLength(3));
    const failed = 'Usage cannot be written; counting on in memory';
    expect(saidBefore[2]).toEqual([failed]);
    await usage.close();
    expect(said).toEqual([failed, 'Usage is written to the ledger again']);
  });

  it('a stop goes on for as long as the keystore writes', async () => {
    const { keystore, facts } = await keystoreWithKeys(1);
    let rows = 0;
    const usage = recorder(async (batch, onWritten) => {
      await sleep(50);
      rows += batch.length;
      await keystore.recordUsage(batch, onWritten);
    });
    for (let i = 0; i < 3000; i++)
      usage.count({ ...(facts[0] as Key), id: `key${i}`, count: null }, true, NOVEMBER);
    await usage.close();
    expect(rows).toBe(3000);
  });

  it('gives up a stop when the keystore does not come back, and says what is lost', async () => {
    const { facts } = await keystoreWithKeys(1);
    const lines: string[] = [];
    const usage = new UsageRecorder({
      keystore: { recordUsage: () => Promise.reject(new KeystoreError('gone', 'SQLITE_IOERR')) },
      log: createLogger({ level: 'error', destination: { write: (line) => void lines.push(line) } }),
      onWritten: () => {},
      isPressing: () => false,
    });
    usage.count(facts[0] as Key, true, NOVEMBER);
    const startedAt = Date.now();
    await usage.close();
    expect(Date.now() - startedAt).toBeLessThan(5000);
    expect(JSON.parse(lines.at(-1) as string)).toMatchObject({ keys: 1, requests: 1 });
    expect(lines.length).toBe(2);
  });

  it('a stop waits for a write that others hold up, and goes on with the rest', async () => {
    const { keystore, facts } = await keystoreWithKeys(1);
    let held = false;
    let rows = 0;
    const usage = recorder(async (batch, onWritten) => {
      if (!held) await sleep(900);
      held = true;
      await keystore.recordUsage(batch, onWritten);
      rows += batch.length;
    });
    for (let i = 0; i < 1000; i++)
      usage.count({ ...(facts[0] as Key), id: `key${i}`, count: null }, true, NOVEMBER);
    await usage.close();
    expect(rows).toBe(1000);
  });

  it('a stop that gives up says what is left once the write it waited for is done', async () => {
    const { facts } = await keystoreWithKeys(1);
    const lines: string[] = [];
    let writes = 0;
    const usage = new UsageRecorder({
      keystore: {
        recordUsage: async (batch, onWritten) => {
          if (writes++ > 0) throw new KeystoreError('gone', 'SQLITE_IOERR');
          await sleep(900);
          for (const row of batch) onWritten(row, row.requests);
        },
      },
      log: createLogger({ level: 'error', destination: { write: (line) => void lines.push(line) } }),
      onWritten: () => {},
      isPressing: () => false,
    });
    for (let i = 0; i < 1000; i++)
      usage.count({ ...(facts[0] as Key), id: `key${i}`, count: null }, true, NOVEMBER);
    await usage.close();
    expect(writes).toBeGreaterThan(2);
    expect(JSON.parse(lines.at(-1) as string)).toMatchObject({ keys: 750, requests: 750 });
  });
});

describe('counts', () => {
  it('of a key that is read anew while others still have it as it was go to the same place', async () => {
    const { keystore, facts, read, used } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const usage = recorder(keystore.recordUsage);
    usage.count(key, true, NOVEMBER);
    const again = await read(key.id);
    usage.count(again, true, NOVEMBER);
    usage.count(key, true, NOVEMBER);
    await usage.flush();
    // Empty by now, and forgotten at the next turn.
    await usage.flush();
    usage.count(key, true, NOVEMBER);
    usage.count(again, true, NOVEMBER);
    await usage.flush();
    expect(await used(key.id)).toBe(5);
    await usage.close();
  });

  it('of a key that was forgotten for want of room and comes back within the hour go to its quota once', async () => {
    const { keystore, facts, used } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    const usage = recorder(keystore.recordUsage, quotas);
    const spend = async (as: Key) => {
      quotas.spend(as, monthly(100), NOVEMBER);
      usage.count(as, true, NOVEMBER);
      await usage.flush();
    };
    await spend(key);
    const anew = async () =>
      new Chains(1).keyOf((await keystore.findKeyFacts(key.id)) as KeyFacts, undefined, NOVEMBER);
    const again = await anew();
    expect(again.chain).not.toBe(key.chain);
    for (let n = 0; n < 9; n++) await spend(again);
    quotas.learn({ ...(await anew()), chain: again.chain }, true);
    expect(await used(key.id)).toBe(10);
    expect(quotas.look(again, monthly(100), NOVEMBER)?.used).toBe(10);
    await usage.close();
  });

  it('may or may not be in what is read while they are written, and while nobody knows whether they are; others are', async () => {
    const { keystore, facts } = await keystoreWithKeys(2);
    const [key, other] = facts as [Key, Key];
    let during = async () => {};
    const usage = recorder(async (rows, onWritten) => {
      await during();
      await keystore.recordUsage(rows, onWritten);
    });
    /** Whether what a read that begins now and ends with `until` says of its use is exact. */
    const isExact = async ({ chain }: Key, until = async () => {}) => {
      const begun = usage.pendingWrite;
      await until();
      return chain.writtenIn < begun;
    };
    const write = async () => {
      usage.count(key, true, NOVEMBER);
      return usage.flush();
    };
    expect(await isExact(key)).toBe(true);
    expect(await isExact(key, () => write().then(() => {})), 'begun meanwhile').toBe(false);
    expect(await isExact(other, () => write().then(() => {}))).toBe(true);
    expect(await isExact(key), 'over').toBe(true);
    during = async () => {
      expect(await isExact(key), 'under way').toBe(false);
      expect(await isExact(other)).toBe(true);
    };
    expect(await write()).toBe(true);
    expect(await isExact(key)).toBe(true);
    during = () => Promise.reject(new KeystoreError('Connection terminated unexpectedly', 'UNREACHABLE'));
    expect(await write()).toBe(false);
    expect(await isExact(key), 'nobody knows').toBe(false);
    expect(await isExact(other)).toBe(true);
    during = async () => {};
    expect(await write()).toBe(true);
    expect(await isExact(key)).toBe(true);
    await usage.close();
  });

  it('of keys whose quota is nearly used up are written soon again, time after time', async () => {
    const { keystore, facts, used } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    const usage = recorder(async (rows, onWritten) => {
      const until = performance.now() + 60;
      while (performance.now() < until);
      await keystore.recordUsage(rows, onWritten);
    }, quotas);
    for (let n = 1; n <= 3; n++) {
      quotas.spend(key, monthly(100), NOVEMBER);
      usage.count(key, true, NOVEMBER);
      await vi.waitFor(async () => expect(await used(key.id)).toBe(n));
    }
    await usage.close();
  });
});

it('whatever is counted, in whatever order with writes that fail and hours that turn, is in the ledger once', async () => {
  const { keystore, facts, read, used } = await keystoreWithKeys(2);
  const keys = [...facts];
  const expected = [0, 0];
  const which = fc.integer({ min: 0, max: 1 });
  const hour = fc.integer({ min: 0, max: 2 });
  const step = fc.oneof(
    fc.record({ what: fc.constant('count' as const), which, hour, by: fc.integer({ min: 0, max: 3 }) }),
    fc.record({ what: fc.constant('settle' as const), which, hour, by: fc.integer({ min: -3, max: 3 }) }),
    fc.record({ what: fc.constant('read anew' as const), which, hour, by: fc.constant(0) }),
    fc.record({ what: fc.constant('write' as const), which, hour, by: fc.constant(0) }),
    fc.record({ what: fc.constant('fail' as const), which, hour, by: fc.constant(1) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      let room = Number.POSITIVE_INFINITY;
      const usage = recorder(async (rows, onWritten) => {
        await keystore.recordUsage(rows.slice(0, room), onWritten);
        if (rows.length > room) throw new KeystoreError('disk full', 'SQLITE_FULL');
      });
      for (const { what, which: i, hour: at, by } of steps) {
        const key = keys[i] as Key;
        const now = NOVEMBER + at * 3_600_000;
        if (what === 'count') usage.count(key, true, now, by);
        else if (what === 'settle') usage.settle(key, by, now);
        else if (what === 'read anew') keys[i] = await read(key.id);
        else {
          room = what === 'fail' ? by : Number.POSITIVE_INFINITY;
          await usage.flush();
        }
        if (what === 'count' || what === 'settle') expected[i] = (expected[i] as number) + by;
      }
      room = Number.POSITIVE_INFINITY;
      await usage.close();
      expect(await Promise.all(keys.map(({ id }) => used(id)))).toEqual(expected);
    }),
    { numRuns: 60 },
  );
});

describe('quotas', () => {
  it('admit exactly as many as there are, and refuse the rest without counting them', async () => {
    const { facts } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    const admitted = Array.from({ length: 9 }, () => quotas.spend(key, monthly(3), NOVEMBER)).filter(Boolean);
    expect(admitted).toHaveLength(3);
    expect(quotas.look(key, monthly(3), NOVEMBER)).toEqual({
      per: 'month',
      limit: 3,
      used: 3,
      remaining: 0,
      resetsAt: DECEMBER,
      resetSeconds: (DECEMBER - NOVEMBER) / 1000,
      windowSeconds: 30 * 86_400,
    });
    expect(quotas.spend(key, monthly(4), NOVEMBER), 'a larger plan').toBe(true);
  });

  it('count each request once, whether it is in the ledger already or not', async () => {
    const { keystore, facts, read } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    const usage = recorder(keystore.recordUsage, quotas);
    const used = () => quotas.look(key, monthly(100), NOVEMBER)?.used;
    const spend = () => {
      quotas.spend(key, monthly(100), NOVEMBER);
      usage.count(key, true, NOVEMBER);
    };
    for (let i = 0; i < 5; i++) spend();
    expect(used()).toBe(5);
    await usage.flush();
    expect(used()).toBe(5);
    spend();
    quotas.learn(await read(key.id), true);
    expect(used()).toBe(6);
    await usage.flush();
    quotas.learn(await read(key.id), true);
    expect(used()).toBe(6);
    await usage.close();
  });

  it('learn what other processes wrote, from the totals of our own writes', async () => {
    const { keystore, facts } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    const usage = recorder(keystore.recordUsage, quotas);
    const hour = Math.floor(NOVEMBER / 3_600_000);
    const spend = async () => {
      quotas.spend(key, monthly(100), NOVEMBER);
      usage.count(key, true, NOVEMBER);
      await usage.flush();
    };
    await spend();
    await keystore.recordUsage([{ keyId: key.id, hour, requests: 10, refused: 0 }], () => {});
    await spend();
    expect(quotas.look(key, monthly(100), NOVEMBER)?.used).toBe(12);
    await spend();
    expect(quotas.look(key, monthly(100), NOVEMBER)?.used).toBe(13);
    await usage.close();
  });

  it('start anew with the month, whatever was read or is still to be written of the last one', async () => {
    const { keystore, facts } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    const usage = recorder(keystore.recordUsage, quotas);
    for (let i = 0; i < 3; i++) {
      expect(quotas.spend({ ...key, usedThisMonth: 2 }, monthly(5), DECEMBER - 1)).toBe(true);
      usage.count(key, true, DECEMBER - 1);
    }
    expect(quotas.spend(key, monthly(5), DECEMBER - 1)).toBe(false);
    expect(quotas.spend(key, monthly(5), DECEMBER)).toBe(true);
    usage.count(key, true, DECEMBER);
    await usage.flush();
    quotas.learn({ ...key, usedThisMonth: 99 }, true);
    expect(quotas.look(key, monthly(5), DECEMBER)).toMatchObject({ used: 1, remaining: 4 });
    await usage.close();
  });

  it('a read during a write is not taken over, as it may or may not hold it', async () => {
    const { facts } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    for (let i = 0; i < 4; i++) quotas.spend(key, monthly(100), NOVEMBER);
    quotas.learn({ ...key, usedThisMonth: 4 }, false);
    expect(quotas.look(key, monthly(100), NOVEMBER)?.used).toBe(4);
  });

  it('of a purchase go on over the months, and take over what the ledger says was ever used', async () => {
    const { keystore, facts, read } = await keystoreWithKeys(1);
    const [key] = facts as [Key];
    const quotas = new Quotas();
    const usage = recorder(keystore.recordUsage, quotas);
    const spend = (now: number) => {
      const taken = quotas.spend(key, bought(5), now);
      if (taken) usage.count(key, true, now);
      return taken;
    };
    expect([spend(NOVEMBER), spend(DECEMBER - 1), spend(DECEMBER)]).toEqual([true, true, true]);
    expect(quotas.look(key, bought(5), DECEMBER)).toEqual({
      per: 'purchase',
      limit: 5,
      used: 3,
      remaining: 2,
      resetsAt: null,
    });
    await usage.flush();
    const hour = Math.floor(NOVEMBER / 3_600_000);
    await keystore.recordUsage([{ keyId: key.id, hour: hour - 5000, requests: 1, refused: 7 }], () => {});
    quotas.learn(await read(key.id), true);
    expect(quotas.look(key, bought(5), DECEMBER)?.used).toBe(4);
    expect([spend(DECEMBER), spend(DECEMBER), spend(DECEMBER)]).toEqual([true, false, false]);
    await usage.close();
    expect(await keystore.findKeyFacts(key.id)).toMatchObject({ usedInAll: 5 });
  });
});
