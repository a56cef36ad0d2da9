import { closeSync, existsSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';

/** Takes variables from `./.env` where there is one; what the environment sets already stays. */
export function readEnvFile(): void {
  if (existsSync('.env')) process.loadEnvFile('.env');
}

/** What a started service hands back: a line for the terminal and the way to stop it. */
export type RunningService = {
  message: string;
  close(): Promise<void>;
  /** Takes in what changed outside: called on SIGHUP, which stops a service without it. */
  refresh?(): void;
  /** How long its own affairs may hold up a stop, milliseconds; 0 when omitted. */
  drainMs?: number;
};

/**
 * How long a stop may take beside that before the process leaves anyway, milliseconds. Longer than a gateway's last write may
 * wait for the keystore: `PENDING_LIMIT_MS` of `gateway/decision/usage-recorder.ts`.
 */
const STOP_LIMIT_MS = 15_000;

/** Stops a service and ends the process. What it has not finished when its time is up is cut off, and the exit code is 1. */
export async function endService(service: RunningService): Promise<void> {
  setTimeout(() => process.exit(1), STOP_LIMIT_MS + (service.drainMs ?? 0)).unref();
  await service.close();
  process.exit(0);
}

/**
 * Runs a service as a process: starts it, says so, refreshes it on SIGHUP, stops it cleanly on SIGINT or SIGTERM. A start that fails prints what
 * to do about it and exits with the error's `exitCode` (78 for configuration), else 1.
 */
export async function runService(start: () => Promise<RunningService>): Promise<void> {
  let service: RunningService | undefined;
  let asked = false;
  // Once the terminal is gone, nothing says any more that there was one.
  const onTerminal = isatty(0);
  // Asked during the start, it stops as soon as it has started; asked twice, at once.
  const onSignal = () => {
    if (asked) process.exit(1);
    asked = true;
    if (service) void endService(service);
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  process.on('SIGHUP', () => {
    if (onTerminal && terminalIsGone()) onSignal();
    else if (service?.refresh) service.refresh();
    else if (service) onSignal();
  });
  try {
    readEnvFile();
    service = await start();
  } catch (error) {
    process.stderr.write(`${startFailure(error)}\n`);
    process.exit((error as { exitCode?: number }).exitCode ?? 1);
  }
  process.stdout.write(`${service.message}\n`);
  if (asked) await endService(service);
}

/** The other meaning of SIGHUP: the terminal that the process was started on was closed. */
function terminalIsGone(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return false;
  } catch {
    return true;
  }
}

/** What to print when a service cannot start. */
export function startFailure(error: unknown): string {
  const { code, address, port, exitCode, message, stack } = error as NodeJS.ErrnoException & {
    address?: string;
    port?: number;
    exitCode?: number;
  };
  if (exitCode !== undefined) return message;
  if (code === 'EADDRINUSE') {
    return `Port ${port} on ${address} is taken by another program. Stop that one, or set another port (GATEWAY_PORT, BILLING_PORT, INTERNAL_PORT, BILLING_INTERNAL_PORT, SANDBOX_PORT).`;
  }
  if (code === 'EACCES' && port) return `This user may not listen on port ${port}. Use a port above 1023.`;
  if (code === 'EADDRNOTAVAIL')
    return `The address ${address} is not one of this machine. Set HOST to one that is.`;
  return stack ?? message;
}
