import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { look, signInAtConsole, useBrowser } from './browser.ts';
import { temporaryFolder } from './keystores.ts';

const PLANS = `plans:
  pro: { name: "Pro <b>bold</b>", price: { amount: 19, currency: usd, per: month }, limits: [{ requests: 600, per: minute }] }
  once: { name: Once, price: { amount: 4000, currency: jpy, per: once }, limits: [{ requests: 60, per: minute }] }
`;
const PASSWORD = 'correct horse battery';

let test: BillingUnderTest;
beforeAll(async () => {
  const plans = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(plans, PLANS);
  test = await startBillingUnderTest({ PLANS_FILE: plans });
  await test.keystore.createConsoleUser({ name: 'ada', password: PASSWORD, actor: 'test' });
});
afterAll(() => test.close());
beforeEach(() => test.control('/delivery', { mode: 'duplicated', copies: 2 }));

async function settled(order = 'concurrent') {
  await test.control('/delivery/flush', { order });
  await vi.waitFor(async () => expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }));
}
/** All there is, by plan: `amount`, `givenBack`, `payments`. */
async function income() {
  const days = await test.keystore.incomeByDay({ firstDay: 0, lastDay: 1_000_000 });
  return [...Map.groupBy(days, ({ planId }) => planId)].sort().map(([planId, rows]) => {
    const sum = (of: 'amount' | 'givenBack' | 'payments') => rows.reduce((total, row) => total + row[of], 0);
    return [planId, rows[0]!.currency, sum('amount'), sum('givenBack'), sum('payments')];
  });
}
async function charges(): Promise<string[]> {
  const { data } = await test.stripe.charges.list({ limit: 100 });
  return data.map(({ id }) => id);
}

async function openRevenue(page: Page): Promise<Page> {
  await signInAtConsole(page, test.url, { password: PASSWORD });
  await page.getByRole('link', { name: 'Revenue', exact: true }).click();
  return page;
}

describe('a console that nothing was sold in', () => {
  const { newPage } = useBrowser();
  it('before anything was sold the operator is told so', async () => {
    const page = await openRevenue(await newPage());
    expect(await page.locator('#none').innerText()).toMatch(/^Nothing was paid for a plan from /);
    expect(await page.getByRole('link', { name: 'Download as CSV' }).count()).toBe(0);
    await look(page, 'revenue-1-empty');
    expect((await page.request.get(`${test.url}/console/revenue?range=decade`)).status()).toBe(400);
  });
});

it('whatever the order and however often events come: purchases, renewals, refunds and lost disputes', async () => {
  await test.buy('pro');
  for (const _renewal of [1, 2]) {
    await settled();
    await test.control('/clock', { advance_seconds: 32 * 86_400 });
  }
  await settled();
  expect(await income()).toEqual([['pro', 'usd', 5700, 0, 3]]);
  const [third, second, first] = await charges();
  // Held, and sent the newest first.
  await test.control('/delivery', { mode: 'paused' });
  await test.stripe.refunds.create({ charge: first!, amount: 500 });
  await test.stripe.refunds.create({ charge: second! });
  const { id } = await test.control('/disputes', { charge: third });
  await test.control(`/disputes/${id}/close`, { outcome: 'lost' });
  await test.buy('once');
  const [once] = await charges();
  await test.stripe.refunds.create({ charge: once!, amount: 1000 });
  await settled('reversed');
  const all = [
    ['once', 'jpy', 4000, 1000, 1],
    ['pro', 'usd', 5700, 500 + 1900 + 1900, 3],
  ];
  expect(await income()).toEqual(all);
  const { data } = await test.stripe.events.list({ limit: 100 });
  for (const event of data.filter(({ type }) => /^(invoice\.paid|charge\.refunded)$/.test(type)))
    await test.control(`/events/${event.id}/deliver`);
  await settled();
  expect(await income()).toEqual(all);
});

describe('a console after a year', () => {
  const { newPage } = useBrowser();
  it('and the operator sees it by plan', async () => {
    // The sandbox's clock has gone on since; the console's has not.
    for (let month = 0; month < 12; month++) {
      for (const [planId, currency, amount, givenBack] of [
        ['pro', 'usd', 1900 * (12 - month), 0],
        ...(month === 0 ? [['once', 'jpy', 4000, 1000] as const] : []),
      ] as const) {
        const paidAt = Date.now() - month * 30 * 86_400_000;
        const parts = [{ priceId: planId, planId, amount, givenBack }];
        const of = {
          subscriptionId: null,
          stripeCustomerId: null,
          currency,
          parts,
          paidAt,
          fetchedAt: paidAt,
        };
        await test.keystore.syncIncome({ mode: 'test', income: { id: `in_${planId}${month}`, ...of } });
      }
    }
    const page = await openRevenue(await newPage());
    await page.getByLabel('Over').selectOption('12m');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.locator('tr[data-plan="once"]').waitFor();
    expect(await page.locator('tr[data-plan="once"]').innerText()).toMatch(
      /Once\s+¥3,000\s+¥4,000\s+¥1,000\s+1/,
    );
    expect(await page.locator('main b').count()).toBe(0);
    await look(page, 'revenue-2-sold');
    const csv = await page.request.get(`${test.url}/console/revenue.csv?range=12m`);
    expect(await csv.text()).toMatch(/\d{4}-\d\d,once,jpy,4000,1000,3000,1\r\n/);
  });
});
