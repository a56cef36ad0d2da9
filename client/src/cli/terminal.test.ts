import { expect, it } from 'vitest';
import { openerFor } from './browser.ts';
import { printable, Terminal } from './terminal.ts';

function captured(isTTY: boolean, env: Record<string, string> = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const stream = (into: string[]) => ({ isTTY, write: (text: string) => into.push(text) });
  return { terminal: new Terminal(stream(out), stream(err), env), out, err };
}

it('has colours on a terminal only, and not where they are unwanted', () => {
  const said = (isTTY: boolean, env: Record<string, string>) => {
    const { terminal, out } = captured(isTTY, env);
    terminal.done('Paid.');
    return out.join('');
  };
  expect(said(true, { LANG: 'C.UTF-8' })).toBe('\x1b[32m✓\x1b[39m Paid.\n');
  expect(said(true, { NO_COLOR: '1', LANG: 'C' })).toBe('* Paid.\n');
  expect(said(true, { TERM: 'dumb', LANG: 'C' })).toBe('* Paid.\n');
  expect(said(false, {})).toBe('* Paid.\n');
});

it('turns on a terminal while something is waited for, cleans up, and says it once elsewhere', async () => {
  const tty = captured(true, { LANG: 'C.UTF-8' });
  expect(await tty.terminal.waiting('Waiting', async () => 7)).toBe(7);
  expect(tty.out[0]).toContain('⠋');
  expect(tty.out.at(-1)).toBe('\r\x1b[K');
  await expect(tty.terminal.waiting('Waiting', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(tty.out.at(-1)).toBe('\r\x1b[K');
  const plain = captured(false);
  await plain.terminal.waiting('Waiting', async () => undefined);
  expect(plain.out).toEqual(['Waiting\n']);
});

it('what comes from elsewhere cannot command the terminal', () => {
  expect(printable('a\x1b]0;title\x07b\x1b[2Jc\r\u009b31m')).toBe('a]0;titleb[2Jc31m');
});

it('a problem is said with its remedy, beside the output', () => {
  const { terminal, out, err } = captured(false);
  terminal.problem('It is over.', 'Buy again.', 'expired');
  expect(out).toEqual([]);
  expect(err.join('')).toBe('x It is over.\n  Buy again.\n  expired\n');
});

it.each([
  ['linux', {}, null],
  ['linux', { DISPLAY: ':0' }, ['xdg-open']],
  ['linux', { WAYLAND_DISPLAY: 'w' }, ['xdg-open']],
  ['linux', { BROWSER: 'lynx' }, ['lynx']],
  ['darwin', {}, ['/usr/bin/open']],
  ['win32', {}, ['rundll32', 'url.dll,FileProtocolHandler']],
] as const)('on %s with %j a page is opened with %j', (platform, env, opener) => {
  expect(openerFor(platform, env)).toEqual(opener);
});
