import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * The server secret of a local run: read from the data folder, or made there (48 random bytes, base64, mode 0600) when
 * there is none. Two processes that start at once end up with the same one.
 *
 * @throws Error when the file can be read by others, or the folder cannot be written
 */
export function generateServerSecret(dataDir: string): { secret: string; file: string } {
  const file = join(dataDir, 'server-secret');
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    return { secret: readServerSecret(file), file };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  try {
    writeFileSync(draft, `${randomBytes(48).toString('base64')}\n`, { mode: 0o600, flag: 'wx', flush: true });
    // A link appears whole or not at all, and never replaces a secret that another process made first.
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return { secret: readServerSecret(file), file };
}

function readServerSecret(file: string): string {
  const secret = readFileSync(file, 'utf8').trim();
  if ((statSync(file).mode & 0o077) !== 0) {
    throw new Error(`${file} holds the server secret but other users can read it. Run: chmod 600 ${file}`);
  }
  if (Buffer.byteLength(secret) < 32)
    throw new Error(`${file} should hold the server secret but is too short.`);
  return secret;
}
