import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { TollgateError } from './error.ts';

/** Nobody holds a lock for longer: what is done under it is one file read and written. */
const STALE_MS = 5000;
const LOCK_WAIT_MS = 15_000;
const LOCK_RETRY_MS = 25;

/**
 * A file of JSON.
 *
 * @returns `undefined` when there is none
 * @throws TollgateError `storage_corrupt`, `storage_unavailable`
 */
export async function readJson(path: string): Promise<unknown> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw unavailable(`${path} cannot be read`, error);
  }
  try {
    return JSON.parse(content);
  } catch {
    throw corrupt(path, 'it is not JSON');
  }
}

/** What to say of a file that cannot be understood. */
export function corrupt(path: string, why: string): TollgateError {
  return new TollgateError(
    'storage_corrupt',
    `${path} is damaged (${why}). It was left as it is.`,
    `Put a copy of it back, or set it aside (mv "${path}" "${path}.damaged") and log in again. Nothing in it was lost by this program.`,
  );
}

/**
 * Writes a file in one step: whoever reads it, at any moment and also after a crash, finds all of the old one or all of the
 * new one. Readable by its user only.
 *
 * @throws TollgateError `storage_unavailable`
 */
export async function writeJson(path: string, value: object): Promise<void> {
  const temporary = await writtenBeside(path, `${JSON.stringify(value, null, 2)}\n`);
  try {
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw unavailable(`${path} cannot be written`, error);
  }
  await syncFolder(dirname(path));
}

/**
 * A text file's content; one that is not there yet is written first. Of two that do so at once, one wins.
 *
 * @throws TollgateError `storage_unavailable`
 */
export async function readOrWrite(path: string, content: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw unavailable(`${path} cannot be read`, error);
  }
  const temporary = await writtenBeside(path, content);
  try {
    await link(temporary, path);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw unavailable(`${path} cannot be written`, error);
  } finally {
    await rm(temporary, { force: true });
  }
  return readOrWrite(path, content);
}

/** @throws TollgateError `storage_unavailable` */
export async function remove(path: string): Promise<void> {
  try {
    await rm(path, { force: true });
  } catch (error) {
    throw unavailable(`${path} cannot be removed`, error);
  }
}

/** Renames a file out of the way, keeping it. @param why becomes part of its name @throws TollgateError `storage_unavailable` */
export async function setAside(path: string, why: string): Promise<void> {
  try {
    await rename(path, `${path}.${why}-${new Date().toISOString().replace(/[:.]/g, '-')}`);
  } catch (error) {
    throw unavailable(`${path} cannot be renamed`, error);
  }
}

/**
 * Does work on a file while no other process does.
 *
 * @throws TollgateError `storage_unavailable` when another one holds the lock for very long
 */
export async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  const lock = `${path}.lock`;
  const owner = `${process.pid} ${hostname()} ${randomBytes(6).toString('hex')}\n`;
  await makeFolder(dirname(path));
  const until = performance.now() + LOCK_WAIT_MS;
  let seen = { owner: '', since: 0 };
  while (!(await taken(lock, owner))) {
    const other = await readFile(lock, 'utf8').catch(() => '');
    // Not by the file's age: clocks are wrong at times.
    if (other !== seen.owner) seen = { owner: other, since: performance.now() };
    if (other !== '' && (isDead(other) || performance.now() - seen.since > STALE_MS))
      await breakLock(lock, other);
    if (performance.now() > until) {
      throw new TollgateError(
        'storage_unavailable',
        `Another program holds ${lock}.`,
        'Wait until it has ended. If none runs, remove that file.',
      );
    }
    await pause(LOCK_RETRY_MS);
  }
  try {
    return await work();
  } finally {
    if ((await readFile(lock, 'utf8').catch(() => '')) === owner) await rm(lock, { force: true });
  }
}

/** The lock appears with its owner's name in it, so that nobody finds it without. */
async function taken(lock: string, owner: string): Promise<boolean> {
  const temporary = await writtenBeside(lock, owner);
  try {
    await link(temporary, lock);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw unavailable(`${lock} cannot be written`, error);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Takes away the lock of a process that died with it, or hangs. */
async function breakLock(lock: string, owner: string): Promise<void> {
  const aside = `${lock}.${randomBytes(6).toString('hex')}`;
  try {
    await rename(lock, aside);
    // Between the look and the renaming another process may have taken it: that one gets it back.
    if ((await readFile(aside, 'utf8')) !== owner) await link(aside, lock).catch(() => undefined);
    await rm(aside, { force: true });
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw unavailable(`${lock} cannot be taken away`, error);
  }
}

/** Whether a lock is of a process of this machine that is not there any more. */
function isDead(owner: string): boolean {
  const [pid = '', host = ''] = owner.split(' ');
  if (host !== hostname()) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return codeOf(error) === 'ESRCH';
  }
}

/** A new file beside another, written to the disk. Returns its path. */
async function writtenBeside(path: string, content: string): Promise<string> {
  const temporary = `${path}.${process.pid}.${randomBytes(6).toString('hex')}.tmp`;
  await makeFolder(dirname(path));
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw unavailable(`${path} cannot be written`, error);
  }
  return temporary;
}

/** A folder that is not there yet is made for its user only. */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw unavailable(`${path} cannot be made`, error);
  }
}

/** Without it, a power failure may bring the old name back. Not every system can do it. */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch {
    // The file itself is on the disk.
  }
}

function unavailable(what: string, error: unknown): TollgateError {
  return new TollgateError(
    'storage_unavailable',
    `${what} (${codeOf(error) ?? (error as Error).message}).`,
    'Make sure that the folder is yours and the disk has room, then try again.',
    { cause: error },
  );
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
