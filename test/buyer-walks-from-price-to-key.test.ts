import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { look, SIZES, screenshot, useBrowser } from './browser.ts';
import { controlSandbox, startTollgateUnderTest } from './tollgate.ts';

describe('a buyer in a browser', () => {
  let tollgate: Awaited<ReturnType<typeof startTollgateUnderTest>>;
  const { newPage } = useBrowser({ statuses: [402, 404, 409, 410] });
  beforeAll(async () => {
    tollgate = await startTollgateUnderTest();
  });
  afterAll(() => tollgate?.close());

  /** From the pricing page to the success page; pays with the card of this number or name. */
  async function buy(page: Page, plan: string, card: string): Promise<void> {
    await page.goto(`${tollgate.billing.url}/`);
    await page.getByRole('button', { name: `Buy ${plan}` }).click();
    await pay(page, card);
  }
  /** From the checkout page to the success page. */
  async function pay(page: Page, card: string): Promise<void> {
    await page.getByText('sandbox', { exact: false }).first().waitFor();
    await page.getByLabel('Email').fill('buyer@example.com');
    const method = page.locator(`input[name="card"][value="${card}"]`);
    if (await method.count()) await method.check();
    await page.locator('#pay').click();
    await page.waitForURL(/\/billing\/success\?session_id=cs_test_/);
  }
  const state = (page: Page) => page.locator('#state').getAttribute('data-status');

  it('pays, reveals the key once and uses it', async () => {
    const page = await newPage({
      ...SIZES.narrow,
      permissions: ['clipboard-read', 'clipboard-write'],
    });
    await page.goto(`${tollgate.billing.url}/`);
    await look(page, '1-pricing');
    await page.getByRole('button', { name: 'Buy Pro' }).click();
    await page.locator('#pay').waitFor();
    await look(page, '2-checkout');

    await buy(page, 'Pro', 'success');
    await page.locator('#reveal').waitFor();
    await look(page, '3-ready');
    const successUrl = page.url();
    await page.locator('#reveal').click();
    const key = (await page.locator('#key').textContent()) as string;
    expect(key).toMatch(/^tg_test_[0-9A-Za-z]{50}$/);
    await page.getByRole('button', { name: 'Copy the key' }).click();
    await page.locator('[data-copied="key"]', { hasText: 'Copied.' }).waitFor();
    expect(await page.evaluate('navigator.clipboard.readText()')).toBe(key);
    await look(page, '4-key');

    const curl = await page.locator('#curl').textContent();
    const { stdout } = await promisify(execFile)('sh', ['-c', `${curl} --silent --noproxy '*'`]);
    expect(JSON.parse(stdout)).toMatchObject({ plan: { id: 'pro' }, state: 'active', mode: 'test' });

    for (const move of ['reload', 'goBack', 'goForward'] as const) {
      await page[move]();
      expect(await state(page), move).toBe('claimed');
      expect(await page.content(), move).not.toContain(key);
    }
    const elsewhere = await newPage();
    await elsewhere.goto(successUrl);
    expect(await state(elsewhere)).toBe('claimed');
    const told = await elsewhere.locator('main').textContent();
    expect(told).toContain(`…${key.slice(-4)}`);
    expect(told).toMatch(/shown on \d+ \w+ \d{4}, \d\d:\d\d UTC/);
    expect(told).toContain('If you have lost it');
    await look(elsewhere, '5-claimed');
  });

  /** A purchase of the plan `pro` that a program began, and what the program may do. */
  async function begunByProgram() {
    const begun = await fetch(`${tollgate.billing.url}/billing/purchases`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ plan: 'pro' }),
    });
    const { purchase_id, checkout_url, claim_token } = (await begun.json()) as Record<string, string>;
    const ask = async (path: string, method: string) => {
      const headers = { Authorization: `Bearer ${claim_token}` };
      const url = `${tollgate.billing.url}/billing/purchases/${purchase_id}${path}`;
      return (await (await fetch(url, { method, headers })).json()) as Record<string, unknown>;
    };
    return { checkoutUrl: checkout_url!, look: () => ask('', 'GET'), claim: () => ask('/claim', 'POST') };
  }

  it('comes from a program, and sees when it has the key', async () => {
    const page = await newPage(SIZES.narrow);
    const program = await begunByProgram();
    await page.goto(program.checkoutUrl);
    await pay(page, 'success');
    await page.getByText('picks your API key up by itself').waitFor();
    expect(await state(page)).toBe('ready');
    await look(page, 'program-1-waiting');
    expect(await program.look()).toMatchObject({ status: 'provisioned', claimed: false });
    const { key } = await program.claim();
    expect(key).toMatch(/^tg_test_[0-9A-Za-z]{50}$/);
    await page.getByText('Your key was handed to the program that you bought from.').waitFor();
    expect(await state(page)).toBe('claimed');
    expect(await page.content()).not.toContain(key);
    await look(page, 'program-2-handed-over');

    // The program says that it has none, because its answer was lost.
    await page.locator('#replace').click();
    const other = await page.locator('#key').textContent();
    expect(other).toMatch(/^tg_test_[0-9A-Za-z]{50}$/);
    expect(other).not.toBe(key);
    await page.reload();
    expect(await page.locator('main').textContent()).toContain('This key was already shown');
  });

  it('comes from a program, and has the key shown instead', async () => {
    const page = await newPage(SIZES.narrow);
    const program = await begunByProgram();
    await page.goto(program.checkoutUrl);
    await pay(page, 'success');
    await page.getByRole('button', { name: 'Show the key here instead' }).click();
    expect(await page.locator('#key').textContent()).toMatch(/^tg_test_[0-9A-Za-z]{50}$/);
    expect(await program.look()).toMatchObject({ status: 'provisioned', claimed: true });
    expect(await program.claim()).toMatchObject({ status: 410, code: 'already_claimed' });
    await page.reload();
    expect(await state(page)).toBe('claimed');
    await look(page, 'program-3-shown-instead');
  });

  it('waits for a delayed payment on a page that updates by itself', async () => {
    const page = await newPage(SIZES.narrow);
    await buy(page, 'Team', 'bank_debit');
    expect(await state(page)).toBe('pending');
    await look(page, 'pending');
    const sessionId = new URL(page.url()).searchParams.get('session_id');
    await controlSandbox(tollgate.sandbox!.url, `/checkout/sessions/${sessionId}/settle`);
    await page.locator('#reveal').waitFor();
  });

  it('does it all without JavaScript', async () => {
    const page = await newPage({ ...SIZES.narrow, javaScriptEnabled: false });
    await buy(page, 'Free', 'none');
    await page.locator('#reveal').click();
    expect(await page.locator('#key').textContent()).toMatch(/^tg_test_/);
    expect(await page.getByRole('button', { name: 'Copy the key' }).isVisible()).toBe(false);
    await screenshot(page, 'key-without-javascript');
  });

  it('is told what happened when things go wrong', async () => {
    const page = await newPage(SIZES.narrow);
    await page.goto(`${tollgate.billing.url}/billing/success?session_id=cs_test_${'x'.repeat(58)}`);
    expect(await state(page)).toBe('not_found');
    await look(page, 'not-found');
    await page.goto(`${tollgate.billing.url}/`);
    await page.getByRole('button', { name: 'Buy Pro' }).click();
    await page.locator('#pay').waitFor();
    const [unpaid = ''] = /cs_test_[0-9A-Za-z]+/.exec(page.url()) ?? [];
    await page.goto(`${tollgate.billing.url}/billing/success?session_id=${unpaid}`);
    expect(await state(page)).toBe('open');
    await look(page, 'open');
    await page.goto(`${tollgate.billing.url}/nothing/here`);
    expect(await state(page)).toBe('error');
    await look(page, 'error');
    await buy(page, 'Team', 'bank_debit_fails');
    const sessionId = new URL(page.url()).searchParams.get('session_id');
    await controlSandbox(tollgate.sandbox!.url, `/checkout/sessions/${sessionId}/fail`);
    await page.locator('[data-status="payment_failed"]').waitFor();
    await look(page, 'payment-failed');
  });
});
