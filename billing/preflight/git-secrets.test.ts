import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { loadConfig } from '../../shared/config.ts';
import { mintKey } from '../../shared/keys.ts';
import { newSqliteUrl, temporaryFolder } from '../../test/keystores.ts';
import type { PreflightContext } from './check.ts';
import { type Leak, SecretFinder, searchHistory, searchTrackedFiles } from './git-secrets.ts';
import { secrets } from './secrets.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

const PASSWORD = 'correct%20horse%20battery';
const config = loadConfig(
  {
    KEYSTORE_URL: newSqliteUrl(),
    PLANS_FILE: 'plans.yaml',
    REDIS_URL: `redis://:${PASSWORD}@127.0.0.1:6379`,
    SMTP_URL: 'smtp://me:short@127.0.0.1',
    MAIL_FROM: 'api@example.com',
  },
  'tool',
);
const finder = new SecretFinder(config);
const later = () => performance.now() + 60_000;
const kinds = (leaks: readonly Leak[]) => leaks.map(({ kind, what }) => `${kind}: ${what}`);
const random = 'a1B2c3D4'.repeat(4);

it.each([
  [
    'nothing',
    'sk_live_..., sk_test_51abcdefabcdefabcdefabcdef, whsec_..., tg_live_..., rk_live_1234567890',
    [],
  ],
  ['a live key of Stripe', `KEY="sk_live_51${random}"`, ['live: a live Stripe key']],
  ['a restricted one', `rk_live_${random}`, ['live: a live Stripe key']],
  ["a webhook's", `whsec_${random}`, ["other: a webhook's signing secret"]],
  ['the password of Redis', 'redis-cli -a "correct horse battery"', ['own: the password in REDIS_URL']],
  ['a password that could stand there by chance', 'in short', []],
  ['ours', `${config.serverSecret}\n`, ['own: TOLLGATE_SECRET']],
  ['a key of a customer', mintKey('tg', 'live').plaintext, ['live: an API key of a customer']],
  ['one for trying things out', mintKey('tg', 'test').plaintext, []],
  ['what only looks like a key', `tg_live_${'x'.repeat(50)}`, []],
])('in %s', (_what, text, expected) => {
  expect(kinds(finder.in(text, 'here'))).toEqual(expected);
});

function repository(): { folder: string; git(...args: string[]): void } {
  const folder = temporaryFolder();
  const identity = ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com'];
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', folder, ...identity, ...args], { stdio: 'ignore' });
  git('init');
  return { folder, git };
}

it('searches what is tracked, and nothing else', async () => {
  const { folder, git } = repository();
  writeFileSync(join(folder, '.gitignore'), '.env\n');
  writeFileSync(join(folder, '.env'), config.serverSecret);
  writeFileSync(join(folder, 'data.bin'), `\0\xff${config.serverSecret}\0`, 'latin1');
  writeFileSync(join(folder, 'gone'), config.serverSecret);
  symlinkSync('/dev/zero', join(folder, 'endless'));
  git('add', '.');
  writeFileSync(join(folder, 'gone'), '');
  expect(await searchTrackedFiles(folder, finder, later())).toEqual({
    leaks: [{ kind: 'own', what: 'TOLLGATE_SECRET', where: 'data.bin' }],
    complete: true,
  });
});

it('finds in the history of any branch what was taken out again', async () => {
  const { folder, git } = repository();
  git('checkout', '-b', 'attempt');
  for (const text of [config.serverSecret, 'nothing']) {
    writeFileSync(join(folder, 'settings'), text);
    git('add', '.');
    git('commit', '-m', 'Settings');
  }
  git('checkout', '--orphan', 'main');
  const { leaks, complete } = await searchHistory(folder, finder, later());
  expect(complete).toBe(true);
  expect(leaks).toEqual([
    { kind: 'own', what: 'TOLLGATE_SECRET', where: expect.stringMatching(/^commit [0-9a-f]{7,}$/) },
  ]);
});

it('when the time is up, says that it did not get through', async () => {
  const { folder, git } = repository();
  writeFileSync(join(folder, 'settings'), config.serverSecret);
  git('add', '.');
  git('commit', '-m', 'Settings');
  expect(await searchHistory(folder, finder, performance.now())).toEqual({ leaks: [], complete: false });
});

it('of somebody else’s repository searches as much', async () => {
  const { folder, git } = repository();
  writeFileSync(join(folder, 'settings'), config.serverSecret);
  git('add', '.');
  git('commit', '-m', 'Settings');
  // As git tests it itself.
  vi.stubEnv('GIT_TEST_ASSUME_DIFFERENT_OWNER', '1');
  const leak = { kind: 'own', what: 'TOLLGATE_SECRET', where: 'settings' };
  expect(await searchTrackedFiles(folder, finder, later())).toEqual({ leaks: [leak], complete: true });
  expect(await searchHistory(folder, finder, later())).toMatchObject({
    leaks: [{ kind: 'own' }],
    complete: true,
  });
});

it('runs nothing that the settings of a repository name', async () => {
  const { folder, git } = repository();
  writeFileSync(join(folder, 'settings'), 'nothing');
  git('add', '.');
  git('commit', '-m', 'Settings');
  const ran = join(folder, 'ran');
  for (const name of ['core.fsmonitor', 'diff.external', 'gpg.program', 'core.pager'])
    git('config', name, `touch ${ran}; false`);
  git('config', 'log.showSignature', 'true');
  expect(await searchTrackedFiles(folder, finder, later())).toEqual({ leaks: [], complete: true });
  expect(await searchHistory(folder, finder, later())).toEqual({ leaks: [], complete: true });
  expect(existsSync(ran)).toBe(false);
});

it('a repository that git cannot read, or without git, is not taken for none', async () => {
  const { folder } = repository();
  mkdirSync(join(folder, 'below'));
  writeFileSync(join(folder, '.git', 'config'), '[core');
  await expect(searchTrackedFiles(join(folder, 'below'), finder, later())).rejects.toThrow(
    /^fatal: .*config/,
  );
  expect(await secrets.run({ folder, config } as PreflightContext)).toMatchObject({
    verdict: 'stop',
    detail: expect.stringContaining('could not be searched for secrets: fatal: '),
  });
  expect(await searchTrackedFiles(folder, finder, performance.now())).toEqual({ leaks: [], complete: false });
  vi.stubEnv('PATH', '/nowhere');
  await expect(searchTrackedFiles(folder, finder, later())).rejects.toThrow(
    'There is no git on this machine.',
  );
});

it('without a repository there is nothing to search; an empty one has nothing', async () => {
  expect(await searchTrackedFiles(temporaryFolder(), finder, later())).toBeNull();
  expect(await searchTrackedFiles(join(temporaryFolder(), 'nowhere'), finder, later())).toBeNull();
  const { folder } = repository();
  expect(await searchTrackedFiles(folder, finder, later())).toEqual({ leaks: [], complete: true });
  expect(await searchHistory(folder, finder, later())).toEqual({ leaks: [], complete: true });
});
