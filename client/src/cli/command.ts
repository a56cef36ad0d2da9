import type { ParseArgsConfig } from 'node:util';
import type { Current } from './current.ts';
import type { Terminal } from './terminal.ts';

/** What a command works with. */
export type Context = {
  current: Current;
  terminal: Terminal;
  env: Readonly<Record<string, string | undefined>>;
  /** Aborted by Ctrl-C, where the command can be stopped without harm. */
  interrupted: AbortSignal;
};

export type Given = {
  options: Readonly<Record<string, string | boolean | string[] | undefined>>;
  /** What is no option. */
  words: readonly string[];
  /** What stands after `--`; `null`: there is none. */
  command: readonly string[] | null;
};

export type Command = {
  /** As in `buy --plan <plan> --email <address>`. */
  usage: string;
  summary: string;
  /** What each option does, for its help. */
  help: readonly (readonly [option: string, meaning: string])[];
  options: NonNullable<ParseArgsConfig['options']>;
  /** How many words it takes at most. */
  words: number;
  /** Whether it takes a command after `--`. */
  takesCommand?: true;
  /** Does it, and returns the exit code. */
  run(given: Given, context: Context): Promise<number>;
};

/** An option that takes a value; `undefined`: not given. */
export function value(given: Given, name: string): string | undefined {
  const option = given.options[name];
  return typeof option === 'string' ? option : undefined;
}

/** What every command that asks a server takes. */
export function chosen(given: Given): { server?: string | undefined; product?: string | undefined } {
  return { server: value(given, 'server'), product: value(given, 'product') };
}

export const CHOICE = { server: { type: 'string' }, product: { type: 'string' } } as const;
