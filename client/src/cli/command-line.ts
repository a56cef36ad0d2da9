import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { TollgateError } from '../error.ts';
import { configFolder } from '../folder.ts';
import type { Command, Given } from './command.ts';
import { COMMANDS } from './commands.ts';
import { Current } from './current.ts';
import { EXIT, exitCodeOf, UsageError } from './exit-codes.ts';
import { commandHelp, helpText } from './help.ts';
import { printable, Terminal } from './terminal.ts';

/** Does what a command line says. Returns the exit code. @param args without the program's own name */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const { env, stdout, stderr } = process;
  const terminal = new Terminal(stdout, stderr, env);
  const interrupt = new AbortController();
  try {
    const [name, ...rest] = args;
    if (name === undefined) {
      terminal.note(helpText());
      return EXIT.wrongUsage;
    }
    if (name === '--help' || name === '-h' || name === 'help') {
      const about = COMMANDS.get(rest[0] ?? '');
      terminal.line(about ? commandHelp(about) : helpText());
      return EXIT.fine;
    }
    if (name === '--version' || name === '-v') {
      terminal.line(version());
      return EXIT.fine;
    }
    const command = COMMANDS.get(name);
    if (command === undefined) {
      throw new UsageError(`There is no command "${printable(name)}".`, 'List them: tollgate --help');
    }
    const given = read(command, rest);
    if (given.options.help) {
      terminal.line(commandHelp(command));
      return EXIT.fine;
    }
    // Of these, `run` hands the signal on, and the others are over at once.
    if (command === COMMANDS.get('buy') || command === COMMANDS.get('login')) {
      process.once('SIGINT', () => interrupt.abort());
    }
    const current = new Current(configFolder(), env);
    return await command.run(given, { current, terminal, env, interrupted: interrupt.signal });
  } catch (error) {
    explain(error, terminal);
    return exitCodeOf(error);
  }
}

/** @throws UsageError */
function read(command: Command, args: readonly string[]): Given {
  const end = args.indexOf('--');
  const own = end < 0 ? args : args.slice(0, end);
  const after = end < 0 ? null : args.slice(end + 1);
  const usage = `tollgate ${command.usage}`;
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({
      args: [...own],
      options: { ...command.options, help: { type: 'boolean', short: 'h' } },
      allowPositionals: true,
    });
  } catch (error) {
    throw new UsageError(printable((error as Error).message.split('. ', 1)[0] as string), usage);
  }
  const { values, positionals } = parsed;
  if (positionals.length > command.words) {
    throw new UsageError(`"${printable(positionals[command.words] as string)}" is one word too many.`, usage);
  }
  if (after !== null && command.takesCommand !== true) throw new UsageError('Nothing may follow --.', usage);
  return { options: values as Given['options'], words: positionals, command: after };
}

function explain(error: unknown, terminal: Terminal): void {
  if (error instanceof UsageError) {
    terminal.problem(error.message, error.remedy);
    return;
  }
  if (!(error instanceof TollgateError)) throw error;
  const { request_id: id } = error.extensions;
  const more = typeof id === 'string' ? `${error.code}, request ${printable(id)}` : error.code;
  terminal.problem(printable(error.message), error.remedy && printable(error.remedy), more);
}

function version(): string {
  // Beside `dist/` when built, beside `src/` before.
  for (const path of ['../../../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as Record<
        string,
        string
      >;
      if (name === 'tollgate' && version) return version;
    } catch {
      // Not there.
    }
  }
  return 'unknown';
}
