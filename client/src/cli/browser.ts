import { spawn } from 'node:child_process';

type Env = Readonly<Record<string, string | undefined>>;

/** Opens a page in the user's browser. Returns whether there was one to ask. @param url http or https */
export async function openBrowser(
  url: string,
  platform = process.platform,
  env: Env = process.env,
): Promise<boolean> {
  const opener = openerFor(platform, env);
  if (opener === null) return false;
  const [command = '', ...args] = opener;
  return new Promise((resolve) => {
    const child = spawn(command, [...args, url], { stdio: 'ignore', detached: true });
    child.once('error', () => resolve(false));
    child.once('spawn', () => {
      child.unref();
      resolve(true);
    });
  });
}

/** The program that opens pages, with its arguments; `null`: nobody looks at a screen here. */
export function openerFor(platform: NodeJS.Platform, env: Env): string[] | null {
  if (env.BROWSER) return [env.BROWSER];
  if (platform === 'darwin') return ['/usr/bin/open'];
  // Not `start`: the command interpreter would read the address.
  if (platform === 'win32') return ['rundll32', 'url.dll,FileProtocolHandler'];
  return env.DISPLAY || env.WAYLAND_DISPLAY ? ['xdg-open'] : null;
}
