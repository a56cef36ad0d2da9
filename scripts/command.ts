import { userInfo } from 'node:os';
import { type Command, InvalidArgumentError } from 'commander';
import { type Keystore, KeystoreError, openKeystore } from '../keystore/keystore.ts';
import { type Config, loadConfig, type StripeConfig, urlHost } from '../shared/config.ts';
import { createLogger, type Logger } from '../shared/log.ts';
import { ProblemError } from '../shared/problems.ts';
import { readEnvFile, startFailure } from '../shared/service.ts';

/** A mistake of whoever typed the command: printed as it is. */
class CommandError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Ends a command with a message for the operator. */
export function fail(message: string, exitCode = 1): never {
  throw new CommandError(message, exitCode);
}

/** Who runs the command, for the audit log. */
export const actor = `operator:${userName()}`;

/** A user id without an entry in the password file, as containers have it, has no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 'unknown');
  }
}

/** Runs the work of a command on the configured keystore. What goes wrong in it is logged to the terminal. */
export async function withKeystore(
  work: (keystore: Keystore, config: Config, log: Logger) => Promise<void>,
  config: Config = loadConfig(process.env, 'tool'),
): Promise<void> {
  const log = createLogger({
    level: 'error',
    destination: { write: (line) => void process.stderr.write(line) },
  });
  const keystore = await openKeystore({
    ...config,
    url: config.keystoreUrl,
    log,
    mails: config.mail !== null,
  });
  try {
    await work(keystore, config, log);
  } finally {
    await keystore.close();
  }
}

/** A length of time that was typed, such as 30m, 12h or 30d, in milliseconds. */
export function duration(text: string): number {
  const [, amount, unit] = /^([0-9]{1,5})([mhd])$/.exec(text) ?? [];
  if (!amount || !unit) throw new InvalidArgumentError('Give a duration such as 30m, 12h or 30d.');
  return Number(amount) * { m: 60_000, h: 3_600_000, d: 86_400_000 }[unit as 'm' | 'h' | 'd'];
}

/** Prints JSON. */
export function print(value: unknown): void {
  console.log(JSON.stringify(value, null, 2));
}

/** Prints rows below each other. @param head no head when empty */
export function table(head: string[], rows: string[][]): void {
  const all = head.length > 0 ? [head, ...rows] : rows;
  const widths = (all[0] ?? []).map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  for (const row of all) {
    console.log(
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join('  '),
    );
  }
}

/** The Stripe account a command is about: the configured one, else the sandbox of a running `npm start`. */
export function stripeAccount(config: Config): StripeConfig {
  // Any test key opens the sandbox, and its state is all in the one that runs.
  return (
    config.stripe ?? {
      secretKey: 'sk_test_sandbox',
      webhookSecret: null,
      apiBase: `http://${urlHost(config.host)}:${config.sandboxPort}`,
      mode: 'test',
      requestsPerSecond: null,
    }
  );
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
  if (error instanceof KeystoreError) return error.message;
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
