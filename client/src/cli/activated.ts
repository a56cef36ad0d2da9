import { TollgateError } from '../error.ts';
import { readDevices } from '../licensing.ts';
import type { Tollgate } from '../tollgate.ts';
import { devicesTable } from './devices.ts';
import { EXIT, exitCodeOf } from './exit-codes.ts';
import { printable, type Terminal } from './terminal.ts';

/** Activates this device for a key that is written down, and says what came of it. Returns the exit code. */
export async function activated(tollgate: Tollgate, terminal: Terminal): Promise<number> {
  try {
    const { detail } = await tollgate.activate();
    const { name } = await tollgate.device();
    terminal.done(`${printable(detail)} (${printable(name)})`);
    return EXIT.fine;
  } catch (error) {
    if (!(error instanceof TollgateError)) throw error;
    if (error.code === 'no_licence') {
      terminal.done(
        'The plan is for an API and has no licences for devices: send the key with your requests.',
      );
      return EXIT.fine;
    }
    if (error.code === 'device_limit') return full(error, tollgate, terminal);
    const again = 'The key is kept. Activate this device later: tollgate entitlements refresh';
    terminal.problem(
      printable(error.message),
      [error.remedy, again].filter(Boolean).join('\n  '),
      error.code,
    );
    return exitCodeOf(error);
  }
}

async function full(error: TollgateError, tollgate: Tollgate, terminal: Terminal): Promise<number> {
  terminal.problem(
    printable(error.message),
    'Release one of these (tollgate deactivate <device>), then: tollgate entitlements refresh',
    error.code,
  );
  try {
    const { id } = await tollgate.device();
    devicesTable(
      readDevices(error.extensions).map((each) => ({ ...each, isThis: each.id === id })),
      terminal,
    );
  } catch {
    // A server that does not say which: `tollgate devices` does.
  }
  return EXIT.notEntitled;
}
