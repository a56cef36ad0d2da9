import fs, { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { dirname, join } from 'node:path';
import { TOTP } from 'otpauth';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sqlitePath } from '../shared/keystore-url.ts';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newSqliteUrl, SERVER_SECRET, temporaryFolder } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
import { backupKeystore, type Keystore, restoreKeystore } from './keystore.ts';

afterEach(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await closeKeystores();
});

const OLD = 'correct horse battery';
const NEW = 'another password';
const SECRET = 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP';

let url: string;
let store: Keystore;
beforeEach(async () => {
  url = newSqliteUrl();
  store = await keystore({ url });
});

const backedUp = async () => {
  const file = join(temporaryFolder(), 'backup.sqlite');
  await backupKeystore(url, file);
  return file;
};
const restore = async (file: string) => {
  await closeKeystores();
  return restoreKeystore(file, url, SERVER_SECRET);
};
const create = (name: string) => store.createConsoleUser({ name, password: OLD, actor: 't' });
async function signIn(there: Keystore, name: string, password: string, code = '') {
  const right = await there.checkConsolePassword({ name, password });
  if (right === null) return 'wrong_password';
  const { passwordHash } = right;
  return there.startConsoleSession({ name, passwordHash, code, instead: undefined, actor: 't' });
}
const codeInSteps = (steps: number) =>
  new TOTP({ secret: SECRET }).generate({ timestamp: Date.now() + steps * 30_000 });

describe('restored, the console lets in', () => {
  it('nobody who was disabled since the backup', async () => {
    for (const name of ['ada', 'bob', 'cleo']) await create(name);
    await store.disableConsoleUser({ name: 'cleo', actor: 't' });
    const file = await backedUp();
    await store.disableConsoleUser({ name: 'ada', actor: 't' });
    expect(await restore(file)).toMatchObject({ stillDisabled: ['ada'], usersAsBefore: 3 });
    const there = await keystore({ url });
    expect(await signIn(there, 'ada', OLD)).toBe('wrong_password');
    expect(await signIn(there, 'cleo', OLD)).toBe('wrong_password');
    expect(await signIn(there, 'bob', OLD)).toMatchObject({ token: expect.any(String) });
  });

  it('everybody else by the password and second factor of now, and who was made since', async () => {
    await create('ada');
    await create('bob');
    const file = await backedUp();
    await store.changeConsolePassword({ name: 'ada', password: NEW, actor: 't' });
    const code = codeInSteps(0);
    expect(await store.setUpSecondFactor({ name: 'bob', secret: SECRET, code, actor: 't' })).toBe('set_up');
    await create('cleo');
    await restore(file);
    const there = await keystore({ url });
    expect(await signIn(there, 'ada', OLD)).toBe('wrong_password');
    expect(await signIn(there, 'ada', NEW)).toMatchObject({ token: expect.any(String) });
    expect(await signIn(there, 'bob', OLD)).toBe('wrong_code');
    // One that was used up before stays so.
    expect(await signIn(there, 'bob', OLD, code)).toBe('wrong_code');
    expect(await signIn(there, 'bob', OLD, codeInSteps(1))).toMatchObject({ token: expect.any(String) });
    expect(await signIn(there, 'cleo', OLD)).toMatchObject({ token: expect.any(String) });
  });

  it('nobody by a session of the backup, also where there was no keystore', async () => {
    await create('ada');
    const session = (await signIn(store, 'ada', OLD)) as { token: string };
    const file = await backedUp();
    for (const to of [url, newSqliteUrl()]) {
      await closeKeystores();
      await restoreKeystore(file, to, SERVER_SECRET);
      expect(await (await keystore({ url: to })).findConsoleSession(session.token), to).toBeUndefined();
    }
  });

  it('nobody of a keystore of another secret', async () => {
    await create('ada');
    const file = await backedUp();
    const other = newSqliteUrl();
    const stranger = await keystore({ url: other, serverSecret: `${SERVER_SECRET}x` });
    await stranger.createConsoleUser({ name: 'mallory', password: OLD, actor: 't' });
    await closeKeystores();
    expect(await restoreKeystore(file, other, SERVER_SECRET)).toMatchObject({ usersAsBefore: 0 });
    const users = await (await keystore({ url: other })).listConsoleUsers();
    expect(users.map(({ name }) => name)).toEqual(['ada']);
  });

  it.each([
    [
      'without second factors',
      [
        'alter table console_users drop column totp_sealed',
        'alter table console_users drop column totp_step',
      ],
      ['ada'],
    ],
    ['without a console', ['drop table console_sessions', 'drop table console_users'], []],
  ])('as before, where the keystore was one of an older version %s', async (_what, older, disabled) => {
    await create('ada');
    const file = await backedUp();
    await store.disableConsoleUser({ name: 'ada', actor: 't' });
    await closeKeystores();
    for (const sql of older) await rawQuery(url, sql);
    expect(await restore(file)).toMatchObject({ stillDisabled: disabled });
  });
});

it('a keystore that cannot be read is left as it is, and what to do is said', async () => {
  const file = await backedUp();
  await closeKeystores();
  const path = sqlitePath(url);
  const damaged = 'Buy milk. '.repeat(500);
  writeFileSync(path, damaged);
  await expect(restore(file)).rejects.toMatchObject({
    code: 'DAMAGED',
    message: expect.stringMatching(/cannot be read: .* Move it away/),
  });
  expect(readFileSync(path, 'utf8')).toBe(damaged);
  expect(readdirSync(dirname(path)).filter((name) => name.includes('restor'))).toEqual([]);
});

it('what is left beside a keystore that was moved away is not taken for a part of the backup', async () => {
  const path = sqlitePath(url);
  const file = await backedUp();
  await store.createKey({
    mode: 'test',
    prefix: 'tg',
    planId: 'p',
    name: null,
    expiresAt: null,
    actor: 't',
  });
  // As a process that is killed leaves it.
  const left = readFileSync(`${path}-wal`);
  expect(left.length).toBeGreaterThan(0);
  await closeKeystores();
  renameSync(path, `${path}.elsewhere`);
  writeFileSync(`${path}-wal`, left);
  expect(await restore(file)).toMatchObject({ movedTo: null });
  expect(await rawQuery(url, 'select id from keys')).toEqual([]);
  expect(readFileSync(`${path}.before-restore-wal`)).toEqual(left);
});

it('restored again at once, each keystore that was there is kept', async () => {
  const file = await backedUp();
  const kept = [await restore(file), await restore(file), await restore(file)].map(({ movedTo }) => movedTo);
  expect(new Set(kept).size).toBe(3);
  for (const path of kept) expect(existsSync(path as string)).toBe(true);
});

it('a keystore of another user is not called damaged', async () => {
  const file = await backedUp();
  await closeKeystores();
  const path = sqlitePath(url);
  renameSync(path, `${path}.real`);
  mkdirSync(path);
  await expect(restore(file)).rejects.toMatchObject({
    code: 'SQLITE_CANTOPEN',
    message: expect.stringMatching(/cannot be opened: .* Run this as the user/),
  });
});

describe('killed at any moment, a restore leaves a keystore at its address', () => {
  const NEW_KEY = {
    mode: 'test',
    prefix: 'tg',
    planId: 'p',
    name: null,
    expiresAt: null,
    actor: 't',
  } as const;
  const keysAt = async (path: string) => (await rawQuery(`sqlite:${path}`, 'select id from keys')).length;

  it.each([
    ['with hard links', false],
    ['on a file system without them', true],
  ])('%s', async (_where, without) => {
    const file = await backedUp();
    await store.createKey(NEW_KEY);
    const path = sqlitePath(url);
    if (without) {
      vi.spyOn(fs, 'linkSync').mockImplementation(() => {
        throw Object.assign(new Error('no links here'), { code: 'EPERM' });
      });
    }
    const { renameSync: rename } = fs;
    const there: boolean[] = [];
    vi.spyOn(fs, 'renameSync').mockImplementation((from, to) => {
      there.push(existsSync(path));
      rename(from, to);
      there.push(existsSync(path));
    });
    syncBuiltinESMExports();
    const { movedTo } = await restore(file);
    expect(there).toEqual([true, true]);
    expect(await keysAt(path)).toBe(0);
    expect(await keysAt(movedTo as string)).toBe(1);
    expect(
      readdirSync(dirname(path)).filter((name) => /restoring|before-restore.*-(wal|shm)/.test(name)),
    ).toEqual([]);
  });
});
