import { homedir } from 'node:os';
import { isAbsolute, join, posix, win32 } from 'node:path';

/**
 * Where this user's programs keep what they know: `$XDG_CONFIG_HOME/tollgate` or `~/.config/tollgate`,
 * `~/Library/Application Support/tollgate` on macOS, `%APPDATA%\tollgate` on Windows.
 */
export function configFolder(
  platform: NodeJS.Platform = process.platform,
  env: Readonly<Record<string, string | undefined>> = process.env,
  home: string = homedir(),
): string {
  if (platform === 'win32') {
    return win32.join(env.APPDATA || win32.join(home, 'AppData', 'Roaming'), 'tollgate');
  }
  const { XDG_CONFIG_HOME: xdg = '' } = env;
  // The specification says to pass over one that is not absolute.
  if (posix.isAbsolute(xdg)) return posix.join(xdg, 'tollgate');
  if (platform === 'darwin') return posix.join(home, 'Library', 'Application Support', 'tollgate');
  return posix.join(home, '.config', 'tollgate');
}

/** The folder of one product of one server: two sellers may have chosen the same product id. */
export function productFolder(root: string, server: string, product: string): string {
  const { host, pathname } = new URL(server);
  const place = (host + pathname.replace(/\/+$/, '')).replace(/[^A-Za-z0-9.-]/g, '_');
  return join(root, `${product}@${place}`);
}

/** @throws TypeError when a folder that was given depends on where the program was started */
export function absolute(folder: string): string {
  if (!isAbsolute(folder)) throw new TypeError(`folder has to be an absolute path, and is "${folder}"`);
  return folder;
}
