import { setTimeout as pause } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../scripts/free-port.ts';
import { look, SIZES, useBrowser } from './browser.ts';
import { type ReceivedMail, startSmtp, type TestSmtp } from './smtp.ts';
import { controlSandbox, startTollgateUnderTest } from './tollgate.ts';

const DAY_S = 86_400;

describe('a buyer who has a key', () => {
  let smtp: TestSmtp;
  let tollgate: Awaited<ReturnType<typeof startTollgateUnderTest>>;
  let billingUrl: string;
  const { newPage } = useBrowser({ statuses: [401, 409, 410, 503] });
  beforeAll(async () => {
    smtp = await startSmtp();
    const port = await freePort();
    // The sandbox is at 127.0.0.1: for a browser that is another site than localhost, as Stripe is.
    billingUrl = `http://localhost:${port}`;
    tollgate = await startTollgateUnderTest({
      BILLING_PORT: String(port),
      PUBLIC_BILLING_URL: billingUrl,
      SMTP_URL: smtp.url,
      MAIL_FROM: 'Demo API <api@example.com>',
    });
  });
  afterAll(async () => {
    await tollgate?.close();
    await smtp?.close();
  });

  const state = (page: Page) => page.locator('#state').getAttribute('data-status');
  async function buyKey(page: Page, plan: string, email: string, card = 'success'): Promise<string> {
    await page.goto(`${billingUrl}/`);
    await page.getByRole('button', { name: `Buy ${plan}` }).click();
    await page.getByLabel('Email').fill(email);
    const method = page.locator(`input[name="card"][value="${card}"]`);
    if (await method.count()) await method.check();
    await page.locator('#pay').click();
    await page.locator('#reveal').click();
    return (await page.locator('#key').textContent()) as string;
  }
  /** Signs in, out of another sign-in first. */
  async function signIn(page: Page, key: string): Promise<void> {
    await page.context().clearCookies();
    await page.goto(`${billingUrl}/billing/manage`);
    await page.getByLabel('Your API key').fill(key);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('#key-id, [role="alert"]').first().waitFor();
  }
  const use = (key: string, path = '/v1/echo') =>
    fetch(`${tollgate.gateway.url}${path}`, { headers: { 'X-API-Key': key } });
  const mailed = (to: string, words: string): Promise<ReceivedMail> =>
    vi.waitFor(() => {
      const mail = smtp.mails.findLast((each) => each.to.includes(to) && each.subject.includes(words));
      expect(mail).toBeDefined();
      return mail!;
    });

  it('sees the plan, replaces the key, cancels at Stripe, loses the key and gets another', async () => {
    const email = 'buyer@example.com';
    const page = await newPage(SIZES.narrow);
    const key = await buyKey(page, 'Pro', email);
    for (let i = 0; i < 3; i++) expect((await use(key)).status).toBe(200);

    await page.goto(`${billingUrl}/billing/manage`);
    expect(await state(page)).toBe('signed_out');
    await look(page, 'manage-1-sign-in');
    await signIn(page, `${key.slice(0, -1)}!`);
    expect(await state(page)).toBe('signed_out');
    await look(page, 'manage-2-wrong-key');
    await signIn(page, key);
    expect(page.url()).toBe(`${billingUrl}/billing/manage`);
    expect(await state(page)).toBe('active');
    await vi.waitFor(async () => {
      await page.reload();
      expect(await page.locator('#used').textContent()).toBe('3');
    });
    await look(page, 'manage-3-plan');
    expect(await page.content()).not.toContain(key);

    // A new key; the old one goes on for a while, and both are one customer.
    expect(await page.getByLabel('The old key works for').inputValue()).toBe('24');
    await page.getByRole('button', { name: 'Replace this key' }).click();
    const newKey = (await page.locator('#key').textContent()) as string;
    expect(newKey).not.toBe(key);
    await look(page, 'manage-4-new-key');
    for (const each of [key, newKey]) expect((await use(each)).status).toBe(200);
    await mailed(email, 'was replaced');
    await page.reload();
    expect(page.url()).toBe(`${billingUrl}/billing/manage`);
    expect(await page.locator('#last-four').textContent()).toBe(`…${newKey.slice(-4)}`);
    await signIn(page, key);
    expect(await page.locator('#replaced').textContent()).toContain('works until');
    await look(page, 'manage-5-replaced');
    await signIn(page, newKey);

    // Stripe's portal is another site: the way back has to find the sign-in again.
    await page.getByRole('button', { name: 'Open the Stripe portal' }).click();
    await page.locator('#return').waitFor();
    await look(page, 'manage-6-portal');
    expect(new URL(page.url()).hostname).toBe('127.0.0.1');
    await page.locator('.cancel').first().click();
    await page.locator('.keep').first().waitFor();
    await page.locator('#return').click();
    await page.waitForURL(`${billingUrl}/billing/manage`);
    expect(await page.locator('#standing').textContent()).toMatch(/^Ends on \d+ \w+ \d{4}$/);
    expect(await page.locator('#standing-text').textContent()).toContain('It was canceled');
    await look(page, 'manage-7-canceled');

    // Lost.
    await page.getByRole('button', { name: 'Sign out' }).click();
    expect(await state(page)).toBe('signed_out');
    await page.getByRole('link', { name: 'Lost your key?' }).first().click();
    await look(page, 'recover-1-ask');
    await page.getByLabel('E-mail address').fill(email);
    await page.getByRole('button', { name: 'Send me a link' }).click();
    expect(await state(page)).toBe('sent');
    await look(page, 'recover-2-sent');
    const mail = await mailed(email, 'A new API key');
    const link = mail.text.split(/\s+/).find((word) => word.includes('/billing/recover/key')) as string;
    await page.goto(link);
    expect(await state(page)).toBe('confirming');
    expect(await page.locator('main').textContent()).toContain(`…${newKey.slice(-4)}`);
    await look(page, 'recover-3-confirm');
    expect((await use(newKey)).status).toBe(200);
    await page.getByRole('button', { name: 'Replace it and show the new key' }).click();
    const third = (await page.locator('#key').textContent()) as string;
    await look(page, 'recover-4-key');
    expect((await use(third)).status).toBe(200);
    await vi.waitFor(async () => expect((await use(newKey)).status).toBe(401));
    await page.goto(link);
    expect(await state(page)).toBe('link_not_valid');
    await look(page, 'recover-5-used');
    const logs = tollgate.logLines.join('');
    const token = new URL(link).searchParams.get('token') as string;
    for (const secret of [key, newKey, third, token, email])
      expect(logs.includes(secret), `${secret.slice(0, 8)}… in the logs`).toBe(false);
  });

  it('whose key never arrived gets a new one from the same link', async () => {
    const page = await newPage(SIZES.narrow);
    const key = await buyKey(page, 'Team', 'lost-answer@example.com');
    await page.reload();
    expect(await state(page)).toBe('claimed');
    await look(page, 'claimed-replaceable');
    await page.getByRole('button', { name: 'I did not get it: make a new key' }).click();
    const newKey = (await page.locator('#key').textContent()) as string;
    expect(newKey).not.toBe(key);
    await look(page, 'replaced-key');
    expect((await use(newKey)).status).toBe(200);
    expect((await use(key)).status).toBe(401);
    await page.reload();
    expect(await state(page)).toBe('claimed');
    expect(await page.locator('#replace').count()).toBe(0);
  });

  it('pressing a button twice in a row makes one key, and shows it', async () => {
    const page = await newPage(SIZES.wide);
    const key = await buyKey(page, 'Free', 'double-click@example.com');
    await signIn(page, key);
    let sent = 0;
    await page.route('**/billing/rotate-key', async (route) => {
      sent++;
      await pause(1000);
      await route.continue();
    });
    // The second press comes while the answer to the first is on its way, and would throw it away.
    await page.evaluate(
      'setTimeout(() => document.querySelector("#rotate").click(), 50), setTimeout(() => document.querySelector("#rotate")?.click(), 350), 0',
    );
    expect(await page.locator('#key').textContent()).toMatch(/^tg_test_/);
    expect(sent).toBe(1);
  });

  it('is told what is wrong: Stripe away, a failed payment, a plan that ended', async () => {
    const page = await newPage(SIZES.narrow);
    const key = await buyKey(page, 'Pro', 'troubles@example.com');
    await signIn(page, key);
    const { url } = tollgate.sandbox!;
    await controlSandbox(url, '/faults', { status: 503, count: 100 });
    await page.getByRole('button', { name: 'Open the Stripe portal' }).click();
    expect(await page.getByRole('alert').textContent()).toContain('Stripe cannot be reached');
    await look(page, 'manage-stripe-away');
    expect((await use(key)).status).toBe(200);
    await page.reload();
    expect(page.url()).toBe(`${billingUrl}/billing/manage`);
    expect(await page.getByRole('alert').count()).toBe(0);
    await controlSandbox(url, '/faults/clear');
    await page.getByRole('button', { name: 'Open the Stripe portal' }).click();
    await page.locator('#return').waitFor();

    await controlSandbox(url, '/charges/fail_next', { count: 1000 });
    await controlSandbox(url, '/clock', { advance_seconds: 32 * DAY_S });
    const mail = await mailed('troubles@example.com', 'payment');
    expect(mail.text).toContain('Access ends on');
    await vi.waitFor(async () => {
      await page.goto(`${billingUrl}/billing/manage`);
      expect(await page.locator('#standing').textContent()).toMatch(/Payment failed|Suspended/);
    });
    await look(page, 'manage-payment-failed');
    await controlSandbox(url, '/clock', { advance_seconds: 60 * DAY_S });
    await vi.waitFor(async () => {
      await page.goto(`${billingUrl}/billing/manage`);
      expect(await page.locator('#standing').textContent()).toBe('Ended');
    });
    await look(page, 'manage-ended');
  });
});
