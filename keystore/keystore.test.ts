import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { sqlitePath } from '../shared/config.ts';
import { parseKey } from '../shared/keys.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET, temporaryFolder } from '../test/keystores.ts';
import type {
  Change,
  Keystore,
  KeystoreOptions,
  ProvisionPurchase,
  SubscriptionSnapshot,
} from './keystore.ts';

const open: Keystore[] = [];
async function keystore(options: Partial<KeystoreOptions> = {}): Promise<Keystore> {
  const opened = await openTestKeystore(options);
  open.push(opened);
  return opened;
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((opened) => opened.close()));
});

const PURCHASE_ID = `pur_${'mine'.repeat(5)}`;
const SESSION = `cs_test_${'a1B2'.repeat(14)}`;
const subscription = (more: Partial<SubscriptionSnapshot> = {}): SubscriptionSnapshot => ({
  id: 'sub_1',
  planId: 'pro',
  priceId: 'price_pro',
  status: 'active',
  currentPeriodEnd: 2_000_000_000_000,
  cancelAtPeriodEnd: false,
  fetchedAt: 1000,
  ...more,
});
const purchase = (more: Partial<ProvisionPurchase> = {}): ProvisionPurchase => ({
  sessionId: SESSION,
  mode: 'test',
  planId: 'pro',
  priceId: 'price_pro',
  keyPrefix: 'tg',
  buyer: { stripeCustomerId: 'cus_1', email: 'buyer@example.com' },
  subscription: subscription(),
  amountTotal: 1900,
  currency: 'usd',
  actor: 'test',
  ...more,
});
const event = (id: string, more: object = {}) => ({
  id,
  type: 'checkout.session.completed',
  mode: 'test' as const,
  apiVersion: '2026-10-28.endive',
  objectId: SESSION,
  payload: JSON.stringify({ id, data: { object: { id: SESSION, url: `https://pay/${SESSION}#x` } } }),
  createdAt: 1,
  ...more,
});
/** What a script prints in a process of its own. */
async function run(script: string): Promise<string> {
  const child = spawn(process.execPath, ['-e', script], { env: {} });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output += chunk;
  });
  await new Promise((resolve) => child.on('close', resolve));
  return output;
}

/** Every byte the keystore left on disk. */
function onDisk(url: string): string {
  const dir = join(sqlitePath(url), '..');
  return readdirSync(dir)
    .map((name) => readFileSync(join(dir, name), 'latin1'))
    .join('');
}

describe('opening', () => {
  it('makes the file, its folder and its schema, and opens it again with what was in it', async () => {
    const url = `sqlite:${join(temporaryFolder(), 'a', 'b', 'k.sqlite')}`;
    const first = await openTestKeystore({ url });
    const { purchase: made } = await first.provisionPurchase(purchase());
    await first.close();
    const second = await keystore({ url });
    expect(await second.findPurchase(SESSION)).toEqual(made);
  });

  it('ten processes at the same moment on a new file', async () => {
    const path = sqlitePath(newKeystoreUrl());
    const script = `import('${join(process.cwd(), 'keystore/sqlite.ts')}').then(m => m.openSqlite('${path}')).then(() => console.log('open'))`;
    const outputs = await Promise.all(Array.from({ length: 10 }, () => run(script)));
    expect(outputs).toEqual(Array(10).fill('open\n'));
  });

  it.each([
    [
      'text',
      (path: string) => writeFileSync(path, 'just some text, long enough to be no header'.repeat(50)),
      'SQLITE_NOTADB',
      /not a database/,
    ],
    [
      'database of something else',
      (path: string) => new Database(path).exec('create table t (a)').close(),
      'NOT_A_KEYSTORE',
      /something else/,
    ],
    ['folder', (path: string) => mkdirSync(path), 'EISDIR', /cannot be written/],
  ])('refuses a %s and leaves it as it was', async (_name, make, code, message) => {
    const path = join(temporaryFolder(), 'k.sqlite');
    make(path);
    const before = code === 'EISDIR' ? '' : readFileSync(path, 'latin1');
    const error = await openTestKeystore({ url: `sqlite:${path}` }).catch((thrown) => thrown);
    expect(error).toMatchObject({ name: 'KeystoreOpenError', code });
    expect(error.message).toMatch(message);
    expect(error.message).toContain(path);
    if (before) expect(readFileSync(path, 'latin1')).toBe(before);
  });

  it('refuses a file that a newer version wrote', async () => {
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    const raw = new Database(sqlitePath(url));
    raw.prepare('insert into kysely_migration values (?, ?)').run('9999_from_the_future', 'now');
    raw.close();
    await expect(openTestKeystore({ url })).rejects.toMatchObject({ code: 'NEWER_THAN_CODE' });
  });

  it('refuses another server secret, under which every good key would look wrong', async () => {
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    await expect(openTestKeystore({ url, serverSecret: `${SERVER_SECRET}x` })).rejects.toMatchObject({
      code: 'WRONG_SECRET',
    });
  });

  it('refuses a file it may not write, as an ordinary user', async () => {
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    const path = sqlitePath(url);
    chmodSync(path, 0o444);
    // Root may write anything; it becomes nobody once the code is loaded, which nobody may not be able to read.
    const script = `import('${join(process.cwd(), 'keystore/sqlite.ts')}').then((m) => {
      if (process.getuid?.() === 0) { process.setgid(65534); process.setuid(65534); }
      return m.openSqlite('${path}');
    }).catch((e) => console.log(e.name, e.code, e.message))`;
    expect(await run(script)).toMatch(
      /^KeystoreOpenError (SQLITE_(READONLY|CANTOPEN)\w*|EACCES) .*cannot be written by this user/,
    );
  });

  it('belongs to one mode from its first use', async () => {
    const store = await keystore();
    expect(await store.mode()).toBeNull();
    await store.bindMode('test');
    await store.bindMode('test');
    expect(await store.mode()).toBe('test');
    await expect(store.bindMode('live')).rejects.toMatchObject({ code: 'WRONG_MODE' });
    expect(await store.mode()).toBe('test');
  });
});

describe('provisioning and claiming', () => {
  it('makes one key, shows it once', async () => {
    const store = await keystore();
    const first = await store.provisionPurchase(purchase());
    expect(first).toMatchObject({
      outcome: 'provisioned',
      purchase: { status: 'provisioned', planId: 'pro' },
    });
    expect(await store.provisionPurchase(purchase())).toEqual({ ...first, outcome: 'already_provisioned' });
    expect(await store.findReveal(SESSION)).toMatchObject({ reveal: { state: 'sealed', claimedAt: null } });

    const claim = await store.claimReveal({ sessionId: SESSION, actor: 'test' });
    if (claim.outcome !== 'claimed') throw new Error(claim.outcome);
    const parsed = parseKey(claim.plaintext);
    expect(parsed).toMatchObject({ id: claim.keyId, mode: 'test', prefix: 'tg' });
    expect(await store.claimReveal({ sessionId: SESSION, actor: 'test' })).toEqual({
      outcome: 'already_claimed',
    });
    expect(await store.findReveal(SESSION)).toMatchObject({
      reveal: { state: 'claimed', lastFour: claim.plaintext.slice(-4) },
    });

    const facts = await store.findKeyFacts(claim.keyId);
    expect(facts).toMatchObject({
      planId: 'pro',
      mode: 'test',
      revokedAt: null,
      subscription: { status: 'active' },
    });
    expect(store.hasher.tagMatches(parsed!.secret, facts!.tag)).toBe(true);
    expect(await store.hasher.verify(parsed!.secret, facts!.hash)).toBe(true);
    expect(await store.hasher.verify(`${parsed!.secret.slice(0, -1)}!`, facts!.hash)).toBe(false);
    expect((await store.keyHistory(claim.keyId)).map((entry) => entry.action)).toEqual([
      'key.provisioned',
      'key.claimed',
    ]);
  });

  it('provisioned in turn over two connections and claimed 50 times at once: one key, shown once', async () => {
    const url = newKeystoreUrl();
    const stores = [await keystore({ url }), await keystore({ url })];
    const outcomes: string[] = [];
    for (let round = 0; round < 25; round++) {
      for (const store of stores) outcomes.push((await store.provisionPurchase(purchase())).outcome);
    }
    expect(outcomes.filter((outcome) => outcome === 'provisioned')).toHaveLength(1);
    const inOne = await Promise.all(
      Array.from({ length: 50 }, () => stores[0]!.claimReveal({ sessionId: SESSION, actor: 't' })),
    );
    expect(inOne.filter((claim) => claim.outcome === 'claimed')).toHaveLength(1);
    expect(await stores[1]!.listKeys({ limit: 10 })).toHaveLength(1);
  });

  it('leaves neither plaintext nor session id anywhere on disk, sealed or claimed', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    await store.recordPurchase({ sessionId: SESSION, mode: 'test', planId: 'pro', priceId: 'price_pro' });
    await store.receiveEvent(event('evt_1'));
    await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 });
    await store.failEvent({ id: 'evt_1', outcome: 'error', error: `no ${SESSION}`, retryAt: null });
    await store.provisionPurchase(purchase());
    await store.receiveEvent(event('evt_2'));
    const states = [onDisk(url)];
    const claim = await store.claimReveal({ sessionId: SESSION, actor: 'test' });
    if (claim.outcome !== 'claimed') throw new Error(claim.outcome);
    states.push(onDisk(url));
    await store.completeEvent({ id: 'evt_2', outcome: 'already_provisioned' });
    states.push(onDisk(url));
    for (const bytes of states) {
      expect(bytes.includes('evt_1')).toBe(true);
      expect(bytes.includes(SESSION)).toBe(false);
      expect(bytes.includes(parseKey(claim.plaintext)!.secret)).toBe(false);
    }
    const raw = new Database(sqlitePath(url));
    expect(raw.prepare('select sealed from reveals').all()).toEqual([{ sealed: null }]);
    raw.close();
  });

  it('keeps its files from other users', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    await store.provisionPurchase(purchase());
    for (const suffix of ['', '-wal', '-shm'])
      expect(statSync(sqlitePath(url) + suffix).mode & 0o077, suffix).toBe(0);
  });

  it('does not open for another session id, nor when the seal was moved to another purchase', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    const other = `cs_test_${'Zz'.repeat(28)}`;
    await store.provisionPurchase(purchase());
    await store.provisionPurchase(
      purchase({ sessionId: other, subscription: subscription({ id: 'sub_2' }) }),
    );
    const raw = new Database(sqlitePath(url));
    raw.exec(
      'update reveals set sealed = (select sealed from reveals order by created_at, purchase_id limit 1)',
    );
    raw.close();
    const claims = await Promise.allSettled(
      [SESSION, other].map((sessionId) => store.claimReveal({ sessionId, actor: 't' })),
    );
    expect(claims.map((claim) => claim.status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('destroys an unclaimed seal when its time is up, or when its key is revoked', async () => {
    let time = 1_000_000;
    const url = newKeystoreUrl();
    const store = await keystore({ url, now: () => time, revealTtlMs: 5000 });
    await store.provisionPurchase(purchase());
    time += 4999;
    expect(await store.sweep()).toEqual({ expiredReveals: 0 });
    expect(await store.findReveal(SESSION)).toMatchObject({ reveal: { state: 'sealed' } });
    time += 1;
    expect(await store.findReveal(SESSION)).toMatchObject({ reveal: { state: 'expired' } });
    expect(await store.claimReveal({ sessionId: SESSION, actor: 't' })).toEqual({ outcome: 'expired' });
    expect(await store.sweep()).toEqual({ expiredReveals: 1 });

    const other = `cs_test_${'Zz'.repeat(28)}`;
    const { purchase: made } = await store.provisionPurchase(purchase({ sessionId: other }));
    await store.revokeKey({ id: made.keyId!, reason: 'operator', actor: 't' });
    expect(await store.claimReveal({ sessionId: other, actor: 't' })).toEqual({ outcome: 'revoked' });
    const raw = new Database(sqlitePath(url));
    expect(raw.prepare('select count(*) as n from reveals where sealed is not null').get()).toEqual({ n: 0 });
    raw.close();
  });

  it('a purchase that failed can still be paid for later, a provisioned one can no longer fail', async () => {
    const store = await keystore();
    await store.recordPurchase({
      sessionId: SESSION,
      purchaseId: PURCHASE_ID,
      mode: 'test',
      planId: 'pro',
      priceId: 'price_pro',
    });
    const end = {
      sessionId: SESSION,
      mode: 'test' as const,
      status: 'failed' as const,
      failure: 'payment_failed',
      actor: 't',
    };
    expect(await store.endPurchase(end)).toMatchObject({
      id: PURCHASE_ID,
      status: 'failed',
      failure: 'payment_failed',
    });
    expect((await store.provisionPurchase(purchase())).purchase).toMatchObject({
      id: PURCHASE_ID,
      status: 'provisioned',
      failure: null,
    });
    expect(await store.endPurchase(end)).toMatchObject({ status: 'provisioned' });
    expect(
      await store.recordPurchase({ sessionId: SESSION, mode: 'test', planId: null, priceId: null }),
    ).toMatchObject({
      id: PURCHASE_ID,
      status: 'provisioned',
    });
  });

  it('two sessions that carry the same purchase id stay two purchases', async () => {
    const store = await keystore();
    const other = `cs_test_${'Zz'.repeat(28)}`;
    const first = await store.provisionPurchase(purchase({ purchaseId: PURCHASE_ID }));
    const second = await store.provisionPurchase(
      purchase({ sessionId: other, purchaseId: PURCHASE_ID, subscription: subscription({ id: 'sub_2' }) }),
    );
    expect(first.purchase.id).toBe(PURCHASE_ID);
    expect(second.purchase.id).not.toBe(PURCHASE_ID);
    expect(second.purchase.keyId).not.toBe(first.purchase.keyId);
    expect(await store.findPurchase(SESSION)).toEqual(first.purchase);
  });
});

describe('subscriptions', () => {
  it('an older look never overwrites a newer one, and an ended one stays ended', async () => {
    const store = await keystore();
    const sync = (more: Partial<SubscriptionSnapshot>) =>
      store.syncSubscription({
        mode: 'test',
        buyer: { stripeCustomerId: 'cus_1', email: null },
        subscription: subscription(more),
        actor: 't',
      });
    expect(await sync({ fetchedAt: 10 })).toBe('updated');
    expect(await sync({ fetchedAt: 11 })).toBe('unchanged');
    expect(await sync({ fetchedAt: 9, status: 'past_due' })).toBe('stale');
    expect(await sync({ fetchedAt: 12, status: 'past_due' })).toBe('updated');
    expect(await sync({ fetchedAt: 13, status: 'canceled' })).toBe('updated');
    expect(await sync({ fetchedAt: 14, status: 'active' })).toBe('stale');
  });

  it('a look stamped by a clock that has been set back since shuts out no other', async () => {
    const store = await keystore({ now: () => 5000 });
    const sync = (more: Partial<SubscriptionSnapshot>) =>
      store.syncSubscription({
        mode: 'test',
        buyer: { stripeCustomerId: 'cus_1', email: null },
        subscription: subscription(more),
        actor: 't',
      });
    expect(await sync({ fetchedAt: 3_605_000 })).toBe('updated');
    expect(await sync({ fetchedAt: 5000, status: 'canceled' })).toBe('updated');
  });

  it('remembers since when it is past due, until it no longer is', async () => {
    const store = await keystore();
    const { purchase: made } = await store.provisionPurchase(purchase());
    const look = async (status: SubscriptionSnapshot['status'], fetchedAt: number) => {
      await store.syncSubscription({
        mode: 'test',
        buyer: { stripeCustomerId: 'cus_1', email: null },
        subscription: subscription({ status, fetchedAt }),
        actor: 't',
      });
      return (await store.findKeyFacts(made.keyId!))?.subscription?.pastDueSince;
    };
    expect(await look('past_due', 2000)).toBe(2000);
    expect(await look('past_due', 3000)).toBe(2000);
    expect(await look('active', 4000)).toBeNull();
    expect(await look('past_due', 5000)).toBe(5000);
  });

  it('an event that comes before the purchase is no loss: the key follows the newest look', async () => {
    const store = await keystore();
    await store.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_1', email: null },
      subscription: subscription({ status: 'canceled', fetchedAt: 5000 }),
      actor: 't',
    });
    const { purchase: made } = await store.provisionPurchase(purchase());
    expect(await store.findKeyFacts(made.keyId!)).toMatchObject({ subscription: { status: 'canceled' } });
    expect((await store.findKey(made.keyId!))?.email).toBe('buyer@example.com');
  });
});

describe('keys', () => {
  it('nothing resurrects a revoked key', async () => {
    const store = await keystore();
    const { purchase: made } = await store.provisionPurchase(purchase());
    const id = made.keyId!;
    expect(await store.revokeKey({ id, reason: 'operator', actor: 't' })).toBe('revoked');
    expect(await store.revokeKey({ id, reason: 'refunded', actor: 't' })).toBe('already_revoked');
    const revoked = await store.findKey(id);
    await store.provisionPurchase(purchase());
    await store.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_1', email: null },
      subscription: subscription({ planId: 'team', fetchedAt: 9000 }),
      actor: 't',
    });
    expect(await store.rotateKey({ id, overlapMs: 1000, actor: 't' })).toBe('revoked');
    expect(await store.findKey(id)).toMatchObject({
      revokedAt: revoked!.revokedAt,
      revokedReason: 'operator',
      planId: 'team',
    });
    expect(await store.revokeKey({ id: 'nosuchkey000', reason: 'operator', actor: 't' })).toBe('not_found');
  });

  it('rotation makes the new key first, keeps the old one for the overlap, and shares the quota', async () => {
    let time = Date.UTC(2026, 10, 21);
    const store = await keystore({ now: () => time });
    const old = await store.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'pro',
      name: 'ci',
      expiresAt: null,
      actor: 't',
    });
    const hour = Math.floor(time / 3_600_000);
    await store.recordUsage([{ keyId: old.id, hour, requests: 7, refused: 1 }], () => {});
    const fresh = await store.rotateKey({ id: old.id, overlapMs: 1000, actor: 't' });
    if (typeof fresh === 'string') throw new Error(fresh);
    expect(await store.findKeyFacts(old.id)).toMatchObject({ expiresAt: time + 1000, revokedAt: null });
    expect(await store.findKeyFacts(fresh.id)).toMatchObject({
      rootId: old.id,
      expiresAt: null,
      usedThisMonth: 7,
      planId: 'pro',
    });
    expect(fresh.oldKeyEndsAt).toBe(time + 1000);
    expect(await store.rotateKey({ id: old.id, overlapMs: 9000, actor: 't' })).toBe('replaced');
    time += 1000;
    expect(await store.rotateKey({ id: old.id, overlapMs: 1000, actor: 't' })).toBe('replaced');
    for (const id of [old.id, fresh.id])
      expect((await store.keyHistory(id)).map((entry) => entry.action)).toContain('key.rotated');
    const third = await store.rotateKey({ id: fresh.id, overlapMs: 0, actor: 't' });
    if (typeof third === 'string') throw new Error(third);
    expect(await store.findKeyFacts(fresh.id)).toMatchObject({ revokedAt: time });
    expect(await store.findKeyFacts(third.id)).toMatchObject({ rootId: old.id, usedThisMonth: 7 });
  });

  it('an overlap never outlives the key, the new one keeps its expiry, and an expired one stays dead', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time });
    const old = await store.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'pro',
      name: null,
      expiresAt: 6000,
      actor: 't',
    });
    const fresh = await store.rotateKey({ id: old.id, overlapMs: 60_000, actor: 't' });
    if (typeof fresh === 'string') throw new Error(fresh);
    expect(fresh.oldKeyEndsAt).toBe(6000);
    expect(await store.findKeyFacts(fresh.id)).toMatchObject({ expiresAt: 6000 });
    time = 6000;
    expect(await store.rotateKey({ id: fresh.id, overlapMs: 1000, actor: 't' })).toBe('expired');
  });

  it('a key that was rotated before it was claimed can no longer be claimed, and says why', async () => {
    const store = await keystore();
    const { purchase: made } = await store.provisionPurchase(purchase());
    await store.rotateKey({ id: made.keyId!, overlapMs: 60_000, actor: 't' });
    expect(await store.findReveal(SESSION)).toMatchObject({ reveal: { state: 'revoked' } });
    expect(await store.claimReveal({ sessionId: SESSION, actor: 't' })).toEqual({ outcome: 'revoked' });
  });

  it('lists, pages and finds', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time++ });
    const made: string[] = [];
    for (let i = 0; i < 7; i++) {
      const key = await store.createKey({
        mode: 'test',
        prefix: 'tg',
        planId: i % 2 ? 'pro' : 'free',
        name: null,
        expiresAt: null,
        actor: 't',
      });
      made.unshift(key.id);
    }
    const first = await store.listKeys({ limit: 3 });
    const rest = await store.listKeys({ limit: 10, before: first.at(-1)! });
    expect([...first, ...rest].map((key) => key.id)).toEqual(made);
    expect(await store.listKeys({ limit: 10, planId: 'pro' })).toHaveLength(3);
    await store.provisionPurchase(purchase());
    expect(await store.listKeys({ limit: 10, matching: 'buyer@example.com' })).toHaveLength(1);
    expect(await store.listKeys({ limit: 10, matching: 'sub_1' })).toHaveLength(1);
  });

  it('renews an outdated hash only over the one that was read', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url, keyHash: { memoryKib: 1024, passes: 1, lanes: 1 } });
    const key = await store.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'pro',
      name: null,
      expiresAt: null,
      actor: 't',
    });
    const stronger = await keystore({ url, keyHash: { memoryKib: 4096, passes: 2, lanes: 1 } });
    const { hash } = (await stronger.findKeyFacts(key.id))!;
    expect(stronger.hasher.isOutdated(hash)).toBe(true);
    const { secret } = parseKey(key.plaintext)!;
    const renewed = await stronger.hasher.hash(secret);
    await stronger.upgradeKeyHash({ id: key.id, from: 'something else', to: 'x' });
    await stronger.upgradeKeyHash({ id: key.id, from: hash, to: renewed.hash });
    const facts = (await stronger.findKeyFacts(key.id))!;
    expect(facts.hash).toContain('m=4096,p=1,t=2');
    expect(await stronger.hasher.verify(secret, facts.hash)).toBe(true);
  });
});

describe('event inbox', () => {
  it('keeps an event once, leases it to one owner, and hands it on when the lease runs out', async () => {
    let time = 1000;
    const url = newKeystoreUrl();
    const a = await keystore({ url, now: () => time });
    const b = await keystore({ url, now: () => time });
    expect(await a.receiveEvent(event('evt_1'))).toBe('received');
    expect(await b.receiveEvent(event('evt_1'))).toBe('duplicate');
    expect(await a.leaseEvents({ owner: 'a', limit: 10, leaseMs: 500 })).toMatchObject([
      { id: 'evt_1', attempts: 1, objectId: null },
    ]);
    expect(await b.leaseEvents({ owner: 'b', limit: 10, leaseMs: 500 })).toEqual([]);
    time += 500;
    expect(await b.leaseEvents({ owner: 'b', limit: 10, leaseMs: 500 })).toMatchObject([
      { id: 'evt_1', attempts: 2 },
    ]);
    await b.completeEvent({ id: 'evt_1', outcome: 'provisioned' });
    time += 10_000;
    expect(await a.leaseEvents({ owner: 'a', limit: 10, leaseMs: 500 })).toEqual([]);
    expect(await a.receiveEvent(event('evt_1'))).toBe('duplicate');
    const done = await a.findEvent('evt_1');
    expect(done).toMatchObject({ status: 'processed', outcome: 'provisioned' });
    expect(done?.payload).not.toContain(SESSION);
    expect(JSON.parse(done!.payload)).toMatchObject({ data: { object: { id: 'cs_test_[redacted]' } } });
  });

  it('waits before a retry, keeps what failed for good, and works on it again when Stripe resends it', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time });
    await store.receiveEvent(event('evt_1'));
    await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 });
    await store.failEvent({
      id: 'evt_1',
      outcome: 'stripe_unavailable',
      error: `no ${SESSION}`,
      retryAt: 5000,
    });
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toEqual([]);
    time = 5000;
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toHaveLength(1);
    await store.failEvent({ id: 'evt_1', outcome: 'unknown_price', error: 'price_x', retryAt: null });
    expect(await store.inboxDepth()).toEqual({ pending: 0, failed: 1 });
    expect(await store.findEvent('evt_1')).toMatchObject({ status: 'failed', error: 'price_x' });
    expect(await store.receiveEvent(event('evt_1'))).toBe('requeued');
    expect(await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500 })).toMatchObject([{ attempts: 1 }]);
  });

  it('gives leases back when a worker stops', async () => {
    const store = await keystore();
    await store.receiveEvent(event('evt_1'));
    await store.leaseEvents({ owner: 'a', limit: 1, leaseMs: 500_000 });
    expect(await store.leaseEvents({ owner: 'b', limit: 1, leaseMs: 500_000 })).toEqual([]);
    await store.releaseLeases('b');
    expect(await store.leaseEvents({ owner: 'b', limit: 1, leaseMs: 500_000 })).toEqual([]);
    await store.releaseLeases('a');
    expect(await store.leaseEvents({ owner: 'b', limit: 1, leaseMs: 500_000 })).toHaveLength(1);
  });

  it('forgets events that were processed and checkouts that came to nothing 90 days ago, and nothing else', async () => {
    let time = 1000;
    const store = await keystore({ now: () => time });
    await store.receiveEvent(event('evt_done'));
    await store.completeEvent({ id: 'evt_done', outcome: 'open' });
    await store.receiveEvent(event('evt_failed'));
    await store.failEvent({ id: 'evt_failed', outcome: 'unknown_price', error: 'x', retryAt: null });
    const abandoned = `cs_test_${'Zz'.repeat(28)}`;
    await store.recordPurchase({ sessionId: abandoned, mode: 'test', planId: 'pro', priceId: 'price_pro' });
    await store.provisionPurchase(purchase());
    time += 90 * 86_400_000;
    await store.sweep();
    expect(await store.findPurchase(abandoned)).toBeDefined();
    time += 1;
    await store.sweep();
    expect(await store.findPurchase(abandoned)).toBeUndefined();
    expect(await store.findPurchase(SESSION)).toMatchObject({ status: 'provisioned' });
    expect(await store.findEvent('evt_done')).toBeUndefined();
  });

  it('closes what waits for a session once its purchase is provisioned', async () => {
    const store = await keystore();
    await store.receiveEvent(event('evt_1'));
    await store.provisionPurchase(purchase());
    expect(await store.inboxDepth()).toEqual({ pending: 0, failed: 0 });
    const closed = await store.findEvent('evt_1');
    expect(closed).toMatchObject({ status: 'processed', outcome: 'provisioned' });
    expect(closed?.payload).not.toContain(SESSION);
  });
});

describe('change feed', () => {
  it('tells this process and another connection of every change, and nobody of usage', async () => {
    const url = newKeystoreUrl();
    const writer = await keystore({ url });
    const reader = await keystore({ url });
    const seen: { here: Change[]; there: Change[] } = { here: [], there: [] };
    await writer.changes.subscribe((change) => seen.here.push(change));
    await reader.changes.subscribe((change) => seen.there.push(change));
    const { purchase: made } = await writer.provisionPurchase(purchase());
    await vi.waitFor(() => expect([seen.here, seen.there]).toEqual([[[made.keyId]], [[made.keyId]]]));
    await writer.recordUsage([{ keyId: made.keyId!, hour: 1, requests: 1, refused: 0 }], () => {});
    await writer.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_1', email: null },
      subscription: subscription({ status: 'past_due', fetchedAt: 9000 }),
      actor: 't',
    });
    await writer.revokeKey({ id: made.keyId!, reason: 'operator', actor: 't' });
    await vi.waitFor(() =>
      expect(seen.there.flat()).toEqual([made.keyId, made.keyId, made.keyId].slice(0, seen.there.length)),
    );
    await vi.waitFor(() => expect(seen.there.length).toBeGreaterThanOrEqual(2));
  });

  it('goes on after a listener that throws', async () => {
    const store = await keystore();
    const seen: Change[] = [];
    await store.changes.subscribe(() => {
      throw new Error('a bug of somebody');
    });
    await store.changes.subscribe((change) => seen.push(change));
    const made = await store.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'p',
      name: null,
      expiresAt: null,
      actor: 't',
    });
    await vi.waitFor(() => expect(seen).toEqual([[made.id]]));
  });

  it('says "everything" to one that slept through a pruning', async () => {
    let time = 1_000_000;
    const url = newKeystoreUrl();
    const writer = await keystore({ url, now: () => time });
    const reader = await keystore({ url, pollMs: 3_600_000 });
    const seen: Change[] = [];
    await reader.changes.subscribe((change) => seen.push(change));
    const create = () =>
      writer.createKey({ mode: 'test', prefix: 'tg', planId: 'p', name: null, expiresAt: null, actor: 't' });
    await create();
    await create();
    time += 3_600_001;
    await create();
    await writer.sweep();
    reader.changes.wake();
    await vi.waitFor(() => expect(seen).toEqual(['everything']));
  });
});

describe('usage ledger', () => {
  it('adds up over processes and tells each the total', async () => {
    const url = newKeystoreUrl();
    const [a, b] = [await keystore({ url }), await keystore({ url })];
    const totals: number[] = [];
    const rows = Array.from({ length: 250 }, (_, i) => ({
      keyId: `key${i}`,
      hour: 7,
      requests: 2,
      refused: 1,
    }));
    await a.recordUsage(rows, (_row, total) => totals.push(total));
    await b.recordUsage(rows, (_row, total) => totals.push(total));
    expect(totals).toHaveLength(500);
    expect(totals.slice(0, 250).every((total) => total === 2)).toBe(true);
    expect(totals.slice(250).every((total) => total === 4)).toBe(true);
  });

  it('counts a calendar month and no more', async () => {
    const time = Date.UTC(2026, 10, 30, 23, 59);
    const url = newKeystoreUrl();
    const november = await keystore({ url, now: () => time });
    const key = await november.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'p',
      name: null,
      expiresAt: null,
      actor: 't',
    });
    const hour = Math.floor(time / 3_600_000);
    await november.recordUsage(
      [
        { keyId: key.id, hour, requests: 5, refused: 0 },
        { keyId: key.id, hour: hour - 24 * 30, requests: 100, refused: 0 },
      ],
      () => {},
    );
    expect((await november.findKeyFacts(key.id))?.usedThisMonth).toBe(5);
    const december = await keystore({ url, now: () => time + 60_000 });
    expect((await december.findKeyFacts(key.id))?.usedThisMonth).toBe(0);
  });
});

describe('a lock held by another process', () => {
  it('is waited for without holding up this one, and given up on after a while', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    const other = new Database(sqlitePath(url));
    other.exec('begin immediate');
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 5);
    const waiting = store.checkWritable();
    await vi.waitFor(() => expect(ticks).toBeGreaterThan(20));
    other.exec('commit');
    await waiting;
    clearInterval(ticking);
    other.close();
  });

  it('held for longer than anybody holds it, it is an error of the keystore, and nothing is half done', async () => {
    const url = newKeystoreUrl();
    const store = await keystore({ url });
    const other = new Database(sqlitePath(url));
    other.exec('begin immediate');
    await expect(store.provisionPurchase(purchase())).rejects.toMatchObject({
      name: 'KeystoreError',
      code: 'SQLITE_BUSY',
    });
    other.exec('rollback');
    other.close();
    expect(await store.findPurchase(SESSION)).toBeUndefined();
    expect((await store.provisionPurchase(purchase())).outcome).toBe('provisioned');
  });
});
