import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Config } from '../../shared/config.ts';
import { parseKey } from '../../shared/keys.ts';

/** A secret where it should not be: which, and in what (a file, or a commit). */
export type Leak = {
  /** `own`: one that this installation uses; `live`: of the form of one that opens something; `other`: a webhook's secret. */
  kind: 'own' | 'live' | 'other';
  what: string;
  where: string;
};

/** What was searched, and found. */
export type LeakSearch = {
  leaks: Leak[];
  /** Whether all of it was searched in the time there was. */
  complete: boolean;
};

/** There is a git repository, and git could not say what is in it. The message says why. */
export class GitUnreadableError extends Error {
  constructor(why: string) {
    super(why);
    this.name = 'GitUnreadableError';
  }
}

/**
 * Whoever runs this need not be who owns the repository, as git asks for: it is only read, and nothing that the repository's
 * own settings name is run for it.
 */
const READ_ONLY = ['-c', 'safe.directory=*', '-c', 'core.fsmonitor=false', '-c', 'log.showSignature=false'];

/** Larger files are data: nobody keeps a secret in them by mistake. */
const LARGEST_FILE = 2_000_000;
/** Longer lines are, too. */
const LONGEST_LINE = 100_000;
/** Shorter ones could stand in a text by chance. */
const SHORTEST_OWN = 12;

const FORMS: readonly { kind: Leak['kind']; what: string; pattern: RegExp }[] = [
  { kind: 'live', what: 'a live Stripe key', pattern: /[sr]k_live_[0-9A-Za-z]{20,}/ },
  { kind: 'other', what: "a webhook's signing secret", pattern: /whsec_[0-9A-Za-z]{32,}/ },
];

/** Finds secrets in text: those of this installation, and those whose form gives them away. */
export class SecretFinder {
  readonly #own: readonly (readonly [name: string, value: string])[];
  readonly #key: RegExp;

  constructor(config: Config) {
    const { stripe, serverSecret, licensingKeys, mail, keystoreUrl, redisUrl } = config;
    const values: [string, string | null | undefined][] = [
      ['TOLLGATE_SECRET', serverSecret],
      ['STRIPE_SECRET_KEY', stripe?.secretKey],
      ['STRIPE_WEBHOOK_SECRET', stripe?.webhookSecret],
      // Of a key in PEM, a line in the middle.
      ['LICENSING_KEYS', licensingKeys?.split(/\n|\\n/)[1]],
      ['the password in SMTP_URL', passwordIn(mail?.smtpUrl)],
      ['the password in KEYSTORE_URL', passwordIn(keystoreUrl)],
      ['the password in REDIS_URL', passwordIn(redisUrl)],
    ];
    this.#own = values.flatMap(([name, value]) =>
      value && value.length >= SHORTEST_OWN ? [[name, value] as const] : [],
    );
    this.#key = new RegExp(`${config.keyPrefix}_live_[0-9A-Za-z]{50}`);
  }

  /** Each kind of secret in it once. */
  in(text: string, where: string): Leak[] {
    const leaks: Leak[] = [];
    for (const [name, value] of this.#own) {
      if (text.includes(value)) leaks.push({ kind: 'own', what: name, where });
    }
    for (const { kind, what, pattern } of FORMS) {
      const [found] = pattern.exec(text) ?? [];
      // One of our own was named already.
      if (found && !this.#own.some(([, value]) => found.startsWith(value))) leaks.push({ kind, what, where });
    }
    const [key] = this.#key.exec(text) ?? [];
    if (key && parseKey(key)) leaks.push({ kind: 'live', what: 'an API key of a customer', where });
    return leaks;
  }
}

/**
 * Searches the files that git tracks, as they are now.
 *
 * @param deadline milliseconds as `performance.now()` has them
 * @returns `null` where there is no git repository
 * @throws GitUnreadableError where there is one that git cannot read, or no git
 */
export async function searchTrackedFiles(
  folder: string,
  finder: SecretFinder,
  deadline: number,
): Promise<LeakSearch | null> {
  if (!isInRepository(folder)) return null;
  const listed = await output(folder, ['ls-files', '-z'], deadline);
  if (listed === null) return { leaks: [], complete: false };
  const leaks: Leak[] = [];
  for (const path of listed.split('\0').filter(Boolean)) {
    if (performance.now() > deadline) return { leaks, complete: false };
    leaks.push(...finder.in(await contentOf(join(folder, path)), path));
  }
  return { leaks, complete: true };
}

/** Searches what was ever added in a commit of any branch, newest first. As {@link searchTrackedFiles}. */
export async function searchHistory(
  folder: string,
  finder: SecretFinder,
  deadline: number,
): Promise<LeakSearch> {
  const child = git(folder, [
    'log',
    '--all',
    '-p',
    '-U0',
    '--no-color',
    '--no-ext-diff',
    '--no-textconv',
    '--format=commit %h',
  ]);
  const ended = once(child, 'close').then(
    ([code]) => code as number | null,
    () => null,
  );
  const timer = setTimeout(() => child.kill(), Math.max(0, deadline - performance.now()));
  child.stderr.resume();
  const leaks: Leak[] = [];
  let commit = '';
  let inTime = true;
  for await (const line of createInterface({ input: child.stdout })) {
    inTime = performance.now() < deadline;
    if (!inTime) {
      child.kill();
      break;
    }
    if (line.startsWith('commit ')) commit = line;
    else if (line.startsWith('+') && line.length < LONGEST_LINE) leaks.push(...finder.in(line, commit));
  }
  const code = await ended;
  clearTimeout(timer);
  return { leaks, complete: inTime && code === 0 };
}

/** Whether git would find a repository there, if it is there itself. */
function isInRepository(folder: string): boolean {
  const from = resolve(folder);
  return existsSync(join(from, '.git')) || (dirname(from) !== from && isInRepository(dirname(from)));
}

function git(folder: string, args: string[]) {
  return spawn('git', ['-C', folder, ...READ_ONLY, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', GIT_NO_LAZY_FETCH: '1' },
  });
}

/** What git prints; `null` when it takes too long. @throws GitUnreadableError when it fails, or is not there */
async function output(folder: string, args: string[], deadline: number): Promise<string | null> {
  const child = git(folder, args);
  const timer = setTimeout(() => child.kill(), Math.max(0, deadline - performance.now()));
  let text = '';
  let complaint = '';
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    complaint += chunk;
  });
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (child.killed || performance.now() > deadline) return null;
    if (code === 0) return text;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new GitUnreadableError(code === 'ENOENT' ? 'There is no git on this machine.' : message);
  } finally {
    clearTimeout(timer);
  }
  throw new GitUnreadableError(complaint.split('\n')[0] || 'git failed without a word.');
}

/** What is in a file; nothing in a link, a large one, and one that is not there any more. */
async function contentOf(path: string): Promise<string> {
  try {
    const stat = await lstat(path);
    return stat.isFile() && stat.size <= LARGEST_FILE ? await readFile(path, 'latin1') : '';
  } catch {
    return '';
  }
}

function passwordIn(url: string | null | undefined): string | null {
  if (!url || !URL.canParse(url)) return null;
  return decodeURIComponent(new URL(url).password);
}
