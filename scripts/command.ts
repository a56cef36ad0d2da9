import type { Command } from 'commander';
import { ProblemError } from '../shared/problems.ts';
import { readEnvFile, startFailure } from '../shared/service.ts';

/** A mistake of whoever typed the command: printed as it is, exit code 1. */
class CommandError extends Error {
  readonly exitCode = 1;
}

/** Ends a command with a message for the operator. */
export function fail(message: string): never {
  throw new CommandError(message);
}

/** Runs a command line; what goes wrong is said in a sentence, with the exit code that belongs to it. */
export async function run(command: Command): Promise<void> {
  try {
    readEnvFile();
    await command.parseAsync();
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = (error as { exitCode?: number }).exitCode ?? 1;
  }
}

function explain(error: unknown): string {
  if (!(error instanceof ProblemError)) return startFailure(error);
  const { code, message, cause } = error;
  const said = cause instanceof Error ? ` (${cause.message})` : '';
  if (
    code === 'stripe_unavailable' &&
    !process.env.STRIPE_SECRET_KEY &&
    !process.env.STRIPE_SECRET_KEY_FILE
  ) {
    return `${message}${said}\nWithout STRIPE_SECRET_KEY this command uses the sandbox of a running "npm start".`;
  }
  return `${message}${said}`;
}
