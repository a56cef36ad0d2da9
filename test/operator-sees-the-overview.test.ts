import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { TrafficCount } from '../keystore/keystore.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { look, signInAtConsole, useBrowser } from './browser.ts';
import { PRO_KEY } from './console-browser.ts';
import { closeAll, startTestGateway } from './gateways.ts';
import { event } from './keystore-fixtures.ts';
import { rawQuery } from './raw-sql.ts';

const PASSWORD = 'correct horse battery';
const HOUR_MS = 3_600_000;

let test: BillingUnderTest;
beforeAll(async () => {
  test = await startBillingUnderTest();
  await test.keystore.createConsoleUser({ name: 'ada', password: PASSWORD, actor: 'test' });
});
afterAll(() => test.close());
afterEach(closeAll);

/** Somebody signed in, without a browser: the page of the overview as text. */
async function overview(query = ''): Promise<{ status: number; text: string; figure(name: string): string }> {
  const form = new URLSearchParams({ name: 'ada', password: PASSWORD });
  const signedIn = await fetch(`${test.url}/console/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    headers: { 'Sec-Fetch-Site': 'same-origin' },
    body: form,
  });
  expect(signedIn.headers.get('location')).toBe('/console');
  const cookies = signedIn.headers.getSetCookie().map((cookie) => cookie.split(';')[0]);
  const answer = await fetch(`${test.url}/console${query}`, {
    headers: { Cookie: cookies.join('; '), Accept: 'text/html' },
  });
  const text = await answer.text();
  return {
    status: answer.status,
    text,
    figure: (name) => new RegExp(`id="figure-${name}"[^>]*>([^<]*)<`).exec(text)?.[1] ?? 'missing',
  };
}

const SPANS = ['24h', '48h', '30d', '90d', '12m'];

async function openOverview(page: Page): Promise<Page> {
  await signInAtConsole(page, test.url, { password: PASSWORD });
  await page.locator('#figures').waitFor();
  expect(await page.locator('nav a[aria-current="page"]').textContent()).toBe('Overview');
  return page;
}

it('of a new installation says what to do', async () => {
  const { text, figure } = await overview();
  expect(text).toContain('Nothing has happened yet');
  expect(text).toContain('npm run payment-link');
  expect([figure('requests'), figure('latency'), figure('events')]).toEqual(['0', '–', '0']);
});

describe('the overview of a new installation in a browser', () => {
  const { newPage } = useBrowser();

  it('leads to what is to be done', async () => {
    const page = await openOverview(await newPage());
    await look(page, 'overview-1-empty');
    await page.locator('#begin').getByRole('link', { name: 'Readiness' }).click();
    await page.getByRole('heading', { name: 'Readiness', level: 1 }).waitFor();
  });
});

describe('the overview', () => {
  it('says what happened over HTTP, and leads to the reason of the last refusal', async () => {
    const upstream = createServer((request, response) => {
      response.statusCode = request.url === '/broken' ? 500 : 200;
      response.end('{}');
    });
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    const gateway = await startTestGateway({
      keystoreUrl: test.keystoreUrl,
      upstreamUrl: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
    });
    const { plaintext, id } = await gateway.key('small');
    for (const path of ['/x', '/x', '/x', '/broken']) await gateway.get(path, plaintext);
    await gateway.get('/whoami', plaintext);
    await gateway.get('/x');
    await gateway.get('/x', plaintext);
    const refused = await gateway.get('/x', plaintext);
    const requestId = refused.headers.get('x-request-id') as string;
    expect(refused.status).toBe(429);
    await gateway.close();
    upstream.closeAllConnections();
    upstream.close();
    await test.keystore.receiveEvent(event('evt_bad', { type: 'invoice.paid' }));
    await rawQuery(test.keystoreUrl, "update events set status = 'failed' where id = 'evt_bad'");
    expect(await test.keystore.findKey(id)).toBeDefined();
    for (const range of SPANS) {
      const { text, figure } = await overview(`?range=${range}`);
      expect(figure('requests'), range).toBe('7');
      expect(figure('refused'), range).toBe('29 %');
      expect(figure('failed'), range).toBe('1');
      expect(figure('latency'), range).toMatch(/^[\d.]+ ms$/);
      expect(figure('events'), range).toBe('1');
      expect(text, range).toContain('<span id="answered">1</span>');
      expect(text, range).toMatch(/id="reason-missing_key"/);
      expect(text, range).toMatch(/id="reason-by_the_api".*ask the API/);
      expect(text, range).toContain(`/console/why?id=${requestId}`);
      expect(text, range).not.toContain('Nothing has happened');
    }
    expect((await overview('?range=1y')).status).toBe(400);
  });

  it('counts active keys and purchases', async () => {
    await test.buy('pro');
    await vi.waitFor(async () => expect(await test.keystore.countPurchases({ since: 0 })).toBe(1));
    // A count may be a minute old.
    await test.restart();
    const { id } = await test.keystore.createKey(PRO_KEY);
    await test.keystore.suspendKey({ id, note: '', actor: 'test' });
    const keys = await test.keystore.listKeys({ limit: 100 });
    const { figure } = await overview();
    expect(figure('purchases')).toBe('1');
    expect(figure('keys')).toBe(String(keys.length - 1));
  });
});

describe('the overview of a busy year in a browser', () => {
  const { newPage } = useBrowser();

  it('is a picture, its figures are a table, and both work by keyboard', async () => {
    const now = Math.floor(Date.now() / HOUR_MS);
    const counts: TrafficCount[] = [];
    for (let back = 0; back < 24 * 365; back += back < 24 * 90 ? 1 : 24) {
      const hour = now - back;
      const wave = 4000 + 2500 * Math.sin((hour % 24) / 3.8) + 900 * Math.sin(hour / 31);
      const add = (what: TrafficCount['what'], name: string, count: number) =>
        counts.push({ hour, what, name, count: Math.round(count) });
      add('requests', 'forwarded 2xx', wave);
      add('requests', 'refused 4xx', wave / 9 + (back % 17) * 8);
      add('requests', 'failed 5xx', (back % 11) * 9 + 20);
      add('refusals', 'rate_limited', wave / 12);
      add('refusals', 'missing_key', wave / 40);
      add('refusals', 'upstream_timeout', (back % 11) * 9 + 20);
      add('answers', '0.005-0.01', wave / 2);
      add('answers', '0.01-0.025', wave / 3);
      add('answers', '0.025-0.05', wave / 8);
      add('answers', '0.1-0.25', wave / 50 + (back % 13) * 9);
    }
    for (let i = 0; i < counts.length; i += 500) await test.keystore.recordTraffic(counts.slice(i, i + 500));
    const page = await openOverview(await newPage());
    await look(page, 'overview-2-full');
    expect(await page.locator('#requests .period').count()).toBe(24);
    const table = page.locator('#requests details');
    await table.getByText('As a table').focus();
    await page.keyboard.press('Enter');
    expect(await table.locator('tbody tr').count()).toBe(24);
    await look(page, 'overview-3-table');
    for (const [range, text, bars] of [
      ['48h', '48 hours', 48],
      ['30d', '30 days', 30],
      ['90d', '90 days', 90],
      ['12m', '12 months', 12],
    ] as const) {
      await page.getByRole('link', { name: text, exact: true }).click();
      await page.locator(`nav a[aria-current="true"]`, { hasText: text }).waitFor();
      expect(await page.locator('#latency .period').count()).toBe(bars);
      await look(page, `overview-4-${range}`);
    }
  });
});
