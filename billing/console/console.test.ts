import { TOTP } from 'otpauth';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from '../../test/billing.ts';
import { consoleBrowser, CONSOLE_PASSWORD as PASSWORD, PRO_KEY } from '../../test/console-browser.ts';
import { rawQuery } from '../../test/raw-sql.ts';
import type { Billing } from '../context.ts';
import { consoleRoutes } from './console.ts';

let test: BillingUnderTest;
beforeAll(async () => {
  // So that a request says which address it comes from.
  test = await startBillingUnderTest({ TRUSTED_PROXIES: '127.0.0.1' });
});
afterAll(() => test.close());

const newBrowser = (address?: string) => consoleBrowser(test.url, address);
async function signedIn(name = 'ada') {
  const browser = newBrowser();
  expect((await browser.signIn(name)).status).toBe(303);
  return browser;
}
const newKey = async (more: object = {}) => test.keystore.createKey({ ...PRO_KEY, ...more });

type Layer = {
  route?: { path: string; methods: Record<string, boolean> };
  handle: { stack?: Layer[] };
};
/** Every route of the console, as Express has it. */
function routes(): [method: string, path: string][] {
  const found: [string, string][] = [];
  const walk = (layers: Layer[]) => {
    for (const { route, handle } of layers) {
      if (route) {
        for (const method of Object.keys(route.methods).filter((each) => each !== '_all'))
          found.push([method.toUpperCase(), `/console${route.path.replace(':id', 'abcdefGHI123')}`]);
      } else if (handle.stack) walk(handle.stack);
    }
  };
  walk(
    consoleRoutes({ config: test.config, keystore: test.keystore, plans: test.config.plans } as Billing)
      .stack as unknown as Layer[],
  );
  return found;
}

describe('the console before there is a user', () => {
  it('is not there', async () => {
    expect(routes().length).toBeGreaterThan(12);
    for (const [method, path] of routes())
      expect((await newBrowser().send(method, path)).status, `${method} ${path}`).toBe(404);
  });
});

describe('the console', () => {
  beforeAll(async () => {
    for (const name of ['ada', 'bob'])
      await test.keystore.createConsoleUser({ name, password: PASSWORD, actor: 'test' });
  });

  describe('to whoever is not signed in', () => {
    it.each([
      ['without a session', ''],
      ['with a made-up one', `tollgate_console=${'A'.repeat(43)}`],
      ['with an empty one', 'tollgate_console='],
      ['with the hash of one', 'hash'],
    ])('shows nothing but the form to sign in: %s', async (_name, cookie) => {
      if (cookie === 'hash') {
        await signedIn();
        const [row] = await rawQuery(test.keystoreUrl, 'select token_hash from console_sessions');
        cookie = `tollgate_console=${row?.token_hash}`;
      }
      const key = await newKey();
      for (const [method, path] of routes()) {
        if (path === '/console/sign-in') continue;
        const to = path.replace('abcdefGHI123', key.id);
        const answer = await newBrowser().send(method, to, undefined, { Cookie: cookie });
        expect([answer.status, answer.headers.get('location')], `${method} ${to}`).toEqual([
          303,
          '/console/sign-in',
        ]);
        expect(await answer.text()).not.toContain(key.id);
      }
      expect((await newBrowser().get('/console/nothing-here')).headers.get('location')).toBe(
        '/console/sign-in',
      );
      expect((await test.keystore.findKey(key.id))?.revokedAt).toBeNull();
    });

    it('answers alike to a wrong password, a user there is not and one who is disabled', async () => {
      await test.keystore.createConsoleUser({ name: 'gone', password: PASSWORD, actor: 'test' });
      await test.keystore.disableConsoleUser({ name: 'gone', actor: 'test' });
      const answers = await Promise.all(
        [
          ['ada', 'wrong'],
          ['nobody', PASSWORD],
          ['gone', PASSWORD],
        ].map(async ([name, password]) => {
          const answer = await newBrowser().signIn(name as string, password);
          return [answer.status, answer.headers.getSetCookie(), await answer.text()];
        }),
      );
      expect(answers[0]?.[0]).toBe(401);
      expect(answers[0]?.[2]).toContain('Name, password or code wrong');
      expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    });

    it('does not keep or show what was typed in', async () => {
      const answer = await newBrowser().signIn('ada', 'hunter2hunter2hunter2');
      expect(await answer.text()).not.toContain('hunter2');
      expect(test.logLines.join('')).not.toContain('hunter2');
      expect(test.logLines.join('')).not.toContain(PASSWORD);
    });

    it('no answer is kept by a cache, framed, or runs what is not ours', async () => {
      const browser = await signedIn();
      for (const path of ['/console/sign-in', '/console/keys', '/console/events']) {
        const { headers } = await browser.get(path);
        expect(headers.get('cache-control')).toBe('no-store');
        expect(headers.get('content-security-policy')).toMatch(
          /default-src 'none';.*script-src 'self';.*form-action 'self';.*frame-ancestors 'none'/,
        );
      }
    });
  });

  describe('signing in', () => {
    it('sets a cookie that no script reads and no other site sends', async () => {
      const answer = await newBrowser().signIn('ada');
      expect(answer.headers.get('location')).toBe('/console');
      const [session, browser] = answer.headers.getSetCookie();
      expect(session).toMatch(/^tollgate_console=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/);
      expect(browser).toMatch(/^tollgate_console_browser=.*; HttpOnly; SameSite=Strict$/);
    });

    it('gives a new session whatever the browser had before, and ends that one', async () => {
      const browser = newBrowser();
      browser.cookies.set('tollgate_console', 'planted'.repeat(6));
      await browser.signIn('ada');
      const first = browser.cookies.get('tollgate_console') as string;
      expect(first).not.toContain('planted');
      await browser.signIn('ada');
      const second = browser.cookies.get('tollgate_console') as string;
      expect(second).not.toBe(first);
      browser.cookies.set('tollgate_console', first);
      expect((await browser.get('/console/keys')).status).toBe(303);
      browser.cookies.set('tollgate_console', second);
      expect((await browser.get('/console/keys')).status).toBe(200);
    });

    it('is over when signed out: the cookie is gone, and worth nothing', async () => {
      const browser = await signedIn();
      const kept = browser.cookies.get('tollgate_console') as string;
      expect((await browser.submit('/console/sign-out')).headers.get('location')).toBe('/console/sign-in');
      expect(browser.cookies.has('tollgate_console')).toBe(false);
      browser.cookies.set('tollgate_console', kept);
      expect((await browser.get('/console/keys')).status).toBe(303);
    });

    it('is over when the user is disabled', async () => {
      await test.keystore.createConsoleUser({ name: 'leaver', password: PASSWORD, actor: 'test' });
      const browser = await signedIn('leaver');
      expect((await browser.get('/console/keys')).status).toBe(200);
      await test.keystore.disableConsoleUser({ name: 'leaver', actor: 'test' });
      expect((await browser.get('/console/keys')).headers.get('location')).toBe('/console/sign-in');
      expect((await browser.signIn('leaver')).status).toBe(401);
    });

    it('is refused to a form of another site', async () => {
      const form = { name: 'ada', password: PASSWORD };
      for (const headers of [{ 'Sec-Fetch-Site': 'cross-site' }, { 'Sec-Fetch-Site': 'same-site' }]) {
        const answer = await newBrowser().send('POST', '/console/sign-in', form, headers);
        expect([answer.status, answer.headers.getSetCookie()]).toEqual([400, []]);
      }
    });

    it('is stopped after twenty tries from one address, whatever the names', async () => {
      const { address } = newBrowser();
      const statuses = [];
      for (let i = 0; i < 22; i++)
        statuses.push((await newBrowser(address).signIn(`someone-${i}`, 'wrong')).status);
      expect(statuses.slice(0, 20)).toEqual(Array(20).fill(401));
      const answer = await newBrowser(address).signIn('ada');
      expect(answer.status).toBe(429);
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      expect((await newBrowser().signIn('ada')).status).toBe(303);
    });

    it('is stopped after ten tries at one name, also at once and from many addresses; who signed in here before is let in', async () => {
      await test.keystore.createConsoleUser({ name: 'target', password: PASSWORD, actor: 'test' });
      const known = await signedIn('target');
      await known.submit('/console/sign-out');
      const statuses: number[] = [];
      for (let i = 0; i < 12; i++) statuses.push((await newBrowser().signIn('target', 'wrong')).status);
      expect(statuses.filter((status) => status === 401)).toHaveLength(10);
      expect((await newBrowser().signIn('target')).status).toBe(429);
      expect((await known.signIn('target')).status).toBe(303);
      // A browser that ada signed in by is not target's.
      const other = await signedIn('ada');
      expect((await other.signIn('target')).status).toBe(429);
      // And a known browser is not free to guess either.
      await known.submit('/console/sign-out');
      const guesses = [];
      for (let i = 0; i < 12; i++) guesses.push((await known.signIn('target', 'wrong')).status);
      expect(guesses.slice(-2)).toEqual([429, 429]);
    });

    it('many right passwords use up nothing', async () => {
      const browser = newBrowser();
      for (let i = 0; i < 25; i++) expect((await browser.signIn('bob')).status).toBe(303);
    });
  });

  describe('an account', () => {
    const account = (browser: ReturnType<typeof newBrowser>) => browser.page('/console/account');
    const secretOn = (page: string) => /name="secret" value="([A-Z2-7]{32})"/.exec(page)?.[1] ?? '';
    const codeOf = (secret: string, steps = 0) =>
      new TOTP({ secret }).generate({ timestamp: Date.now() + steps * 30_000 });
    const user = async (name: string) => {
      await test.keystore.createConsoleUser({ name, password: PASSWORD, actor: 'test' });
      return signedIn(name);
    };

    it('with a second factor signs in by password and code together', async () => {
      const browser = await user('cleo');
      const page = await account(browser);
      const secret = secretOn(page);
      expect(page).toContain('<svg');
      expect(page).toContain(secret.slice(0, 4));
      const setUp = (code: string, password = PASSWORD) =>
        browser.submit('/console/account/second-factor', { secret, code, password });
      const wrong = await setUp('000000');
      expect(wrong.status).toBe(400);
      // The app was told this one.
      expect(secretOn(await wrong.text())).toBe(secret);
      // Who finds a browser signed in does not have the password.
      expect((await setUp(codeOf(secret), 'not the password')).status).toBe(400);
      expect(await account(browser)).toContain('data-factor="none"');
      const used = codeOf(secret);
      expect((await setUp(used)).status).toBe(303);
      expect((await browser.get('/console')).headers.get('location')).toBe('/console/sign-in');

      const signIn = (code?: string, password = PASSWORD) =>
        newBrowser().send('POST', '/console/sign-in', {
          name: 'cleo',
          password,
          ...(code === undefined ? {} : { code }),
        });
      const code = codeOf(secret, 1);
      const refused = [
        await signIn(),
        await signIn(''),
        await signIn('000000'),
        await signIn(used),
        await signIn(code, 'not the password'),
      ];
      const texts = await Promise.all(refused.map((answer) => answer.text()));
      expect(refused.map(({ status }) => status)).toEqual(refused.map(() => 401));
      // Nothing tells a wrong password from a wrong code.
      expect(new Set(texts).size).toBe(1);
      expect(
        (await browser.send('POST', '/console/sign-in', { name: 'cleo', password: PASSWORD, code })).status,
      ).toBe(303);
      expect((await signIn(code)).status).toBe(401);
      expect(await account(browser)).not.toContain(secret);

      const bare = await browser.submit('/console/account/remove-second-factor', { code });
      expect(bare.status).toBe(400);
      expect(await account(browser)).toContain('data-factor="set_up"');
      // As if half a minute had gone by.
      await rawQuery(test.keystoreUrl, 'update console_users set totp_step = 0');
      expect((await browser.submit('/console/account/remove-second-factor', { code })).status).toBe(303);
      expect(await account(browser)).toContain('data-factor="none"');
      expect((await signIn()).status).toBe(303);
    });

    it('has its password changed by whoever knows the old one, and is signed out everywhere', async () => {
      const [browser, elsewhere] = [await user('dora'), await signedIn('dora')];
      const form = { password: PASSWORD, new_password: 'another password', again: 'another password' };
      for (const [fields, told] of [
        [{ ...form, password: 'wrong' }, 'The password is wrong.'],
        [{ ...form, again: 'another passwort' }, 'The new passwords differ.'],
        [{ ...form, new_password: 'short', again: 'short' }, 'A password has 12 to 256 characters.'],
        [{ ...form, more: 'x' }, 'The form'],
      ] as const) {
        const answer = await browser.submit('/console/account/password', fields);
        expect(answer.status, told).toBe(400);
        expect(await answer.text()).toContain(told);
      }
      expect((await browser.submit('/console/account/password', form)).status).toBe(303);
      for (const each of [browser, elsewhere])
        expect((await each.get('/console/keys')).headers.get('location')).toBe('/console/sign-in');
      expect((await newBrowser().signIn('dora')).status).toBe(401);
      expect((await newBrowser().signIn('dora', 'another password')).status).toBe(303);
    });

    it('lets nobody guess a code who has the password and many known browsers', async () => {
      const thief = [await user('finn'), await signedIn('finn'), await signedIn('finn')];
      const secret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ';
      expect(
        await test.keystore.setUpSecondFactor({ name: 'finn', secret, code: codeOf(secret), actor: 'test' }),
      ).toBe('set_up');
      const statuses: number[] = [];
      for (const browser of thief) {
        for (let i = 0; i < 5; i++) {
          const guess = { name: 'finn', password: PASSWORD, code: '000000' };
          statuses.push((await browser.send('POST', '/console/sign-in', guess)).status);
        }
      }
      expect(statuses).toEqual([...Array(10).fill(401), ...Array(5).fill(429)]);
      // Whoever does not have the password keeps nobody out.
      expect((await newBrowser().signIn('finn', 'not the password')).status).toBe(401);
    });

    it('lets nobody guess: ten tries in a quarter of an hour, also at once', async () => {
      const browser = await user('emil');
      const secret = secretOn(await account(browser));
      const formToken = await browser.formToken();
      const statuses = await Promise.all(
        Array.from({ length: 15 }, async () => {
          const form = { form_token: formToken, secret, code: '000000', password: PASSWORD };
          return (await browser.send('POST', '/console/account/second-factor', form)).status;
        }),
      );
      expect(statuses.filter((status) => status === 429)).toHaveLength(5);
      const password = { password: PASSWORD, new_password: 'another password', again: 'another password' };
      const refused = await browser.submit('/console/account/password', password);
      expect([refused.status, refused.headers.has('retry-after')]).toEqual([429, true]);
    });
  });

  describe('a form', () => {
    it.each([
      ['without a token', async () => ({})],
      ['with a made-up token', async () => ({ form_token: 'x'.repeat(43) })],
      [
        "with another session's token",
        async () => ({ form_token: await (await signedIn('bob')).formToken() }),
      ],
    ])('%s changes nothing, on any route', async (_name, token) => {
      const browser = await signedIn();
      const key = await newKey({ name: 'untouched' });
      const form = {
        confirm: key.id,
        name: 'changed',
        overlap_hours: '0',
        expires: '',
        addresses: '',
        plan: 'pro',
        ...(await token()),
      };
      for (const [method, path] of routes()) {
        if (method !== 'POST' || path === '/console/sign-in') continue;
        const to = path.replace('abcdefGHI123', key.id);
        expect((await browser.send('POST', to, form)).status, to).toBe(400);
      }
      expect(await test.keystore.findKey(key.id)).toMatchObject({
        name: 'untouched',
        revokedAt: null,
        replacedBy: null,
      });
      expect(await test.keystore.keyHistory(key.id)).toHaveLength(1);
      expect((await browser.get('/console/keys')).status).toBe(200);
    });

    it('with a good token from a page of another site changes nothing', async () => {
      const browser = await signedIn();
      const { id } = await newKey();
      const form = { form_token: await browser.formToken(), name: 'changed' };
      for (const headers of [
        { 'Sec-Fetch-Site': 'cross-site' },
        { 'Sec-Fetch-Site': undefined as unknown as string, Origin: 'https://evil.example' },
      ]) {
        const sent = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));
        const response = await fetch(`${test.url}/console/keys/${id}/name`, {
          method: 'POST',
          redirect: 'manual',
          headers: {
            Accept: 'text/html',
            Cookie: [...browser.cookies].map((pair) => pair.join('=')).join('; '),
            ...sent,
          },
          body: new URLSearchParams(form),
        });
        expect(response.status).toBe(400);
      }
      expect((await test.keystore.findKey(id))?.name).toBeNull();
    });
  });

  describe('keys', () => {
    let browser: Awaited<ReturnType<typeof signedIn>>;
    beforeEach(async () => {
      browser = await signedIn();
    });

    it('are made, shown once, and in the audit log with who and from where', async () => {
      const page = await (
        await browser.submit('/console/new-key', { plan: 'pro', name: 'for a friend', days: '30' })
      ).text();
      const [, plaintext = ''] = /<code id="key">(tg_test_\w+)</.exec(page) ?? [];
      const facts = await test.keystore.authenticateKey(plaintext);
      expect(facts).toMatchObject({ planId: 'pro', expiresAt: expect.any(Number) });
      const shown = await browser.page(`/console/keys/${facts?.id}`);
      expect(shown).toContain('for a friend');
      expect(shown).not.toContain(plaintext);
      expect(test.logLines.join('')).not.toContain(plaintext);
      expect(await test.keystore.keyHistory(facts?.id as string)).toEqual([
        expect.objectContaining({ actor: 'console:ada', address: browser.address, action: 'key.created' }),
      ]);
      const wrong = await browser.submit('/console/new-key', { plan: 'gold', name: '', days: '' });
      expect([wrong.status, await wrong.text()]).toEqual([400, expect.stringContaining('There is no plan')]);
    });

    it('are noted on, limited to addresses, given an end, replaced and revoked, each with before and after', async () => {
      const { id } = await newKey({ name: 'old' });
      const at = `/console/keys/${id}`;
      for (const [action, form] of [
        ['name', { name: ' new ' }],
        ['addresses', { addresses: '192.0.2.0/24\n2001:db8::1' }],
        ['expiry', { expires: '2999-01-31T12:00' }],
        ['expiry', { expires: '' }],
      ] as const) {
        const answer = await browser.submit(`${at}/${action}`, form);
        expect([answer.status, answer.headers.get('location')], action).toEqual([303, at]);
      }
      const rotated = await (await browser.submit(`${at}/rotate`, { overlap_hours: '24' })).text();
      const [, successor = ''] = /<code id="key">(tg_test_\w+)</.exec(rotated) ?? [];
      expect((await test.keystore.authenticateKey(successor))?.rootId).toBe(id);
      expect((await browser.submit(`${at}/revoke`, { confirm: id, leaked: 'yes' })).status).toBe(303);
      expect(await test.keystore.findKey(id)).toMatchObject({
        name: 'new',
        allowedAddresses: ['192.0.2.0/24', '2001:db8::1'],
        revokedReason: 'leaked',
      });
      const history = await test.keystore.keyHistory(id);
      expect(history.slice(1).map(({ actor, address }) => [actor, address])).toEqual(
        Array(6).fill(['console:ada', browser.address]),
      );
      expect(history.slice(1).map(({ action, details }) => [action, JSON.parse(details as string)])).toEqual([
        ['key.named', { from: 'old', to: 'new' }],
        ['key.addresses_allowed', { addresses: ['192.0.2.0/24', '2001:db8::1'], before: 'any' }],
        ['key.expiry_set', { from: null, to: Date.UTC(2999, 0, 31, 12) }],
        ['key.expiry_set', { from: Date.UTC(2999, 0, 31, 12), to: null }],
        ['key.rotated', expect.objectContaining({ old_key: id })],
        ['key.revoked', { reason: 'leaked' }],
      ]);
    });

    it('are suspended and resumed, and given limits of their own, each with before and after', async () => {
      const { id } = await newKey();
      const at = `/console/keys/${id}`;
      const sent = async (action: string, form: Record<string, string>) =>
        expect((await browser.submit(`${at}/${action}`, form)).headers.get('location'), action).toBe(at);
      await sent('suspend', { note: ' asked for a <b>call</b> ' });
      const suspended = await browser.page(at);
      expect(suspended).toContain('Key suspended by the seller (suspended_by_seller)');
      expect(suspended).toContain('asked for a &lt;b&gt;call&lt;/b&gt;');
      for (const state of ['suspended', 'suspended_by_seller'])
        expect(await browser.page(`/console/keys?state=${state}`), state).toContain(`href="${at}"`);
      expect(await browser.page('/console/keys?state=active')).not.toContain(`href="${at}"`);
      await sent('resume', {});
      expect(await browser.page('/console/keys?state=suspended_by_seller')).not.toContain(`href="${at}"`);
      await sent('limits', { limits: '600 per minute\r\n10 per second', quota: '50000' });
      const limited = await browser.page(at);
      expect(limited).toContain('10 requests a second, 600 requests a minute, a quota of 50,000');
      expect(limited).toContain('10 per second\n600 per minute</textarea>');
      await sent('limits', { limits: '', quota: '' });
      expect(await browser.page(at)).not.toContain('<dt>Limits of its own');
      const history = await test.keystore.keyHistory(id);
      expect(history.slice(1).map(({ actor, address }) => [actor, address])).toEqual(
        Array(4).fill(['console:ada', browser.address]),
      );
      const own = { limits: ['10 per second', '600 per minute'], quota: 50_000 };
      expect(history.slice(1).map(({ action, details }) => [action, JSON.parse(details as string)])).toEqual([
        ['key.suspended', { note: 'asked for a <b>call</b>' }],
        ['key.resumed', { since: expect.any(Number), note: 'asked for a <b>call</b>' }],
        ['key.limits_overridden', { from: "the plan's", to: own }],
        ['key.limits_overridden', { from: own, to: "the plan's" }],
      ]);
    });

    it('what cannot be done is said on the page of the key, and changes nothing', async () => {
      const { id } = await newKey();
      for (const [action, form, words] of [
        ['revoke', { confirm: 'something else' }, 'not the id of this key'],
        ['addresses', { addresses: '192.0.2.300' }, 'neither an address nor a range'],
        ['expiry', { expires: 'tomorrow' }, 'Expires'],
        ['rotate', { overlap_hours: '721' }, 'is at most 720'],
        ['name', { name: 'x'.repeat(201) }, 'is at most 200 characters'],
        ['name', { name: 'x', more: 'y' }, 'Request not valid'],
        ['release', { device: 'nothing' }, 'held no place'],
        ['suspend', { note: 'x'.repeat(201) }, 'Note is at most 200 characters'],
        ['resume', {}, 'You did not suspend this key'],
        ['limits', { limits: '600', quota: '' }, 'and not something like'],
        ['limits', { limits: '5 per minute, 9 per 60s', quota: '' }, 'Limits have two per minute'],
        ['limits', { limits: '', quota: '0' }, 'Quota is at least 1'],
        ['limits', { limits: '', quota: 'many' }, 'Quota is a whole number'],
      ] as const) {
        const answer = await browser.submit(`/console/keys/${id}/${action}`, form);
        const page = await answer.text();
        expect(answer.status, action).toBeGreaterThanOrEqual(400);
        expect(page).toContain(words);
        expect(page).toContain('What was done to it');
      }
      expect(await test.keystore.keyHistory(id)).toHaveLength(1);
      await test.keystore.revokeKey({ id, reason: 'operator', actor: 'test' });
      for (const [action, form] of [
        ['revoke', { confirm: id }],
        ['rotate', { overlap_hours: '1' }],
        ['expiry', { expires: '' }],
        ['suspend', { note: '' }],
        ['resume', {}],
        ['limits', { limits: '', quota: '5' }],
      ] as const)
        expect(
          (await browser.submit(`/console/keys/${id}/${action}`, form)).status,
          action,
        ).toBeGreaterThanOrEqual(400);
      expect((await browser.get('/console/keys/nosuchkey000')).status).toBe(404);
      expect((await browser.submit('/console/keys/nosuchkey000/name', { name: 'x' })).status).toBe(404);
    });

    it('are found by id, last four, e-mail in any case, customer, subscription and purchase at once', async () => {
      const sessionId = await test.buy('team');
      await vi.waitFor(async () =>
        expect((await test.keystore.findPurchase(sessionId))?.status).toBe('provisioned'),
      );
      const { keyId, id: purchaseId } = (await test.keystore.findPurchase(sessionId))!;
      const key = (await test.keystore.findKey(keyId as string))!;
      for (const text of [
        key.id,
        key.lastFour,
        key.email?.toUpperCase(),
        key.customerId,
        key.stripeCustomerId,
        key.subscriptionId,
        purchaseId,
      ]) {
        const page = await browser.page(`/console/keys?q=${encodeURIComponent(text as string)}`);
        expect(page, text as string).toContain(`href="/console/keys/${key.id}"`);
      }
      expect(await browser.page('/console/keys?q=nothing-like-it')).toContain('No key is like that');
      const shown = await browser.page(`/console/keys/${key.id}`);
      for (const text of [key.stripeCustomerId, key.subscriptionId, purchaseId, 'The subscription is active'])
        expect(shown).toContain(text);
    });

    it('as a CSV file: all of the filter, formulas as text', async () => {
      await newKey({ planId: 'internal', name: '=HYPERLINK("http://evil.example")' });
      await newKey({ planId: 'internal', name: 'a, "b"' });
      const answer = await browser.get('/console/keys.csv?plan=internal');
      expect(answer.headers.get('content-type')).toContain('text/csv');
      expect(answer.headers.get('content-disposition')).toBe('attachment; filename=keys.csv');
      const lines = (await answer.text()).trimEnd().split('\r\n');
      expect(lines[0]).toMatch(/^key_id,last_four,state,plan,name,email/);
      expect(lines).toHaveLength(3);
      expect(lines.filter((line) => line.includes(',active,internal,"a, ""b""",'))).toHaveLength(1);
      expect(lines.filter((line) => line.includes(`,"'=HYPERLINK(""http://evil.example"")",`))).toHaveLength(
        1,
      );
    });
  });

  it('customers and purchases are found by what names them, each with what is theirs', async () => {
    const browser = await signedIn();
    const sessionId = await test.buy('team');
    await vi.waitFor(async () =>
      expect((await test.keystore.findPurchase(sessionId))?.status).toBe('provisioned'),
    );
    const purchase = (await test.keystore.findPurchase(sessionId))!;
    const key = (await test.keystore.findKey(purchase.keyId as string))!;
    for (const text of [key.email, key.customerId, key.stripeCustomerId, key.subscriptionId, key.id]) {
      const q = encodeURIComponent(text as string);
      expect(await browser.page(`/console/customers?q=${q}`), `${text}`).toContain(
        `href="/console/customers/${key.customerId}"`,
      );
      expect(await browser.page(`/console/purchases?q=${q}&status=provisioned`), `${text}`).toContain(
        `href="/console/purchases/${purchase.id}"`,
      );
    }
    expect(await browser.page('/console/customers?q=nobody')).toContain('No customer is like that');
    expect(await browser.page('/console/purchases?q=nothing')).toContain('No purchase is like that');
    const customer = await browser.page(`/console/customers/${key.customerId}`);
    for (const text of [key.email, key.id, key.subscriptionId, purchase.id]) expect(customer).toContain(text);
    const page = await browser.page(`/console/purchases/${purchase.id}`);
    for (const text of [key.email, key.id, key.subscriptionId, '<dt>Paid</dt><dd>$'])
      expect(page).toContain(text);
    expect(page).not.toContain(sessionId);
    for (const path of ['/console/customers/nobody', '/console/purchases/pur_nothing'])
      expect((await browser.get(path)).status).toBe(404);
    for (const path of [
      '/console/customers?before=x',
      '/console/purchases?before=1',
      '/console/keys?before=.',
    ])
      expect((await browser.get(path)).status, path).toBe(400);
  });

  it('events are listed, filtered, shown without what opens a key, and replayed', async () => {
    const browser = await signedIn();
    const session = await test.paidSession();
    await vi.waitFor(async () => expect((await test.keystore.inboxDepth()).pending).toBe(0));
    const list = await browser.page('/console/events?type=checkout.session.completed&status=processed');
    const [, id = ''] = /href="\/console\/events\/(evt_\w+)"/.exec(list) ?? [];
    const page = await browser.page(`/console/events/${id}`);
    expect(page).toContain('cs_test_[redacted]');
    expect(page).not.toContain(session);
    const replayed = await browser.submit(`/console/events/${id}/replay`);
    expect(replayed.headers.get('location')).toBe(`/console/events/${id}`);
    const [entry] = await rawQuery(
      test.keystoreUrl,
      "select actor, address from audit where action = 'event.replayed'",
    );
    expect(entry).toEqual({ actor: 'console:ada', address: browser.address });
    expect((await browser.get('/console/events/evt_nope')).status).toBe(404);
    expect((await browser.get('/console/events?status=odd')).status).toBe(400);
    expect(await browser.page('/console/events?type=odd')).toContain('No event is like that');
  });

  it('what somebody else wrote reaches every page as text', async () => {
    const browser = await signedIn();
    const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`;
    const sessionId = await test.buy('team');
    await vi.waitFor(async () =>
      expect((await test.keystore.findPurchase(sessionId))?.status).toBe('provisioned'),
    );
    const {
      id: purchaseId,
      keyId,
      customerId,
      subscriptionId,
    } = (await test.keystore.findPurchase(sessionId))!;
    // Nothing that still comes from Stripe writes over it.
    await vi.waitFor(async () => expect((await test.keystore.inboxDepth()).pending).toBe(0));
    const quoted = evil.replaceAll("'", "''");
    for (const sql of [
      `update customers set email = '${quoted}' where id = '${customerId}'`,
      `update subscriptions set plan_id = '${quoted}' where id = '${subscriptionId}'`,
      `update keys set name = '${quoted}', suspended_at = 1, suspended_note = '${quoted}', override_limits = '[{"name":${JSON.stringify(evil).replaceAll("'", "''")},"requests":1,"seconds":7}]', allowed_addresses = '[${JSON.stringify(evil).replaceAll("'", "''")}]' where id = '${keyId}'`,
      `update customers set entitlements = '[${JSON.stringify(evil).replaceAll("'", "''")}]' where id = '${customerId}'`,
      `update purchases set plan_id = '${quoted}', price_id = '${quoted}', failure = '${quoted}' where key_id = '${keyId}'`,
      `insert into audit (at, actor, address, action, key_id, details) values (1, '${quoted}', '${quoted}', '${quoted}', '${keyId}', '${quoted}')`,
      `insert into licence_attempts (at, key_id, action, device_id, outcome, address) values (1, '${keyId}', '${quoted}', '${quoted}', '${quoted}', '${quoted}')`,
      `insert into traffic_by_hour (hour, what, name, count) values (${Math.floor(Date.now() / 3_600_000)}, 'refusals', '${quoted}', 3), (${Math.floor(Date.now() / 3_600_000)}, 'requests', '${quoted}', 3)`,
      `insert into refusals (at, request_id, key_id, code, method, host, path, address) values (1, '${quoted}', '', '${quoted}', 'GET', 'h', '/', '::1')`,
      `update events set type = '${quoted}', error = '${quoted}', outcome = '${quoted}', payload = '${JSON.stringify({ metadata: { note: evil } }).replaceAll("'", "''")}' where id in (select id from events order by received_at desc limit 1)`,
    ])
      await rawQuery(test.keystoreUrl, sql);
    const [event] = await rawQuery(test.keystoreUrl, `select id from events where type = '${quoted}'`);
    const pages = [
      '/console',
      '/console/keys',
      `/console/keys/${keyId}`,
      `/console/keys?q=${encodeURIComponent(evil)}`,
      `/console/keys?plan=${encodeURIComponent(evil)}`,
      `/console/why?id=${keyId}`,
      '/console/events',
      `/console/events?type=${encodeURIComponent(evil)}`,
      `/console/events/${event?.id}`,
      '/console/customers',
      `/console/customers?q=${encodeURIComponent(evil)}`,
      `/console/customers/${customerId}`,
      '/console/purchases',
      `/console/purchases?q=${encodeURIComponent(evil)}`,
      `/console/purchases/${purchaseId}`,
    ];
    for (const path of pages) {
      const page = await browser.page(path);
      expect(page, path).not.toMatch(/<script>alert|<img src=x/);
      expect(page, path).toContain('&lt;script&gt;alert(1)');
    }
    const failed = await browser.submit('/console/new-key', { plan: evil, name: evil, days: '' });
    expect(await failed.text()).not.toMatch(/<script>alert|<img src=x/);
    const back = await newBrowser().signIn(evil.slice(0, 40), evil);
    expect(await back.text()).not.toMatch(/<script>alert|<img src=x/);
  });

  it('behind https: cookies that only this host can set, over TLS', async () => {
    await test.restart({ PUBLIC_BILLING_URL: 'https://buy.example.com' });
    const answer = await newBrowser().signIn('ada');
    for (const cookie of answer.headers.getSetCookie())
      expect(cookie).toMatch(
        /^__Host-tollgate_console(_browser)?=[^;]+; (Max-Age=.*; )?Path=\/; .*HttpOnly; Secure; SameSite=Strict$/,
      );
    expect(answer.headers.getSetCookie()).toHaveLength(2);
    await test.restart();
  });

  it('a keystore that is away is our failure: 503, and nobody is signed out', async () => {
    const browser = await signedIn();
    await rawQuery(test.keystoreUrl, 'alter table console_sessions rename to hidden_sessions');
    expect((await browser.get('/console/keys')).status).toBe(503);
    await rawQuery(test.keystoreUrl, 'alter table hidden_sessions rename to console_sessions');
    expect((await browser.get('/console/keys')).status).toBe(200);
  });
});
