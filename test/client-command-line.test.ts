import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { maskKey } from '../client/src/key.ts';
import { temporaryFolder } from './keystores.ts';
import { type LicenceStandIn, startLicenceStandIn } from './licence-stand-in.ts';

const MAIN = join(import.meta.dirname, '..', 'client', 'src', 'cli', 'main.ts');

let seller: LicenceStandIn;
let home: string;
/** Everything any command printed in this test. */
let printed: string;

beforeEach(async () => {
  seller = await startLicenceStandIn();
  home = temporaryFolder();
  printed = '';
});

afterEach(async () => {
  await seller.close();
});

type Running = { child: ChildProcess; out(): string; err(): string; ended: Promise<Ended> };
type Ended = { code: number | null; signal: string | null; out: string; err: string };

function start(
  args: string[],
  { env = {}, input }: { env?: Record<string, string>; input?: string } = {},
): Running {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: home,
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      HOME: home,
      XDG_CONFIG_HOME: home,
      ...env,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
    printed += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
    printed += chunk;
  });
  if (input !== undefined) child.stdin.end(input);
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, out, err }));
  return { child, out: () => out, err: () => err, ended };
}

function tollgate(...args: string[]): Promise<Ended> {
  return start(args).ended;
}

/** A buy that has got as far as waiting. */
async function buying(plan: string, ...more: string[]): Promise<Running & { checkout: string }> {
  const running = start(['buy', '--server', seller.url, '--plan', plan, '--no-open', ...more]);
  void running.ended;
  await vi.waitFor(() => expect(running.out() + running.err()).toContain('Waiting for the payment'));
  const checkout = /http\S+\/checkout\/\S+/.exec(running.out())?.[0] as string;
  return { ...running, checkout };
}

async function bought(plan = 'pro'): Promise<Ended> {
  const running = await buying(plan);
  seller.settle(running.checkout);
  return running.ended;
}

function licenceFile(): string {
  const folder = readdirSync(join(home, 'tollgate')).find((name) => name.startsWith('acme@')) as string;
  return join(home, 'tollgate', folder, 'licence.json');
}

function stored(): Record<string, unknown> {
  return JSON.parse(readFileSync(licenceFile(), 'utf8'));
}

describe('buy', () => {
  it('takes the key into a file of the buyer’s own and activates the device; nothing shows the whole key', async () => {
    const { code, out, err } = await bought();
    expect([code, err]).toEqual([0, '']);
    const { key } = stored();
    expect(out).toContain(`Your key ${maskKey(key as string)} is in ${licenceFile()}`);
    expect(out).toContain('Pro is active on this device until');
    expect(statSync(licenceFile()).mode & 0o777).toBe(0o600);
    expect(statSync(join(home, 'tollgate')).mode & 0o777).toBe(0o700);
    expect((await tollgate('status')).code).toBe(0);
    await tollgate('whoami');
    await tollgate('status', '--json', '--remote-verify');
    await tollgate('devices');
    expect(printed).not.toContain(key);
    expect(printed).not.toContain('\x1b');
  });

  it('a plan without devices is a key for an API, and all is well', async () => {
    const { code, out } = await bought('api');
    expect(code).toBe(0);
    expect(out).toContain('for an API');
    expect((await tollgate('whoami')).code).toBe(0);
    expect((await tollgate('status')).code, 'there is no entitlement').toBe(1);
  });

  it('Ctrl-C keeps the purchase, and buying again goes on with it', async () => {
    const running = await buying('pro');
    running.child.kill('SIGINT');
    const stopped = await running.ended;
    expect(stopped.code).toBe(130);
    expect(stopped.err).toContain('The purchase is kept');
    const pending = join(home, 'tollgate', 'purchases.json');
    expect(statSync(pending).mode & 0o777).toBe(0o600);
    const claimToken = JSON.parse(readFileSync(pending, 'utf8')).purchases[0].claim_token;
    expect(printed).not.toContain(claimToken);
    const again = await buying('pro');
    expect(again.checkout, 'nobody pays twice').toBe(running.checkout);
    expect(again.out()).toContain('Going on with buying');
    seller.settle(again.checkout);
    expect((await again.ended).code).toBe(0);
    expect(JSON.parse(readFileSync(pending, 'utf8')).purchases).toEqual([]);
  });

  it('what was paid after Ctrl-C is taken by login, or by buying anything', async () => {
    for (const args of [['login'], ['buy', '--plan', 'team', '--no-open']]) {
      home = temporaryFolder();
      const running = await buying('pro');
      running.child.kill('SIGINT');
      await running.ended;
      seller.settle(running.checkout);
      const { code, out } = await tollgate(...args, '--server', seller.url);
      expect([code, out]).toEqual([0, expect.stringContaining('Pro is active')]);
    }
  });

  it('killed while it waits loses nothing either', async () => {
    const running = await buying('pro');
    running.child.kill('SIGKILL');
    await running.ended;
    seller.settle(running.checkout);
    expect((await tollgate('login', '--server', seller.url)).code).toBe(0);
  });

  it.each([
    [/^POST \/billing\/purchases$/],
    [/^GET \/billing\/purchases\/\w+$/],
    [/^POST \/licences\/activate$/],
    [/^GET \/.well-known\/jwks.json$/],
  ])('killed while it asks for %s, the next one ends well, and nobody pays twice', async (moment) => {
    const checkouts = new Set<string>();
    const payAtOnce = (then: (request: string) => void) =>
      seller.onRequest((request) => {
        const checkout = /\/billing\/purchases\/(\w+)$/.exec(request)?.[1];
        if (checkout !== undefined) {
          checkouts.add(checkout);
          seller.settle(checkout);
        }
        then(request);
      });
    const running = start(['buy', '--server', seller.url, '--plan', 'pro', '--no-open']);
    payAtOnce((request) => {
      if (moment.test(request)) running.child.kill('SIGKILL');
    });
    expect((await running.ended).signal).toBe('SIGKILL');
    payAtOnce(() => {});
    const again = await tollgate('buy', '--server', seller.url, '--plan', 'pro', '--no-open');
    if (again.code !== 0)
      expect(again.err, 'the key is here already').toContain('There is a licence here already');
    expect((await tollgate('entitlements', 'refresh')).code).toBe(0);
    expect((await tollgate('status')).code).toBe(0);
    expect(checkouts.size).toBe(1);
  });

  it('times out with 3, and says how to go on', async () => {
    const { code, err } = await tollgate(
      'buy',
      '--server',
      seller.url,
      '--plan',
      'pro',
      '--no-open',
      '--timeout',
      '0',
    );
    expect(code).toBe(3);
    expect(err).toContain('run the same command again');
  });

  it.each([
    ['failed', 'The payment failed'],
    ['canceled', 'canceled or has expired'],
  ] as const)('a payment that %s is told, and the next one begins anew', async (status, text) => {
    const running = await buying('pro');
    seller.settle(running.checkout, status);
    const { code, err } = await running.ended;
    expect([code, err]).toEqual([1, expect.stringContaining(text)]);
    const next = await buying('pro');
    expect(next.checkout).not.toBe(running.checkout);
    next.child.kill('SIGINT');
    await next.ended;
  });

  it('what the seller has to see to first is told, and nobody has to pay twice', async () => {
    const running = await buying('pro');
    seller.settle(running.checkout, 'paid', 'unknown_price');
    const { code, err } = await running.ended;
    expect([code, err]).toEqual([1, expect.stringContaining('You need not pay again')]);
    seller.settle(running.checkout);
    expect((await tollgate('buy', '--plan', 'pro', '--server', seller.url, '--no-open')).code).toBe(0);
  });

  it('a key that was taken and never arrived is told before anybody pays again', async () => {
    const running = await buying('pro');
    running.child.kill('SIGKILL');
    await running.ended;
    seller.settle(running.checkout);
    const { purchases } = JSON.parse(readFileSync(join(home, 'tollgate', 'purchases.json'), 'utf8'));
    const claimed = await fetch(`${seller.url}/billing/purchases/${purchases[0].purchase_id}/claim`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${purchases[0].claim_token}` },
    });
    expect(claimed.status).toBe(200);
    const { code, err } = await tollgate('buy', '--server', seller.url, '--plan', 'pro', '--no-open');
    expect([code, err]).toEqual([1, expect.stringContaining('already_claimed')]);
  });

  it('goes on waiting while the server cannot be reached', async () => {
    const running = await buying('pro');
    seller.break({ status: 503, code: 'keystore_unavailable' });
    const asked = seller.requests.length;
    await vi.waitFor(() => expect(seller.requests.length).toBeGreaterThan(asked));
    seller.settle(running.checkout);
    seller.break(null);
    expect((await running.ended).code).toBe(0);
  });

  it('opens the checkout in the browser', async () => {
    const browser = join(home, 'browser');
    writeFileSync(browser, `#!/bin/sh\nprintf %s "$1" > ${home}/opened\n`);
    chmodSync(browser, 0o755);
    const running = start(['buy', '--server', seller.url, '--plan', 'pro'], { env: { BROWSER: browser } });
    await vi.waitFor(() => expect(existsSync(join(home, 'opened'))).toBe(true));
    await vi.waitFor(() => expect(readFileSync(join(home, 'opened'), 'utf8')).toMatch(/\/checkout\/pur_/));
    await vi.waitFor(() => expect(running.out()).toContain('It opens in your browser'));
    running.child.kill('SIGINT');
    await running.ended;
  });

  it('does not buy a second time what is here', async () => {
    await bought();
    const { code, err } = await tollgate('buy', '--plan', 'team', '--no-open');
    expect([code, err]).toEqual([2, expect.stringContaining('There is a licence here already')]);
  });
});

describe('run', () => {
  it('starts a command only with an active entitlement, of the plan that is required', async () => {
    const touch = ['--', 'touch', join(home, 'ran')];
    const before = await tollgate('run', '--require-plan', 'pro', ...touch);
    expect([before.code, before.err]).toEqual([
      1,
      expect.stringContaining('There is no licence on this device'),
    ]);
    await bought();
    const other = await tollgate('run', '--require-plan', 'team', ...touch);
    expect([other.code, other.err]).toEqual([1, expect.stringContaining('This needs the plan team')]);
    expect(existsSync(join(home, 'ran'))).toBe(false);
    expect((await tollgate('run', '--require-plan', 'team,pro', ...touch)).code).toBe(0);
    expect(existsSync(join(home, 'ran'))).toBe(true);
  });

  it('passes on output, exit code, signals and arguments as they are', async () => {
    await bought();
    const { code, out } = await tollgate(
      'run',
      '--require-plan',
      'pro',
      '--',
      'sh',
      '-c',
      'printf "[%s]" "$@"; exit 7',
      'sh',
      '--json',
      'a b',
    );
    expect([code, out]).toEqual([7, '[--json][a b]']);
    expect((await tollgate('run', '--', join(home, 'nothing-there'))).code).toBe(127);
    const running = start([
      'run',
      '--',
      'sh',
      '-c',
      'trap "echo got it; exit 9" TERM; echo ready; while :; do sleep 0.01; done',
    ]);
    await vi.waitFor(() => expect(running.out()).toContain('ready'));
    running.child.kill('SIGTERM');
    expect(await running.ended).toMatchObject({ code: 9, out: 'ready\ngot it\n' });
    const killed = await start(['run', '--', 'sh', '-c', 'kill -KILL $$']).ended;
    expect(killed.signal).toBe('SIGKILL');
  });

  it('goes on without a network, and refuses once the licence has ended', async () => {
    await bought();
    const { key } = stored();
    seller.break('cut');
    expect((await tollgate('run', '--require-plan', 'pro', '--', 'true')).code).toBe(0);
    seller.break(null);
    const sold = seller.sold(key as string);
    sold.refusal = { status: 402, code: 'subscription_ended', detail: 'The subscription has ended.' };
    const refreshed = await tollgate('entitlements', 'refresh');
    expect([refreshed.code, refreshed.err]).toEqual([
      1,
      expect.stringContaining('The subscription has ended.'),
    ]);
    expect((await tollgate('run', '--', 'true')).code, 'until the token is over').toBe(0);
    await tollgate('entitlements', 'clear');
    const after = await tollgate('run', '--', 'true');
    expect(after.code).toBe(1);
    const again = await tollgate('entitlements', 'refresh');
    expect([again.code, again.err]).toEqual([1, expect.stringContaining('The subscription has ended.')]);
  });

  it('holds a floating seat, and takes it again when it was lost', async () => {
    await bought('team');
    const { key } = stored();
    const { devices } = seller.sold(key as string);
    expect((await tollgate('run', '--', 'true')).code).toBe(0);
    expect(seller.requests).toContain('POST /licences/heartbeat');
    devices.clear();
    expect((await tollgate('run', '--', 'true')).code).toBe(0);
    expect(devices.size).toBe(1);
    devices.clear();
    devices.set('another', { name: 'another', at: Date.now() });
    const { code, err } = await tollgate('run', '--', 'true');
    expect([code, err]).toEqual([1, expect.stringContaining('device_limit')]);
  });
});

describe('status', () => {
  it('says what counts, for people and for programs, and what the server says', async () => {
    const nothing = await tollgate('status', '--json');
    expect([nothing.code, JSON.parse(nothing.out).code]).toEqual([1, 'no_licence']);
    await bought();
    const { out, code } = await tollgate('status', '--json', '--remote-verify');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      entitled: true,
      code: 'active',
      plan: 'pro',
      features: { export: true, projects: 10 },
      licence: { plan_name: 'Pro', mode: 'test', floating: false },
      ended: null,
      server: seller.url,
      product: 'acme',
      remote: { valid: true, code: 'valid' },
    });
    expect((await tollgate('entitlements', 'status')).out).toContain('export, projects 10');
  });

  it('with --remote-verify goes by what the server says, and by 4 when it says nothing', async () => {
    await bought();
    const { key } = stored();
    seller.sold(key as string).refusal = { status: 401, code: 'revoked_key', detail: 'Refunded.' };
    const refused = await tollgate('status', '--remote-verify');
    expect([refused.code, refused.out]).toEqual([1, expect.stringContaining('revoked_key: Refunded.')]);
    seller.break({ status: 503, code: 'keystore_unavailable' });
    expect((await tollgate('status', '--remote-verify')).code).toBe(4);
    expect((await tollgate('status')).code).toBe(0);
  });
});

describe('devices', () => {
  it('lists them, releases one by name or id, and this one', async () => {
    await bought();
    const { key } = stored();
    const { devices } = seller.sold(key as string);
    devices.set('0123456789abcdef', { name: 'old laptop', at: Date.now() });
    const listed = await tollgate('devices');
    expect(listed.out).toMatch(/2 of 2 devices are active/);
    expect(listed.out).toMatch(/this device/);
    expect(JSON.parse((await tollgate('devices', '--json')).out).devices).toHaveLength(2);
    expect((await tollgate('deactivate', 'none of that name')).code).toBe(2);
    expect((await tollgate('deactivate', '01234567')).out).toContain('old laptop is released. 1 of 2');
    expect((await tollgate('deactivate')).out).toContain('This device is released. 0 of 2');
    expect(devices.size).toBe(0);
    expect((await tollgate('status')).code).toBe(1);
    expect((await tollgate('entitlements', 'refresh')).code).toBe(0);
    expect(devices.size).toBe(1);
  });

  it('one too many is told with the list, and what to do', async () => {
    const sold = seller.sell('team');
    sold.devices.set('0123456789abcdef', { name: 'old laptop', at: Date.now() });
    const { code, out, err } = await start(['login', '--server', seller.url, '--key', '-'], {
      input: `${sold.key}\n`,
    }).ended;
    expect(code).toBe(1);
    expect(out).toContain('old laptop');
    expect(err).toContain('tollgate deactivate <device>');
    await tollgate('deactivate', 'old laptop');
    expect((await tollgate('entitlements', 'refresh')).code).toBe(0);
  });
});

describe('login and logout', () => {
  it('takes a key from standard input only', async () => {
    const { key } = seller.sell('pro');
    const typed = await tollgate('login', '--server', seller.url, '--key', key);
    expect([typed.code, typed.err]).toEqual([2, expect.stringContaining('standard input')]);
    expect(typed.err).not.toContain(key);
    const short = await start(['login', '--server', seller.url, '--key', '-'], { input: key.slice(0, -2) })
      .ended;
    expect([short.code, short.err]).toEqual([2, expect.stringContaining('not a whole key')]);
    const { code, out } = await start(['login', '--server', seller.url, '--key', '-'], { input: `${key}\n` })
      .ended;
    expect([code, out]).toEqual([0, expect.stringContaining('Pro is active')]);
    expect((await tollgate('logout')).code).toBe(0);
    expect(existsSync(licenceFile())).toBe(false);
    expect((await tollgate('status')).code).toBe(1);
  });

  it('a key that does not exist is not kept; without a network it is, for later', async () => {
    const unknown = (await startAndClose()).key;
    const refused = await start(['login', '--server', seller.url, '--key', '-'], { input: unknown }).ended;
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('invalid_key')]);
    const { key } = seller.sell('pro');
    seller.break('cut');
    const later = await start(['login', '--server', seller.url, '--key', '-'], { input: key }).ended;
    expect([later.code, later.err]).toEqual([4, expect.stringContaining('The key is kept')]);
    seller.break(null);
    expect((await tollgate('entitlements', 'refresh')).code).toBe(0);
  });

  it('does not throw away the only copy of a key unasked', async () => {
    await bought();
    const { code, err } = await tollgate('logout');
    expect([code, err]).toEqual([2, expect.stringContaining('tollgate logout --yes')]);
    expect((await tollgate('logout', '--yes')).code).toBe(0);
  });
});

/** A key of a seller that this one does not know. */
async function startAndClose() {
  const other = await startLicenceStandIn();
  const sold = other.sell('pro');
  await other.close();
  return sold;
}

describe('trial', () => {
  // What the product is, the server tells.
  const SELLER = () => ['--server', seller.url];

  it('begins at once, or with the code from an e-mail', async () => {
    expect((await tollgate('trial', '--plan', 'pro', ...SELLER())).out).toContain(
      'The trial has begun, and ends at',
    );
    expect((await tollgate('status')).code).toBe(0);
    home = temporaryFolder();
    const asked = await tollgate('trial', '--plan', 'pro', '--email', 'you@example.com', ...SELLER());
    expect([asked.code, asked.out]).toEqual([0, expect.stringContaining('tollgate trial --code')]);
    expect((await tollgate('trial', '--code', '000000')).code).toBe(2);
    expect((await tollgate('trial', '--code', '123456')).code).toBe(0);
    expect((await tollgate('run', '--require-plan', 'pro', '--', 'true')).code).toBe(0);
  });
});

describe('what is typed wrong', () => {
  it.each<[string, string[], string]>([
    ['nothing', [], 'Usage: tollgate'],
    ['an unknown command', ['frobnicate'], 'There is no command "frobnicate"'],
    ['an unknown option', ['status', '--frobnicate'], '--frobnicate'],
    ['a word too many', ['status', 'now'], 'one word too many'],
    ['no plan', ['buy', '--server', 'http://127.0.0.1:9'], 'Which plan?'],
    ['no server', ['buy', '--plan', 'pro'], 'TOLLGATE_SERVER'],
    ['a server in the clear', ['buy', '--plan', 'pro', '--server', 'http://buy.example.com'], 'not HTTPS'],
    ['a mode that is none', ['buy', '--plan', 'pro', '--mode', 'staging'], 'test or live'],
    ['a time that is none', ['buy', '--plan', 'pro', '--timeout', 'soon'], 'whole seconds'],
    ['no e-mail address', ['buy', '--plan', 'pro', '--email', 'you'], 'no e-mail address'],
    ['nothing to run', ['run', '--require-plan', 'pro'], 'Run what?'],
    ['entitlements of what', ['entitlements'], 'status, refresh or clear?'],
  ])('%s: 2, and how it is right', async (_what, args, text) => {
    const { code, err } = await tollgate(...args);
    expect([code, err]).toEqual([2, expect.stringContaining(text)]);
  });

  it('a plan that the server does not know is 2, a server that is not there 4', async () => {
    expect((await tollgate('buy', '--plan', 'gold', '--server', seller.url, '--no-open')).code).toBe(2);
    expect((await tollgate('buy', '--plan', 'pro', '--server', 'http://127.0.0.1:9', '--no-open')).code).toBe(
      4,
    );
  });

  it('help and version are output, and 0', async () => {
    const help = await tollgate('--help');
    expect([help.code, help.err]).toEqual([0, '']);
    for (const text of ['buy', 'portal', 'Exit codes', '3  ', 'TOLLGATE_SERVER'])
      expect(help.out).toContain(text);
    expect((await tollgate('buy', '--help')).out).toContain('--timeout <seconds>');
    const { version } = JSON.parse(readFileSync('client/package.json', 'utf8'));
    expect((await tollgate('--version')).out).toBe(`${version}\n`);
  });
});

it('a damaged file is told, and a new login keeps it beside the new one', async () => {
  await bought();
  const file = licenceFile();
  writeFileSync(file, '{"version":1,');
  const { code, err } = await tollgate('status');
  expect([code, err]).toEqual([1, expect.stringContaining(`${file} is damaged`)]);
  const { key } = seller.sell('pro');
  expect((await start(['login', '--key', '-'], { input: key }).ended).code).toBe(0);
  const kept = readdirSync(join(file, '..')).find((name) => name.includes('.damaged-')) as string;
  expect(readFileSync(join(file, '..', kept), 'utf8')).toBe('{"version":1,');
});

it('a purchase that cannot be written down is not begun', async () => {
  mkdirSync(join(home, 'tollgate'));
  writeFileSync(join(home, 'tollgate', 'purchases.json'), 'x');
  const { code, err } = await tollgate('buy', '--server', seller.url, '--plan', 'pro', '--no-open');
  expect([code, err]).toEqual([1, expect.stringContaining('purchases.json is damaged')]);
  expect(seller.requests).not.toContain('POST /billing/purchases');
});

it('the portal is an address, printed', async () => {
  await bought();
  expect((await tollgate('portal', '--no-open')).out).toBe(`${seller.url}/portal/session\n`);
});
