import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Entitlements } from '../entitlements.ts';
import { demoEntitlements } from '../entitlements.ts';
import { TollgateError } from '../error.ts';
import type { Tollgate } from '../tollgate.ts';
import { CHOICE, type Command, chosen, type Given } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { printable, type Terminal } from './terminal.ts';

/** What whoever runs us sends; the command gets it and decides. */
const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
/** A terminal sends these to the command itself, too. Twice is not the same as once: many programs take it for "at once". */
const BY_TERMINAL: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];
const COULD_NOT_RUN = 126;
const NO_SUCH_COMMAND = 127;

export const run: Command = {
  usage: 'run [--require-plan <plan>[,<plan>...]] -- <command> [<argument>...]',
  summary: 'Run a command, if this device has a licence that counts.',
  help: [
    ['--require-plan <plan>', 'and if it is for this plan, or one of several (with commas, or given again)'],
    ['', 'exit code and signals are those of the command'],
  ],
  options: { ...CHOICE, 'require-plan': { type: 'string', multiple: true } },
  words: 0,
  takesCommand: true,
  async run(given, { current, terminal }) {
    const [command, ...args] = given.command ?? [];
    if (command === undefined) throw new UsageError('Run what?', `tollgate ${run.usage}`);
    const tollgate = await current.tollgateIfAny(chosen(given));
    const entitlements = await allowed(given, tollgate);
    const seat = entitlements.licence?.floating && tollgate ? await seatFor(tollgate, terminal) : null;
    if (entitlements.code === 'grace') terminal.note(`tollgate: ${printable(entitlements.detail)}`);
    try {
      return await result(command, args, terminal);
    } finally {
      seat?.stop();
    }
  },
};

/** @throws TollgateError when the command may not run */
async function allowed(given: Given, tollgate: Tollgate | null): Promise<Entitlements> {
  const plans = [given.options['require-plan'] ?? []].flat().flatMap((each) => `${each}`.split(','));
  if (plans.some((plan) => plan === ''))
    throw new UsageError('--require-plan names no plan.', `tollgate ${run.usage}`);
  const now = tollgate === null ? demoEntitlements(null) : await tollgate.entitlements();
  if (tollgate === null || !now.entitled) throw new TollgateError(now.code, now.detail, now.remedy);
  return plans.length === 0 ? now : tollgate.requirePlan(plans);
}

/** A floating seat has to be there before the command is; without a network, what is here counts. */
async function seatFor(tollgate: Tollgate, terminal: Terminal) {
  try {
    await tollgate.heartbeat();
  } catch (error) {
    if (!(error instanceof TollgateError)) throw error;
    if (error.code === 'device_not_active') await tollgate.activate();
    else if (!error.isServerTrouble) throw error;
  }
  return tollgate.holdSeat((error) => {
    terminal.note(`tollgate: the seat of this device was lost. ${printable(error.message)}`);
  });
}

/** Runs it to its end. A command that a signal ended ends us by the same one, so that whoever waits sees no difference. */
function result(command: string, args: readonly string[], terminal: Terminal): Promise<number> {
  return new Promise((resolve) => {
    const pass = (signal: NodeJS.Signals) => {
      if (!process.stdin.isTTY || !BY_TERMINAL.includes(signal)) child.kill(signal);
    };
    // Before it starts: a signal that came first would end this program, and leave the command behind.
    for (const signal of PASSED_ON) process.on(signal, pass);
    const child = spawn(command, args, { stdio: 'inherit' });
    child.once('error', (error: NodeJS.ErrnoException) => {
      const missing = error.code === 'ENOENT';
      terminal.problem(
        missing ? `There is no command "${command}".` : `"${command}" cannot be run (${error.code}).`,
        missing ? 'Check how it is spelt, and the PATH.' : 'Check that it may be executed.',
      );
      resolve(missing ? NO_SUCH_COMMAND : COULD_NOT_RUN);
    });
    child.once('exit', (code, signal) => {
      for (const each of PASSED_ON) process.off(each, pass);
      if (code !== null || signal === null) return resolve(code ?? EXIT.notEntitled);
      process.kill(process.pid, signal);
      // Of a signal that does not end us, the number that a shell would give.
      resolve(128 + constants.signals[signal]);
    });
  });
}
