import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';
import { temporaryFolder } from '../test/keystores.ts';
import { startSmtp, type TestSmtp } from '../test/smtp.ts';

const PLANS = `plans:
  tried: { name: Tried, trial: { days: 14, once: true }, price: { amount: 9, currency: usd, per: month } }
  seats: { name: Seats, per_unit: true, quota: 100, price: { amount: 3, currency: usd, per: month }, limits: [{ requests: 10, per: minute }] }
  pack: { name: Pack, quota: { requests: 4, per: purchase }, price: { amount: 5, currency: usd, per: once } }
  week: { name: Week, access_days: 7, price: { amount: 4, currency: usd, per: once } }
  gift: { name: Gift, price: { amount: 0, currency: usd, per: once } }
`;

let smtp: TestSmtp;
let test: BillingUnderTest;
beforeAll(async () => {
  const PLANS_FILE = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(PLANS_FILE, PLANS);
  smtp = await startSmtp();
  test = await startBillingUnderTest({ PLANS_FILE, SMTP_URL: smtp.url, MAIL_FROM: 'api@example.com' });
});
afterAll(async () => {
  await test.close();
  await smtp.close();
});
beforeEach(() => {
  smtp.mails.length = 0;
});

const page = async (path: string, cookie = '') =>
  (await fetch(`${test.url}${path}`, { headers: { Accept: 'text/html', Cookie: cookie } })).text();
const stateOf = (text: string) => /id="state" data-status="([a-z_]+)"/.exec(text)?.[1];
async function buy(plan: string, email: string): Promise<string> {
  const { sessionId } = await test.openCheckout(plan);
  await test.control(`/checkout/sessions/${sessionId}/pay`, { email });
  return sessionId;
}
const claim = (sessionId: string) =>
  fetch(`${test.url}/billing/success/claim`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
    body: JSON.stringify({ session_id: sessionId }),
  });
async function keyOf(sessionId: string) {
  const response = await claim(sessionId);
  expect(response.status).toBe(200);
  return (await response.json()) as { key: string; key_id: string; quota: number; limits: object[] };
}
async function managePage(key: string): Promise<string> {
  const signedIn = await fetch(`${test.url}/billing/manage`, {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ key }),
  });
  return page('/billing/manage', (signedIn.headers.get('set-cookie') ?? '').split(';')[0]);
}
const use = (keyId: string, requests: number) =>
  test.keystore.recordUsage(
    [{ keyId, hour: Math.floor(Date.now() / 3_600_000), requests, refused: 0 }],
    () => {},
  );

it('a trial that was used before: the page says so and looks again now and then; nothing is to be bought', async () => {
  expect(stateOf(await page(`/billing/success?session_id=${await buy('tried', 'twice@example.com')}`))).toBe(
    'ready',
  );
  await test.control('/clock', { advance_seconds: 60 });
  const again = await buy('tried', 'twice@example.com');
  const shown = await fetch(`${test.url}/billing/success?session_id=${again}`, {
    headers: { Accept: 'text/html' },
  });
  expect(shown.headers.get('refresh')).toBe('300');
  const text = await shown.text();
  expect(stateOf(text)).toBe('trial_used');
  expect(text).toContain('There is no need to buy again');
  const json = await fetch(`${test.url}/billing/success?session_id=${again}`);
  expect(await json.json()).toMatchObject({ status: 'trial_used', poll_after_ms: 300_000 });
  expect(await (await claim(again)).json()).toMatchObject({ status: 402, code: 'trial_used' });
  await test.control('/clock', { advance_seconds: 15 * 86_400 });
  await vi.waitFor(async () =>
    expect(stateOf(await page(`/billing/success?session_id=${again}`))).toBe('ready'),
  );
});

it('the plan of several units is shown multiplied', async () => {
  const session = await test.stripe.checkout.sessions.create({
    mode: 'subscription',
    line_items: [{ price: test.prices.seats!, quantity: 3 }],
    success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
  });
  await test.pay(session.id);
  const { key, key_id, quota, limits } = await keyOf(session.id);
  expect([quota, limits]).toEqual([300, [{ name: 'minute', requests: 30, window_seconds: 60 }]]);
  await use(key_id, 150);
  const text = await managePage(key);
  expect(text).toContain('$3 a month <span class="times">× 3</span>');
  expect(text).toContain('<strong id="used">150</strong> of 300 requests');
  expect(text).toContain('value="50"');
  expect(text).toContain('30 requests a minute');
});

it('a purchase of so many requests: how many are used, and what to do when all are', async () => {
  const { key, key_id } = await keyOf(await buy('pack', 'pack@example.com'));
  const fresh = await managePage(key);
  expect(fresh).toContain('Used so far');
  expect(fresh).toContain('of 4 requests');
  expect(fresh).not.toContain('starts again');
  expect(fresh).toContain('Bought once');
  await use(key_id, 4);
  const text = await managePage(key);
  expect(text).toContain('Used up');
  expect(text).toContain('See the plans');
  expect(await page('/')).toContain('4 requests in all');
});

it('a purchase for some days: until when it works', async () => {
  const { key, key_id } = await keyOf(await buy('week', 'week@example.com'));
  expect(await managePage(key)).toContain('Bought once: it works until');
  expect(await page('/')).toContain('Works for 7 days');
  const rotated = await test.keystore.rotateKey({ id: key_id, overlapMs: 3_600_000, actor: 'test' });
  if (typeof rotated === 'string') throw new Error(rotated);
  expect(await managePage(rotated.plaintext)).toContain('Bought once: it works until');
});

it('a one-time purchase has its receipt, also one that cost nothing', async () => {
  const paid = await buy('pack', 'once@example.com');
  await vi.waitFor(() =>
    expect(smtp.mails.find(({ to }) => to.includes('once@example.com'))?.text).toContain(paid),
  );
  const free = await buy('gift', 'gift@example.com');
  await vi.waitFor(() =>
    expect(smtp.mails.find(({ to }) => to.includes('gift@example.com'))?.text).toContain(free),
  );
});
