import type { Command } from './command.ts';
import { COMMANDS } from './commands.ts';

const EVERYWHERE: readonly (readonly [string, string])[] = [
  ['--server <url>', "the seller's server; else TOLLGATE_SERVER, else the last one"],
  ['--product <id>', 'what its keys begin with; else TOLLGATE_PRODUCT, else the last one'],
  ['--help', 'this help, or that of a command'],
  ['--version', 'the version'],
];

const EXIT_CODES: readonly (readonly [string, string])[] = [
  ['0', 'fine'],
  ['1', 'not entitled, or refused for another reason that is told'],
  ['2', 'wrong usage'],
  ['3', 'timed out'],
  ['4', 'server unreachable, or it cannot answer now: says nothing on who is entitled'],
  ['130', 'stopped by Ctrl-C; a purchase is kept'],
];

/** The help of the whole command line. */
export function helpText(): string {
  const commands = [...COMMANDS].map(([name, { summary }]) => [name, summary] as const);
  return [
    'Licences of software that is sold with Tollgate: buy, activate, use offline.',
    '',
    'Usage: tollgate <command> [options]',
    '',
    ...section('Commands', commands),
    ...section('Options of all commands', EVERYWHERE),
    ...section('Exit codes (run ends with those of its command)', EXIT_CODES),
    'Examples:',
    '  tollgate buy --server https://buy.example.com --plan pro --email you@example.com',
    '  tollgate status --json',
    '  tollgate run --require-plan pro -- ./render scene.txt',
  ].join('\n');
}

/** The help of one command. */
export function commandHelp({ usage, summary, help }: Command): string {
  return [summary, '', `Usage: tollgate ${usage}`, '', ...section('Options', [...help, ...EVERYWHERE])]
    .join('\n')
    .trimEnd();
}

function section(title: string, rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return [`${title}:`, ...rows.map(([name, meaning]) => `  ${name.padEnd(width)}  ${meaning}`), ''];
}
