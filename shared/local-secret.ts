import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A secret of a local run: read from its file in the data folder, or made and kept there (mode 0600) when there is none. Two
 * processes that start at once end up with the same one.
 *
 * @param name the file's name
 * @param make makes a new one
 * @throws Error when the file can be read by others, or the folder cannot be written
 */
export function localSecret(
  dataDir: string,
  name: string,
  make: () => string,
): { secret: string; file: string } {
  const file = join(dataDir, name);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  try {
    return { secret: readSecret(file), file };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    writeFileSync(draft, `${make().trim()}\n`, { mode: 0o600, flag: 'wx', flush: true });
    // A link appears whole or not at all, and never replaces a secret that another process made first.
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return { secret: readSecret(file), file };
}

function readSecret(file: string): string {
  const secret = readFileSync(file, 'utf8').trim();
  if ((statSync(file).mode & 0o077) !== 0)
    throw new Error(`${file} holds a secret but other users can read it. Run: chmod 600 ${file}`);
  if (Buffer.byteLength(secret) < 32) throw new Error(`${file} should hold a secret but is too short.`);
  return secret;
}
