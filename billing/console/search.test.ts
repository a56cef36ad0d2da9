import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mintKey } from '../../shared/keys.ts';
import { type BillingUnderTest, startBillingUnderTest } from '../../test/billing.ts';
import { CONSOLE_PASSWORD, consoleBrowser, PRO_KEY } from '../../test/console-browser.ts';

let test: BillingUnderTest;
let browser: ReturnType<typeof consoleBrowser>;
beforeAll(async () => {
  test = await startBillingUnderTest({ TRUSTED_PROXIES: '127.0.0.1' });
  await test.keystore.createConsoleUser({ name: 'ada', password: CONSOLE_PASSWORD, actor: 'test' });
  browser = consoleBrowser(test.url);
  expect((await browser.signIn('ada')).status).toBe(303);
});
afterAll(() => test.close());

const newKey = () => test.keystore.createKey(PRO_KEY);

describe.each(['keys', 'customers', 'purchases'])('the search for %s', (list) => {
  const path = `/console/${list}`;

  it('is a form that leads to an address, and to the key from a whole one', async () => {
    expect(await browser.page(path)).toMatch(new RegExp(`<form method="post" action="${path}"`));
    const { plaintext, id } = await newKey();
    for (const [fields, to] of [
      [{ q: ' my_test_inbox@example.com ' }, `${path}?q=my_test_inbox%40example.com`],
      [{ q: '', unknown: 'x' }, path],
      [{ q: id }, `${path}?q=${id}`],
      [{ q: ` ${plaintext} ` }, `/console/keys/${id}`],
    ] as const) {
      const answer = await browser.submit(path, { ...fields });
      expect([answer.status, answer.headers.get('location')], fields.q).toEqual([303, to]);
    }
  });

  it('repeats nothing that looks like a key, neither from its form nor from an address', async () => {
    const { plaintext } = await newKey();
    const ofNobody = mintKey('tg', 'live').plaintext;
    for (const q of [
      ofNobody,
      `${plaintext.slice(0, -1)}!`,
      plaintext.slice('tg_test_'.length),
      'tg_live_abc',
    ]) {
      const sent = await browser.submit(path, { q });
      expect([sent.status, sent.headers.get('location')], q).toEqual([401, null]);
      const page = await sent.text();
      expect(page, q).toMatch(/role="alert".*(was ever issued here|is not a whole key)/);
      expect(page, q).not.toContain(q);
    }
    const session = await browser.submit(path, { q: 'cs_test_a1B2c3D4e5F6' });
    expect(await session.text()).toMatch(/role="alert".*is the id of a checkout session/);
    for (const q of [plaintext, ofNobody, plaintext.slice('tg_test_'.length)]) {
      const got = await browser.get(`${path}?q=${q}`);
      expect(got.status).toBe(400);
      const page = await got.text();
      expect(page).toContain('looks like a key');
      expect(page).not.toContain(q);
    }
  });
});

it('searches keep what else is asked for, and a file of keys has no key in its address', async () => {
  const keys = await browser.submit('/console/keys', { q: 'x', plan: 'pro', state: 'active' });
  expect(keys.headers.get('location')).toBe('/console/keys?q=x&plan=pro&state=active');
  const purchases = await browser.submit('/console/purchases', { q: '', status: 'paid' });
  expect(purchases.headers.get('location')).toBe('/console/purchases?status=paid');
  const { plaintext } = await newKey();
  expect((await browser.get(`/console/keys.csv?q=${plaintext}`)).status).toBe(400);
});

it('why: a key without its prefix is in no address, an id as long as one is, and a later code is shown', async () => {
  const { plaintext, id } = await newKey();
  const bare = plaintext.slice('tg_test_'.length);
  const refused = await browser.submit('/console/why', { asked: bare });
  expect([refused.status, refused.headers.get('location')]).toEqual([401, null]);
  expect(await refused.text()).not.toContain(bare);
  const requestId = 'f0'.repeat(32);
  const refusal = { at: Date.now(), requestId, keyId: id, code: 'of_a_later_version', detail: null };
  const request = { method: 'GET', host: 'h', path: '/', route: null, address: '::1' };
  await test.keystore.recordRefusals([{ ...refusal, ...request }]);
  const asked = await browser.submit('/console/why', { asked: requestId });
  expect(asked.headers.get('location')).toBe(`/console/why?id=${requestId}`);
  const page = await browser.get(`/console/why?id=${requestId}`);
  expect(page.status).toBe(200);
  expect(await page.text()).toContain('was answered <strong>of_a_later_version</strong>');
});
