import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, it } from 'vitest';
import { sqlitePath } from '../shared/keystore-url.ts';
import {
  closeKeystores,
  event,
  keystore,
  purchase,
  SESSION,
  subscription,
} from '../test/keystore-fixtures.ts';
import { newKeystoreUrl, newSqliteUrl, SERVER_SECRET, temporaryFolder } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
import {
  backupKeystore,
  type CopyProgress,
  copyKeystore,
  type Keystore,
  restoreKeystore,
} from './keystore.ts';

afterEach(closeKeystores);

const NEW_KEY = { mode: 'test', prefix: 'tg', planId: 'p', name: null, expiresAt: null, actor: 't' } as const;

/** A checkout that a program opened. */
const BEGUN = `cs_test_${'Pp'.repeat(28)}`;

/** A keystore with something in every table, a key of it, and what a program has of a purchase it began. */
async function lived(url: string) {
  const store = await keystore({ url });
  await store.bindMode('test');
  await store.receiveEvent(event('evt_1', { payload: '{"note":"ünïcode \\u0000 ✓"}' }));
  const { purchase: made } = await store.provisionPurchase(purchase());
  const claim = await store.claimReveal({ sessionId: SESSION, actor: 't' });
  if (claim.outcome !== 'claimed') throw new Error(claim.outcome);
  await store.provisionPurchase(
    purchase({ sessionId: `cs_test_${'Zz'.repeat(28)}`, subscription: subscription({ id: 'sub_2' }) }),
  );
  const keyId = made.keyId as string;
  const program = store.namePurchase(null);
  const begun = { ...program, sessionId: BEGUN, mode: 'test', planId: 'pro', priceId: 'price_pro' } as const;
  await store.recordPurchase(begun);
  await store.createRecovery(keyId);
  await store.suspendKey({ id: keyId, note: 'for now', actor: 't' });
  const limits = [{ name: 'minute', requests: 9, seconds: 60 }];
  await store.overrideLimits({ id: keyId, override: { limits, quota: 9 }, actor: 't' });
  await store.syncPayment({
    mode: 'test',
    payment: {
      chargeId: 'ch_1',
      paymentIntentId: null,
      subscriptionId: 'sub_9',
      refundedAt: null,
      paidUntil: null,
      dispute: 'inquiry',
      disputedSince: 5,
      fetchedAt: 5,
    },
    rulesOf: () => ({}),
    actor: 't',
  });
  await store.syncIncome({
    mode: 'test',
    income: {
      id: 'in_1',
      subscriptionId: 'sub_9',
      stripeCustomerId: null,
      currency: 'usd',
      paidAt: 5,
      parts: [{ priceId: 'price_pro', planId: 'pro', amount: 1900, givenBack: 5 }],
      fetchedAt: 5,
    },
  });
  await store.recordUsage(
    Array.from({ length: 1200 }, (_, i) => ({
      keyId: `key${Math.floor(i / 2)}`,
      hour: i % 2,
      requests: i,
      refused: 1,
    })),
    () => {},
  );
  const trial = await store.beginTrial({
    mode: 'test',
    planId: 'p',
    keyPrefix: 'tg',
    device: { id: 'device-one', name: 'Ünïcode' },
    places: { devices: 1, freeAfterMs: null },
    trialMs: 86_400_000,
    actor: 't',
  });
  if (trial === 'already_used') throw new Error(trial);
  await store.noteLicenceAttempt({
    keyId,
    action: 'validate',
    deviceId: null,
    outcome: 'ok',
    address: null,
  });
  const user = { name: 'ada', password: 'correct horse battery' };
  await store.createConsoleUser({ ...user, actor: 't' });
  const { passwordHash = '' } = (await store.checkConsolePassword(user)) ?? {};
  const signIn = { name: 'ada', passwordHash, code: '', instead: undefined };
  await store.startConsoleSession({ ...signIn, actor: 'console:ada', address: '::1' });
  await store.recordRefusals([
    {
      at: Date.now(),
      requestId: 'request-1',
      keyId,
      code: 'rate_limited',
      detail: null,
      method: 'GET',
      host: 'h',
      path: '/',
      route: null,
      address: '::1',
    },
  ]);
  await store.recordTraffic([{ hour: 400_000, what: 'requests', name: 'forwarded 2xx', count: 3 }]);
  await store.createKeys({ keys: Array(4).fill(NEW_KEY), actor: 't' });
  return { store, keyId, plaintext: claim.plaintext, program };
}

const allKeys = async (store: Keystore) => (await store.listKeys({ limit: 100 })).map(({ id }) => id).sort();

describe('a copy', () => {
  it('is equal in every row: keys work, waiting seals open, usage goes on; and numbers go on counting', async () => {
    const [from, to] = [newSqliteUrl(), newKeystoreUrl()];
    const { store, keyId, plaintext, program } = await lived(from);
    const seen: CopyProgress[] = [];
    const copied = await copyKeystore(from, to, (progress) => seen.push(progress));
    expect(copied.written).toBe(copied.rows);
    expect(copied.tables.every(({ rows }) => rows > 0)).toBe(true);
    expect(
      seen.filter(({ phase, table }) => phase === 'verifying' && table === 'usage').at(-1),
    ).toMatchObject({ done: 1200, total: 1200 });
    const there = await keystore({ url: to });
    expect((await there.authenticateKey(plaintext))?.id).toBe(keyId);
    expect(await allKeys(there)).toEqual(await allKeys(store));
    expect((await there.claimReveal({ sessionId: `cs_test_${'Zz'.repeat(28)}`, actor: 't' })).outcome).toBe(
      'claimed',
    );
    expect(await there.findRevealForProgram(program)).toMatchObject({ sessionId: BEGUN });
    expect(await there.mode()).toBe('test');
    const history = await there.keyHistory(keyId);
    await there.revokeKey({ id: keyId, reason: 'operator', actor: 't' });
    expect(await there.keyHistory(keyId)).toHaveLength(history.length + 1);
    await there.noteLicenceAttempt({
      keyId,
      action: 'refresh',
      deviceId: null,
      outcome: 'ok',
      address: null,
    });
    const attempts = await there.listLicenceAttempts({ keyId, limit: 5 });
    expect(attempts.map(({ action }) => action)).toEqual(['refresh', 'validate']);
    const refusals = await there.listRefusals({ keyId, limit: 5 });
    await there.recordRefusals(refusals.map((refusal) => ({ ...refusal, requestId: 'request-2' })));
    expect((await there.listRefusals({ keyId, limit: 5 })).map(({ requestId }) => requestId)).toEqual([
      'request-2',
      'request-1',
    ]);
  });

  it('goes on where it was, and takes over what changed since, also what is gone', async () => {
    const [from, to] = [newSqliteUrl(), newKeystoreUrl()];
    const { store, keyId } = await lived(from);
    const broken = copyKeystore(from, to, ({ phase, table }) => {
      if (phase === 'copying' && table === 'usage') throw new Error('the power went');
    });
    await expect(broken).rejects.toThrow('the power went');
    const rest = await copyKeystore(from, to);
    expect(rest.written).toBeGreaterThan(0);
    expect(rest.written).toBeLessThan(rest.rows);
    expect((await copyKeystore(from, to)).written).toBe(0);
    await store.revokeKey({ id: keyId, reason: 'operator', actor: 't' });
    await store.recordUsage([{ keyId, hour: 7, requests: 3, refused: 0 }], () => {});
    await rawQuery(from, "delete from events where id = 'evt_1'");
    // The key, its audit entry, its usage, and the write of its seal, which is gone already.
    expect((await copyKeystore(from, to)).written).toBe(3);
    const there = await keystore({ url: to });
    expect((await there.findKeyFacts(keyId))?.revokedAt).not.toBeNull();
    expect(await there.findEvent('evt_1')).toBeUndefined();
  });

  it('is of one moment, while others write', async () => {
    const [from, to] = [newSqliteUrl(), newKeystoreUrl()];
    await lived(from);
    const other = new Database(sqlitePath(from));
    const copied = await copyKeystore(from, to, ({ phase, table }) => {
      if (phase === 'copying' && table === 'customers') other.exec("update keys set name = 'late'");
    });
    other.close();
    expect(copied.rows).toBe(copied.written);
    const names = async () => new Set((await rawQuery(to, 'select name from keys')).map(({ name }) => name));
    expect(await names()).toEqual(new Set([null, 'Trial']));
    expect((await copyKeystore(from, to)).written).toBe(7);
    expect(await names()).toEqual(new Set(['late']));
  });

  it.each([
    ['a key was made', async (there: Keystore) => void (await there.createKey(NEW_KEY))],
    [
      'usage was counted',
      (there: Keystore) => there.recordUsage([{ keyId: 'key1', hour: 1, requests: 1, refused: 0 }], () => {}),
    ],
    [
      'a key was revoked',
      async (there: Keystore) => {
        const [key] = await there.listKeys({ limit: 1 });
        await there.revokeKey({ id: key!.id, reason: 'operator', actor: 't' });
      },
    ],
  ])('never overwrites a keystore that has been in use: %s', async (_what, use) => {
    const [from, to] = [newSqliteUrl(), newKeystoreUrl()];
    await lived(from);
    await copyKeystore(from, to);
    const there = await keystore({ url: to });
    await use(there);
    const before = await allKeys(there);
    await expect(copyKeystore(from, to)).rejects.toMatchObject({ code: 'TARGET_IN_USE' });
    expect(await allKeys(there)).toEqual(before);
  });

  it('comes back the same way', async () => {
    const [from, there, back] = [newSqliteUrl(), newKeystoreUrl(), newSqliteUrl()];
    const { keyId, plaintext } = await lived(from);
    const out = await copyKeystore(from, there);
    const home = await copyKeystore(there, back);
    expect(home.tables).toEqual(out.tables);
    expect((await (await keystore({ url: back })).authenticateKey(plaintext))?.id).toBe(keyId);
  });
});

describe('a backup', () => {
  it('is made of a keystore in use, is its owner’s only, and comes back; what was revoked since stays so', async () => {
    const url = newSqliteUrl();
    const { store, keyId, plaintext, program } = await lived(url);
    const begun = { sessionId: BEGUN, buyer: { stripeCustomerId: 'cus_2', email: null } };
    const { purchase: waiting } = await store.provisionPurchase(
      purchase({ ...begun, subscription: subscription({ id: 'sub_3' }) }),
    );
    const file = join(temporaryFolder(), 'backup.sqlite');
    await backupKeystore(url, file);
    expect(statSync(file).mode & 0o077).toBe(0);
    expect(readdirSync(dirname(file))).toEqual(['backup.sqlite']);
    await expect(backupKeystore(url, file)).rejects.toMatchObject({ code: 'FILE_EXISTS' });

    await store.createKey(NEW_KEY);
    for (const id of [keyId, waiting.keyId!]) await store.revokeKey({ id, reason: 'operator', actor: 't' });
    await expect(restoreKeystore(file, url, SERVER_SECRET)).rejects.toMatchObject({ code: 'IN_USE' });
    expect(await allKeys(store)).toHaveLength(9);
    await closeKeystores();

    const restored = await restoreKeystore(file, url, SERVER_SECRET);
    expect(restored).toMatchObject({ stillRevoked: 2, movedTo: expect.stringContaining('before-restore') });
    const again = await keystore({ url });
    expect(await allKeys(again)).toHaveLength(8);
    expect(await again.findRevealForProgram(program)).toMatchObject({
      sessionId: null,
      reveal: { state: 'revoked' },
    });
    expect((await again.authenticateKey(plaintext))?.revokedAt).not.toBeNull();
    const kept = await keystore({ url: `sqlite:${restored.movedTo}` });
    expect(await allKeys(kept)).toHaveLength(9);
  });

  it('of whatever kind of keystore can be restored to an empty one', async () => {
    const [url, empty] = [newKeystoreUrl(), newKeystoreUrl()];
    const { plaintext, keyId } = await lived(url);
    const file = join(temporaryFolder(), 'backup.sqlite');
    await backupKeystore(url, file);
    await restoreKeystore(file, empty, SERVER_SECRET);
    expect((await (await keystore({ url: empty })).authenticateKey(plaintext))?.id).toBe(keyId);
  });

  it('that is damaged, or belongs to another server secret, is refused and changes nothing', async () => {
    const url = newSqliteUrl();
    await lived(url);
    const file = join(temporaryFolder(), 'backup.sqlite');
    await backupKeystore(url, file);
    await closeKeystores();
    const damaged = join(temporaryFolder(), 'damaged.sqlite');
    writeFileSync(damaged, 'not a database at all, but long enough for a header'.repeat(100));
    await expect(restoreKeystore(damaged, url, SERVER_SECRET)).rejects.toMatchObject({ code: 'DAMAGED' });
    await expect(restoreKeystore(file, url, `${SERVER_SECRET}x`)).rejects.toMatchObject({
      code: 'WRONG_SECRET',
    });
    expect(existsSync(sqlitePath(url))).toBe(true);
    expect(await allKeys(await keystore({ url }))).toHaveLength(7);
  });
});
