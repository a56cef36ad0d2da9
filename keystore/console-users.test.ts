import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { sqlitePath } from '../shared/keystore-url.ts';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl, newSqliteUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';

afterEach(closeKeystores);

const PASSWORD = 'correct horse battery';
const MINUTE = 60_000;

/** A keystore with the user `ada`, and a clock that the test moves. */
async function withAda(url = newKeystoreUrl()) {
  const clock = { now: Date.UTC(2026, 10, 29) };
  const store = await keystore({ url, now: () => clock.now });
  await store.createConsoleUser({ name: 'ada', password: PASSWORD, actor: 'operator:t' });
  const check = async (password: string, name = 'ada') => store.checkConsolePassword({ name, password });
  /** With a password that was right some time ago, when told by what. */
  const signIn = async (instead?: string, right?: { passwordHash: string } | null) => {
    const { passwordHash } = right ?? (await check(PASSWORD)) ?? { passwordHash: 'none' };
    const by = { name: 'ada', actor: 'console:ada', address: '192.0.2.1' };
    const started = await store.startConsoleSession({ ...by, passwordHash, code: '', instead });
    return typeof started === 'string' ? started : started.token;
  };
  return { store, clock, url, check, signIn };
}

describe('a user of the console', () => {
  it('has a password of which only an Argon2id hash at the cost OWASP names is kept', async () => {
    const { url, check } = await withAda();
    const [row] = await rawQuery(url, 'select password_hash from console_users');
    expect((row as { password_hash: string }).password_hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    expect(await check(PASSWORD)).not.toBeNull();
    expect(await check(`${PASSWORD}x`)).toBeNull();
    expect(await check('of nobody', 'eve')).toBeNull();
  });

  it('is made once', async () => {
    const { store, check } = await withAda();
    const again = { name: 'ada', password: 'another password', actor: 'operator:t' };
    expect(await store.createConsoleUser(again)).toBe('exists');
    expect(await check('another password')).toBeNull();
  });

  it('who is disabled is signed out at once and stays out; with the last of them the console is off', async () => {
    const { store, signIn, check } = await withAda();
    const token = await signIn();
    const right = await check(PASSWORD);
    expect(await store.hasConsoleUsers()).toBe(true);
    expect(await store.disableConsoleUser({ name: 'ada', actor: 'operator:t' })).toBe('disabled');
    expect(await store.findConsoleSession(token)).toBeUndefined();
    expect(await signIn(undefined, right)).toBe('no_longer');
    expect(await check(PASSWORD)).toBeNull();
    expect(await store.hasConsoleUsers()).toBe(false);
    expect(await store.disableConsoleUser({ name: 'ada', actor: 'operator:t' })).toBe('already_disabled');
    expect(await store.disableConsoleUser({ name: 'eve', actor: 'operator:t' })).toBe('not_found');
  });

  it('has another password when it was changed, and is signed out', async () => {
    const { store, url, signIn, check } = await withAda();
    const token = await signIn();
    const right = await check(PASSWORD);
    const other = { name: 'ada', password: 'another password' };
    expect(await store.changeConsolePassword({ ...other, actor: 'console:ada' })).toBe('changed');
    expect(await store.findConsoleSession(token)).toBeUndefined();
    // Nor is anybody let in whose password was looked at before.
    expect(await signIn(undefined, right)).toBe('no_longer');
    expect(await check(PASSWORD)).toBeNull();
    expect(await check('another password')).not.toBeNull();
    const [last] = await rawQuery(url, 'select actor, action, details from audit order by seq desc limit 1');
    expect(last).toEqual({
      actor: 'console:ada',
      action: 'console_user.password_changed',
      details: '{"user":"ada"}',
    });
    expect(await store.changeConsolePassword({ ...other, name: 'eve', actor: 'x' })).toBe('not_found');
    await store.disableConsoleUser({ name: 'ada', actor: 'operator:t' });
    expect(await store.changeConsolePassword({ ...other, actor: 'x' })).toBe('not_found');
  });

  it('what is done to users, and who signs in from where, is in the audit log', async () => {
    const { store, url, signIn } = await withAda();
    await signIn();
    await store.disableConsoleUser({ name: 'ada', actor: 'operator:t' });
    expect(await rawQuery(url, 'select actor, address, action, details from audit order by seq')).toEqual([
      { actor: 'operator:t', address: null, action: 'console_user.created', details: '{"user":"ada"}' },
      { actor: 'console:ada', address: '192.0.2.1', action: 'console.signed_in', details: null },
      { actor: 'operator:t', address: null, action: 'console_user.disabled', details: '{"user":"ada"}' },
    ]);
  });
});

describe('a session of the console', () => {
  it('is found by its token, which is nowhere on disk', async () => {
    const url = newSqliteUrl();
    const { store, signIn } = await withAda(url);
    const token = await signIn();
    expect(token).toMatch(/^[\w-]{43}$/);
    expect(await store.findConsoleSession(token)).toBe('ada');
    expect(await store.findConsoleSession(`${token.slice(0, -1)}!`)).toBeUndefined();
    for (const end of ['', '-wal'])
      expect(readFileSync(sqlitePath(url) + end).includes(token), end).toBe(false);
  });

  it('ends half an hour after it was last seen', async () => {
    const { store, clock, signIn } = await withAda();
    const token = await signIn();
    for (let i = 0; i < 5; i++) {
      clock.now += 25 * MINUTE;
      expect(await store.findConsoleSession(token)).toBe('ada');
    }
    clock.now += 30 * MINUTE;
    expect(await store.findConsoleSession(token)).toBeUndefined();
  });

  it('ends twelve hours after it began, however busy; the sweep forgets it', async () => {
    const { store, clock, signIn, url } = await withAda();
    const token = await signIn();
    for (let i = 0; i < 35; i++) {
      clock.now += 20 * MINUTE;
      expect(await store.findConsoleSession(token)).toBe('ada');
    }
    clock.now += 20 * MINUTE;
    expect(await store.findConsoleSession(token)).toBeUndefined();
    await store.sweep();
    expect(await rawQuery(url, 'select * from console_sessions')).toEqual([]);
  });

  it('is a new one at each sign-in, which ends the one before it in this browser', async () => {
    const { store, signIn } = await withAda();
    const [first, elsewhere] = [await signIn(), await signIn()];
    const second = await signIn(first);
    expect(new Set([first, second, elsewhere]).size).toBe(3);
    expect(await store.findConsoleSession(first)).toBeUndefined();
    expect(await store.findConsoleSession(second)).toBe('ada');
    await store.endConsoleSession(second);
    expect(await store.findConsoleSession(second)).toBeUndefined();
    expect(await store.findConsoleSession(elsewhere)).toBe('ada');
  });
});
