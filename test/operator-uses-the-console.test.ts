import { TOTP } from 'otpauth';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { look, signInAtConsole, useBrowser } from './browser.ts';
import { PRO_KEY } from './console-browser.ts';
import { licencePlansFile } from './licences.ts';
import { rawQuery } from './raw-sql.ts';

const PASSWORD = 'correct horse battery';
const HOUR_MS = 3_600_000;

describe('an operator', () => {
  let test: BillingUnderTest;
  const { newPage } = useBrowser({ statuses: [400, 401, 404] });
  beforeAll(async () => {
    test = await startBillingUnderTest({ PLANS_FILE: licencePlansFile() });
    await test.keystore.createConsoleUser({ name: 'ada', password: PASSWORD, actor: 'test' });
  });
  afterAll(() => test?.close());

  const signIn = (page: Page, as: { name?: string; password?: string; code?: string } = {}) =>
    signInAtConsole(page, test.url, { password: PASSWORD, ...as });

  it('sets up a second factor, signs in by it, and removes it', async () => {
    const name = 'cleo';
    await test.keystore.createConsoleUser({ name, password: PASSWORD, actor: 'test' });
    const page = await newPage();
    await signIn(page, { name });
    await page.locator('#who').click();
    await page.locator('#factor[data-factor="none"]').waitFor();
    await look(page, 'console-16-account');
    const secret = ((await page.locator('#totp-secret').textContent()) ?? '').replaceAll(' ', '');
    const codeInSteps = (steps: number) =>
      new TOTP({ secret }).generate({ timestamp: Date.now() + steps * 30_000 });
    const setUp = async (code: string) => {
      await page.locator('#code').fill(code);
      await page.locator('#password-to-set-up').fill(PASSWORD);
      await page.locator('#set-up').click();
    };
    await setUp('000000');
    await page.getByRole('alert').waitFor();
    await look(page, 'console-17-wrong-code');
    // With the secret that the app was told before.
    await setUp(codeInSteps(0));
    await page.locator('#sign-in').waitFor();
    await signIn(page, { name });
    expect(await page.getByRole('alert').textContent()).toContain('Name, password or code wrong');
    await signIn(page, { name, code: codeInSteps(1) });
    await page.locator('#who').click();
    await page.locator('#factor[data-factor="set_up"]').waitFor();
    await look(page, 'console-18-second-factor');
    // As if half a minute had gone by.
    await rawQuery(test.keystoreUrl, 'update console_users set totp_step = 0');
    await page.locator('#code').fill(codeInSteps(0));
    await page.locator('#remove').click();
    await page.locator('#factor[data-factor="none"]').waitFor();
    await page.getByLabel('Your password now').fill(PASSWORD);
    await page.getByLabel('The new one (12').fill('another password');
    await page.getByLabel('The new one once more').fill('another password');
    await page.locator('#change-password').click();
    await page.locator('#sign-in').waitFor();
    await signIn(page, { name, password: 'another password' });
    await page.locator('#who').waitFor();
  });

  it('who has nothing yet sees that', async () => {
    const page = await newPage();
    await page.goto(`${test.url}/console`);
    expect(page.url()).toBe(`${test.url}/console/sign-in`);
    await look(page, 'console-1-sign-in');
    await signIn(page, { password: 'not the password' });
    expect(await page.getByRole('alert').textContent()).toContain('Name, password or code wrong');
    await look(page, 'console-2-wrong');
    await signIn(page);
    await page.getByRole('link', { name: 'Keys', exact: true }).click();
    await page.locator('#none').waitFor();
    await look(page, 'console-3-empty-keys');
    await page.getByRole('link', { name: 'Events', exact: true }).click();
    await page.getByLabel('Status').selectOption('failed');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.getByText('No event is like that').waitFor();
    await look(page, 'console-3-empty-events');
  });

  it('makes a key, sees it once, limits, replaces and revokes it', async () => {
    const page = await newPage();
    await signIn(page);
    await page.getByRole('link', { name: 'Keys', exact: true }).click();
    await page.getByRole('link', { name: 'Make a key' }).click();
    await page.getByLabel('Plan').selectOption('pro');
    await page.getByLabel('Note').fill('For Grace, <b>who</b> helps us');
    await look(page, 'console-4-new-key');
    await page.getByRole('button', { name: 'Make the key' }).click();
    const plaintext = (await page.locator('#key').textContent()) as string;
    await look(page, 'console-5-shown-once');
    await page.reload();
    expect(await page.content()).not.toContain(plaintext);
    const { id, rootId } = (await test.keystore.authenticateKey(plaintext))!;
    expect(page.url()).toBe(`${test.url}/console/keys/${id}`);

    const hour = Math.floor(Date.now() / HOUR_MS);
    const rows = Array.from({ length: 29 }, (_, day) => ({
      keyId: id,
      hour: hour - day * 24,
      requests: 1 + ((day * 7919) % 900),
      refused: 0,
    }));
    await test.keystore.recordUsage(rows, () => {});
    await test.keystore.activateDevice({
      rootId,
      keyId: id,
      device: { id: 'laptop-of-grace', name: 'Laptop' },
      places: { devices: 3, freeAfterMs: null },
      actor: 'test',
    });
    await test.keystore.noteLicenceAttempt({
      keyId: id,
      action: 'activate',
      deviceId: 'laptop-of-grace',
      outcome: 'ok',
      address: '192.0.2.7',
    });
    await page.getByLabel('May be used from').fill('192.0.2.0/24\n2001:db8::/32');
    await page.getByRole('button', { name: 'Save the addresses' }).click();
    await page.getByText('key.addresses_allowed').waitFor();
    expect(await page.locator('.chart .period').count()).toBe(30);
    await page.getByLabel('May be used from').fill('not an address');
    await page.getByRole('button', { name: 'Save the addresses' }).click();
    expect(await page.getByRole('alert').textContent()).toContain('neither an address nor a range');
    await page.reload();
    await look(page, 'console-6-key');
    await page.getByLabel('Limits of its own').fill('10 per second\n600 per minute');
    await page.getByLabel('Quota of its own').fill('50000');
    await page.getByRole('button', { name: 'Save the limits' }).click();
    await page.getByText('key.limits_overridden').waitFor();
    expect(await page.locator('dl').textContent()).toContain('10 requests a second, 600 requests a minute');
    await page.getByLabel('why, for yourself').fill('Asked for a <i>call</i> first');
    await page.getByRole('button', { name: 'Suspend this key' }).click();
    await page.getByText('key.suspended').waitFor();
    expect(await page.locator('#standing').textContent()).toBe('suspended');
    expect(await page.locator('dl').textContent()).toContain('Asked for a <i>call</i> first');
    await look(page, 'console-6-key-suspended');
    await page.getByRole('button', { name: 'Resume this key' }).click();
    await page.getByText('key.resumed').waitFor();
    expect(await page.locator('#standing').textContent()).toBe('active');
    await page.getByRole('button', { name: 'Release' }).click();
    await page.getByText('device.released').waitFor();

    await page.getByRole('button', { name: 'Replace this key' }).click();
    await page.locator('#key').waitFor();
    await page.getByRole('link', { name: 'To the page of this key' }).click();
    await page.locator('a', { hasText: id }).click();
    await page.getByLabel('Switch it off for good').fill(id);
    await page.getByRole('button', { name: 'Revoke this key' }).click();
    await page.getByText('key.revoked').first().waitFor();
    expect(await page.locator('#standing').textContent()).toBe('revoked');
    expect(await page.locator('#why').textContent()).toContain('The seller switched this key off');
    await look(page, 'console-7-revoked');
    expect(await page.getByRole('button', { name: 'Revoke this key' }).count()).toBe(0);
  });

  it('asks why a customer is refused, by key, by key id and by request id', async () => {
    const { plaintext, id } = await test.keystore.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'api',
      name: null,
      expiresAt: null,
      actor: 'test',
    });
    await test.keystore.recordRefusals([
      {
        at: Date.now(),
        requestId: 'request-of-a-customer',
        keyId: id,
        code: 'rate_limited',
        detail: 'The plan API allows 60 requests a minute. <b>Really</b>',
        method: 'GET',
        host: 'api.example.com',
        path: '/v1/items',
        route: null,
        address: '192.0.2.7',
      },
    ]);
    const page = await newPage();
    await signIn(page);
    await page.getByRole('link', { name: 'Why?' }).first().click();
    await look(page, 'console-13-why');
    const ask = async (text: string) => {
      await page.getByLabel('Key id, request id').fill(text);
      await page.getByRole('button', { name: 'Ask' }).click();
    };
    await ask(plaintext);
    await page.locator('#verdict').waitFor();
    expect(page.url()).toBe(`${test.url}/console/why?id=${id}`);
    expect(await page.locator('#verdict').textContent()).toContain('would be forwarded');
    expect(await page.locator('#alone').textContent()).toContain('from the keystore alone');
    expect(await page.locator('#refusals').textContent()).toContain('60 requests a minute. <b>Really</b>');
    await look(page, 'console-14-admitted');
    await ask('request-of-a-customer');
    await page.getByText('was answered 429 rate_limited').waitFor();
    await ask(`${plaintext.slice(0, -1)}!`);
    expect(await page.getByRole('alert').textContent()).toContain('not a whole key');
    expect(page.url()).toBe(`${test.url}/console/why`);
    await ask('nosuchthing');
    expect(await page.getByRole('alert').textContent()).toContain('Nothing is known by this id');

    await test.keystore.revokeKey({ id, reason: 'leaked', actor: 'test' });
    await page.goto(`${test.url}/console/why?id=${id}`);
    expect(await page.locator('#verdict').textContent()).toContain('would be answered 401 revoked_key');
    await look(page, 'console-15-refused');
  });

  it('finds a key and an event among many, and puts the event back to work', async () => {
    const session = await test.paidSession();
    await vi.waitFor(async () =>
      expect(await test.keystore.findPurchase(session)).toMatchObject({ status: 'provisioned' }),
    );
    const bought = (await test.keystore.findPurchase(session))!;
    const key = (await test.keystore.findKey(bought.keyId as string))!;
    await rawQuery(
      test.keystoreUrl,
      `with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
       insert into keys (id, root_id, mode, prefix, hash, tag, last_four, plan_id, name, created_at)
       select 'k' || (10000000000 + i), 'k' || (10000000000 + i), 'test', 'tg', 'x', 1, 'zz' || (i % 90 + 10), 'pro', 'customer ' || i,
         1790000000000 + i * 1000
       from n`,
    );
    await rawQuery(
      test.keystoreUrl,
      `insert into events (id, group_key, type, mode, payload, status, outcome, attempts, next_attempt_at, error, created_at, received_at)
       values ('evt_failed', 'evt_failed', 'checkout.session.completed', 'test', '{"id":"evt_failed"}', 'failed', 'unknown_price', 9, 0,
         'price_1QxYz stands for no plan: map it in STRIPE_PRICE_MAP', 1, 1790000000000)`,
    );
    const page = await newPage();
    await signIn(page);
    await page.getByRole('link', { name: 'Keys', exact: true }).click();
    await page.locator('#keys').waitFor();
    expect(await page.locator('#keys tbody tr').count()).toBe(50);
    await look(page, 'console-8-full-keys');
    const first = await page.locator('#keys tbody th').first().textContent();
    await page.locator('#next').click();
    await page.getByRole('link', { name: 'Newest' }).waitFor();
    expect(await page.locator('#keys tbody th').first().textContent()).not.toBe(first);

    // By keyboard.
    await page.getByLabel('Find').focus();
    await page.keyboard.type(key.stripeCustomerId as string);
    await page.keyboard.press('Enter');
    await page.waitForURL(/q=cus_/);
    expect(await page.locator('#keys tbody tr').count()).toBe(1);
    await page.getByRole('link', { name: key.id }).click();
    await page.getByText('The subscription is active').waitFor();
    await look(page, 'console-9-bought');

    // Whoever pastes a customer's key leaves it in no address.
    const { plaintext, id } = await test.keystore.createKey(PRO_KEY);
    await page.getByRole('link', { name: 'Customers', exact: true }).click();
    const visited: string[] = [];
    page.on('request', (request) => visited.push(request.url()));
    await page.getByLabel('Find').fill(`${plaintext.slice(0, -1)}!`);
    await page.getByRole('button', { name: 'Show' }).click();
    expect(await page.getByRole('alert').textContent()).toContain('not a whole key');
    expect(await page.getByLabel('Find').inputValue()).toBe('');
    await look(page, 'console-9-searched-by-a-key');
    await page.getByLabel('Find').fill(plaintext);
    await page.getByRole('button', { name: 'Show' }).click();
    await page.waitForURL(`${test.url}/console/keys/${id}`);
    expect(visited.filter((url) => url.includes(plaintext.slice(8, 40)))).toEqual([]);

    await page.getByRole('link', { name: 'Events', exact: true }).click();
    await look(page, 'console-10-events');
    for (const section of ['Customers', 'Purchases']) {
      await page.getByRole('link', { name: section, exact: true }).click();
      await page.locator('tbody a').first().waitFor();
      await look(page, `console-12-${section.toLowerCase()}`);
      await page.locator('tbody th a').first().click();
      await page.locator('#state').waitFor();
      await look(page, `console-12-one-of-${section.toLowerCase()}`);
    }
    await page.getByRole('link', { name: 'Events', exact: true }).click();
    await page.getByLabel('Status').selectOption('failed');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.getByRole('link', { name: 'evt_failed' }).click();
    await page.getByText('stands for no plan').waitFor();
    await look(page, 'console-11-event');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.waitForURL(`${test.url}/console/sign-in`);
    await page.goBack();
    await page.reload();
    expect(page.url()).toBe(`${test.url}/console/sign-in`);

    await signIn(page);
    await page.goto(`${test.url}/console/events/evt_failed`);
    await page.getByRole('button', { name: 'Put it back to work' }).click();
    await vi.waitFor(async () =>
      expect((await test.keystore.findEvent('evt_failed'))?.status).toBe('processed'),
    );
  });
});
