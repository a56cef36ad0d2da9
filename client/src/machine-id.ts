import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Where Linux keeps it (machine-id(5)). */
const FILES = ['/etc/machine-id', '/var/lib/dbus/machine-id'];
/** Asked of a program; it answers at once or not at all. */
const TIMEOUT_MS = 3000;

/** How to ask the system. */
export type SystemSays = {
  platform: NodeJS.Platform;
  /** A file's text. @throws Error when there is none */
  file(path: string): string;
  /** What a program prints. @throws Error when there is none, or it fails */
  program(command: string, args: string[]): string;
};

const THIS_SYSTEM: SystemSays = {
  platform: process.platform,
  file: (path) => readFileSync(path, 'utf8'),
  program: (command, args) =>
    execFileSync(command, args, {
      encoding: 'utf8',
      timeout: TIMEOUT_MS,
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
};

/** The id that the system gave this machine when it was installed; `null`: none that tells it from others. */
export function machineId(system: SystemSays = THIS_SYSTEM): string | null {
  switch (system.platform) {
    case 'darwin':
      return said(
        () => system.program('/usr/sbin/ioreg', ['-rd1', '-c', 'IOPlatformExpertDevice']),
        /"IOPlatformUUID" = "([0-9A-Fa-f-]{36})"/,
      );
    case 'win32':
      return said(
        () =>
          system.program(`${process.env.SystemRoot ?? 'C:\\Windows'}\\System32\\reg.exe`, [
            'query',
            'HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Cryptography',
            '/v',
            'MachineGuid',
            '/reg:64',
          ]),
        /MachineGuid\s+REG_SZ\s+([0-9A-Fa-f-]{36})/,
      );
    default:
      for (const path of FILES) {
        const id = said(() => system.file(path), /^([0-9a-f]{32})\s*$/);
        if (id !== null) return id;
      }
      return null;
  }
}

/** What a system says of itself, when it says anything; of an image that was never set up, all zeros. */
function said(ask: () => string, form: RegExp): string | null {
  try {
    const [, id] = form.exec(ask()) ?? [];
    return id === undefined || /^[0-]+$/.test(id) ? null : id.toLowerCase();
  } catch {
    return null;
  }
}
