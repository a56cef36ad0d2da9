import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from './cli/commands.ts';
import { EXIT } from './cli/exit-codes.ts';
import { commandHelp, helpText } from './cli/help.ts';
import { Tollgate } from './tollgate.ts';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
/** Where each code of a kind is written down. */
const codesIn = (file: string, type: string) => {
  const source = readFileSync(new URL(file, import.meta.url), 'utf8');
  const [, body = ''] = new RegExp(`export type ${type} =\\n([\\s\\S]*?);\\n`).exec(source) ?? [];
  return [...body.matchAll(/^ {2}\| '([a-z_]+)'/gm)].map(([, code]) => code as string);
};

describe('the manual', () => {
  it.each([...codesIn('standing.ts', 'EntitlementCode'), ...codesIn('error.ts', 'LocalCode')])(
    'explains %s',
    (code) => {
      expect(readme).toContain(`\`${code}\``);
    },
  );

  it('names every command with every option of its own', () => {
    for (const [name, { options }] of COMMANDS) {
      expect(readme, name).toMatch(new RegExp(`^\\| \`${name}\\b`, 'm'));
      for (const option of Object.keys(options))
        expect(readme, `${name} --${option}`).toContain(`--${option}`);
    }
  });

  it('names every exit code, as the help does', () => {
    for (const code of Object.values(EXIT)) {
      expect(readme).toMatch(new RegExp(`^\\| ${code} +\\|`, 'm'));
      expect(helpText()).toMatch(new RegExp(`^ {2}${code} +\\w`, 'm'));
    }
  });

  it('names every method of the class', () => {
    const methods = Object.getOwnPropertyNames(Tollgate.prototype).filter((name) => name !== 'constructor');
    expect(methods.length).toBeGreaterThan(15);
    for (const method of methods) expect(readme).toContain(`\`${method}(`);
  });
});

it('the help of a command names every option of its own', () => {
  for (const [name, command] of COMMANDS) {
    for (const option of Object.keys(command.options))
      expect(commandHelp(command), name).toContain(`--${option}`);
  }
});
