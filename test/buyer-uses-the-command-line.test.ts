import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from './keystores.ts';
import { type LicensingUnderTest, startLicensingUnderTest } from './licences.ts';
import { eventually } from './servers.ts';

const MAIN = join(import.meta.dirname, '..', 'client', 'src', 'cli', 'main.ts');
const HAS_TMUX = works('tmux', '-V');

let seller: LicensingUnderTest;
let terminal: Terminal;
beforeAll(async () => {
  if (!HAS_TMUX) return;
  seller = await startLicensingUnderTest();
  terminal = openTerminal();
});
afterAll(async () => {
  terminal?.close();
  await seller?.close();
});

type Terminal = {
  home: string;
  type(text: string): void;
  screen(): string;
  exitCode(): string;
  close(): void;
};

/** A shell in a terminal of its own, in which `tollgate` is what a buyer has. */
function openTerminal(): Terminal {
  const home = temporaryFolder();
  const tmux = (...args: string[]) =>
    execFileSync('tmux', ['-S', join(home, 'tmux'), ...args], { encoding: 'utf8' });
  const env = [`PATH=${process.env.PATH}`, `HOME=${home}`, 'LANG=C.UTF-8', 'TERM=xterm-256color', 'PS1=$ '];
  tmux(
    '-f',
    '/dev/null',
    'new-session',
    '-d',
    '-x',
    '120',
    '-y',
    '50',
    '-s',
    'buyer',
    'env',
    '-i',
    ...env,
    'sh',
  );
  let commands = 0;
  const type = (text: string) => tmux('send-keys', '-t', 'buyer', text, 'Enter');
  type(`tollgate() { "${process.execPath}" "${MAIN}" "$@"; }; clear`);
  return {
    home,
    type(text) {
      commands += 1;
      type(`clear; ${text}; echo "[$? of ${commands}]"`);
    },
    screen: () => tmux('capture-pane', '-p', '-J', '-t', 'buyer'),
    exitCode() {
      // By its number: the end of the one before may still be on the screen.
      return new RegExp(`^\\[(\\d+) of ${commands}\\]$`, 'm').exec(this.screen())?.[1] ?? '';
    },
    close: () => void tmux('kill-server'),
  };
}

function works(...[command = '', ...args]: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Types a command, waits for its end. Returns its exit code and what it showed. */
async function typed(command: string): Promise<{ code: number; screen: string }> {
  terminal.type(command);
  await eventually(() => expect(terminal.exitCode()).not.toBe(''));
  return { code: Number(terminal.exitCode()), screen: terminal.screen() };
}

it('buys, uses and cancels in a terminal: buy, status, run, canceled, refused', async ({ skip }) => {
  skip(!HAS_TMUX, 'there is no tmux on this machine');
  const before = await typed('tollgate run --require-plan pro -- echo it-runs');
  expect([before.code, before.screen]).toEqual([
    1,
    expect.stringContaining('There is no licence on this device'),
  ]);

  terminal.type(`tollgate buy --server ${seller.url} --plan pro --email you@example.com --no-open`);
  await eventually(() => expect(terminal.screen()).toMatch(/[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] Waiting for the payment/));
  const sessionId = /cs_test_[0-9A-Za-z]+/.exec(terminal.screen())?.[0] as string;
  await seller.pay(sessionId);
  await eventually(() => expect(terminal.exitCode()).toBe('0'));
  const bought = terminal.screen();
  expect(bought).toMatch(
    /✓ Paid\.\n✓ Your key tg_test_\w{12}\.\.\.\w{4} is in .*licence\.json\n✓ Pro is active on this device until/,
  );
  expect(bought).not.toContain('Waiting for');
  const folder = join(terminal.home, '.config', 'tollgate');
  const file = join(
    folder,
    readdirSync(folder).find((name) => name.startsWith('tg@')) as string,
    'licence.json',
  );
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const { key } = JSON.parse(readFileSync(file, 'utf8'));
  expect(bought).not.toContain(key);

  const status = await typed('tollgate status --remote-verify');
  expect(status.code).toBe(0);
  for (const said of ['✓ Pro is active', 'Server says', 'valid', 'draw, export, projects 10'])
    expect(status.screen).toContain(said);
  const ran = await typed('tollgate run --require-plan pro -- echo it-runs');
  expect([ran.code, ran.screen]).toEqual([0, expect.stringContaining('it-runs')]);
  expect((await typed('tollgate devices')).screen).toContain('1 of 3 devices are active');

  const { subscription } = await seller.stripe.checkout.sessions.retrieve(sessionId);
  await seller.stripe.subscriptions.cancel(subscription as string);
  await eventually(async () =>
    expect((await seller.ask('validate', { key })).body).toMatchObject({ code: 'subscription_ended' }),
  );
  const ended = await typed('tollgate entitlements refresh');
  expect([ended.code, ended.screen]).toEqual([1, expect.stringContaining('subscription_ended')]);
  expect((await typed('tollgate status --remote-verify')).code).toBe(1);
  await typed('tollgate entitlements clear');
  expect((await typed('tollgate entitlements refresh')).code).toBe(1);
  const refused = await typed('tollgate run --require-plan pro -- echo it-runs');
  expect(refused.code).toBe(1);
  expect(refused.screen).toContain('Subscribe again');
  expect(refused.screen).not.toContain('it-runs');
});
