import { buy } from './buy.ts';
import type { Command } from './command.ts';
import { deactivate } from './deactivate.ts';
import { devices } from './devices.ts';
import { entitlements } from './entitlements.ts';
import { login } from './login.ts';
import { logout } from './logout.ts';
import { portal } from './portal.ts';
import { run } from './run.ts';
import { status } from './status.ts';
import { trial } from './trial.ts';
import { whoami } from './whoami.ts';

/** All commands by their name, in the order of the help. */
export const COMMANDS: ReadonlyMap<string, Command> = new Map(
  Object.entries({
    buy,
    status,
    run,
    entitlements,
    devices,
    deactivate,
    trial,
    login,
    logout,
    whoami,
    portal,
  }),
);
