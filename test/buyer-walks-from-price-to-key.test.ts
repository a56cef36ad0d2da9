import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { findChromium, launchBrowser, screenshot } from './browser.ts';
import { controlSandbox, startTollgateUnderTest } from './tollgate.ts';

const executable = findChromium();
const SIZES = {
  wide: { viewport: { width: 1280, height: 900 } },
  narrow: { viewport: { width: 360, height: 740 } },
  dark: { viewport: { width: 1280, height: 900 }, colorScheme: 'dark' },
  'narrow-dark': { viewport: { width: 360, height: 740 }, colorScheme: 'dark' },
} satisfies Record<string, BrowserContextOptions>;

describe('a buyer in a browser', () => {
  let tollgate: Awaited<ReturnType<typeof startTollgateUnderTest>>;
  let browser: Browser;
  let complaints: string[] = [];
  beforeAll(async () => {
    if (!executable) return;
    tollgate = await startTollgateUnderTest();
    browser = await launchBrowser(executable);
  });
  afterAll(async () => {
    await browser?.close();
    await tollgate?.close();
  });
  beforeEach(({ skip }) => skip(!executable, 'there is no Chromium on this machine'));
  afterEach(() => {
    complaints = [];
  });

  async function newPage(options: BrowserContextOptions = {}): Promise<Page> {
    const context = await browser.newContext({
      permissions: ['clipboard-read', 'clipboard-write'],
      ...options,
    });
    const page = await context.newPage();
    page.on('console', (message) => {
      // What a policy blocks, a script throws or a page fails to load ends up here.
      if (message.type() === 'error' && !/status of (402|404|410|409)/.test(message.text()))
        complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    return page;
  }
  /** From the pricing page to the success page; pays with the card of this number or name. */
  async function buy(page: Page, plan: string, card: string): Promise<void> {
    await page.goto(`${tollgate.billing.url}/`);
    await page.getByRole('button', { name: `Buy ${plan}` }).click();
    await page.getByText('sandbox', { exact: false }).first().waitFor();
    await page.getByLabel('Email').fill('buyer@example.com');
    const method = page.locator(`input[name="card"][value="${card}"]`);
    if (await method.count()) await method.check();
    await page.locator('#pay').click();
    await page.waitForURL(/\/billing\/success\?session_id=cs_test_/);
  }
  const state = (page: Page) => page.locator('#state').getAttribute('data-status');
  const fitsTheScreen = async (page: Page) =>
    expect(
      await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth'),
    ).toBeLessThanOrEqual(0);

  for (const [size, options] of Object.entries(SIZES)) {
    it(`pays, reveals the key once and uses it (${size})`, async () => {
      const page = await newPage(options);
      await page.goto(`${tollgate.billing.url}/`);
      await screenshot(page, `${size}-1-pricing`);
      await fitsTheScreen(page);
      await page.getByRole('button', { name: 'Buy Pro' }).click();
      await page.locator('#pay').waitFor();
      await screenshot(page, `${size}-2-checkout`);
      await fitsTheScreen(page);

      await buy(page, 'Pro', 'success');
      await page.locator('#reveal').waitFor();
      await screenshot(page, `${size}-3-ready`);
      await fitsTheScreen(page);
      const successUrl = page.url();
      await page.locator('#reveal').click();
      const key = (await page.locator('#key').textContent()) as string;
      expect(key).toMatch(/^tg_test_[0-9A-Za-z]{50}$/);
      await page.getByRole('button', { name: 'Copy the key' }).click();
      await page.locator('[data-copied="key"]', { hasText: 'Copied.' }).waitFor();
      expect(await page.evaluate('navigator.clipboard.readText()')).toBe(key);
      await screenshot(page, `${size}-4-key`);
      await fitsTheScreen(page);

      const curl = await page.locator('#curl').textContent();
      const { stdout } = await promisify(execFile)('sh', ['-c', `${curl} --silent --noproxy '*'`]);
      expect(JSON.parse(stdout)).toMatchObject({ plan: { id: 'pro' }, state: 'active', mode: 'test' });

      for (const move of ['reload', 'goBack', 'goForward'] as const) {
        await page[move]();
        expect(await state(page), move).toBe('claimed');
        expect(await page.content(), move).not.toContain(key);
      }
      const elsewhere = await newPage(options);
      await elsewhere.goto(successUrl);
      expect(await state(elsewhere)).toBe('claimed');
      const told = await elsewhere.locator('main').textContent();
      expect(told).toContain(`…${key.slice(-4)}`);
      expect(told).toMatch(/shown on \d+ \w+ \d{4}, \d\d:\d\d UTC/);
      expect(told).toContain('If you have lost it');
      await screenshot(elsewhere, `${size}-5-claimed`);
      await fitsTheScreen(elsewhere);
      expect(complaints).toEqual([]);
      await page.context().close();
      await elsewhere.context().close();
    });
  }

  it('waits for a delayed payment on a page that updates by itself', async () => {
    const page = await newPage(SIZES.narrow);
    await buy(page, 'Team', 'bank_debit');
    expect(await state(page)).toBe('pending');
    await screenshot(page, 'narrow-pending');
    await fitsTheScreen(page);
    const sessionId = new URL(page.url()).searchParams.get('session_id');
    await controlSandbox(tollgate.sandbox!.url, `/checkout/sessions/${sessionId}/settle`);
    await page.locator('#reveal').waitFor();
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it('does it all without JavaScript', async () => {
    const page = await newPage({ ...SIZES.narrow, javaScriptEnabled: false });
    await buy(page, 'Free', 'none');
    await page.locator('#reveal').click();
    expect(await page.locator('#key').textContent()).toMatch(/^tg_test_/);
    expect(await page.getByRole('button', { name: 'Copy the key' }).isVisible()).toBe(false);
    await screenshot(page, 'narrow-key-without-javascript');
    await page.context().close();
  });

  it('is told what happened when things go wrong', async () => {
    const page = await newPage(SIZES.narrow);
    await page.goto(`${tollgate.billing.url}/billing/success?session_id=cs_test_${'x'.repeat(58)}`);
    expect(await state(page)).toBe('not_found');
    await screenshot(page, 'narrow-not-found');
    await page.goto(`${tollgate.billing.url}/`);
    await page.getByRole('button', { name: 'Buy Pro' }).click();
    await page.locator('#pay').waitFor();
    const [unpaid = ''] = /cs_test_[0-9A-Za-z]+/.exec(page.url()) ?? [];
    await page.goto(`${tollgate.billing.url}/billing/success?session_id=${unpaid}`);
    expect(await state(page)).toBe('open');
    await screenshot(page, 'narrow-open');
    await fitsTheScreen(page);
    await page.goto(`${tollgate.billing.url}/nothing/here`);
    expect(await state(page)).toBe('error');
    await screenshot(page, 'narrow-error');
    await buy(page, 'Team', 'bank_debit_fails');
    const sessionId = new URL(page.url()).searchParams.get('session_id');
    await controlSandbox(tollgate.sandbox!.url, `/checkout/sessions/${sessionId}/fail`);
    await page.locator('[data-status="payment_failed"]').waitFor();
    await screenshot(page, 'narrow-payment-failed');
    await page.context().close();
  });
});
