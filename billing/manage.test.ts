import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { mintKey } from '../shared/keys.ts';
import { besideKeystore, whenUnlocked } from '../test/beside-keystore.ts';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';

let test: BillingUnderTest;
beforeAll(async () => {
  test = await startBillingUnderTest();
});
afterAll(() => test.close());

/** As browsers of today say it; older ones send `Origin` only. */
const SAME_ORIGIN = { 'Sec-Fetch-Site': 'same-origin' };
const form = (
  path: string,
  fields: Record<string, string> = {},
  headers: Record<string, string> = {},
): Promise<Response> =>
  fetch(`${test.url}${path}`, {
    method: 'POST',
    redirect: 'manual',
    headers: { Accept: 'text/html', ...('Origin' in headers ? {} : SAME_ORIGIN), ...headers },
    body: new URLSearchParams(fields),
  });
const api = (path: string, key: string, body: object = {}): Promise<Response> =>
  fetch(`${test.url}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json', 'X-API-Key': key },
    body: JSON.stringify(body),
  });
const page = (cookie?: string, path = '/billing/manage') =>
  fetch(`${test.url}${path}`, {
    redirect: 'manual',
    headers: { Accept: 'text/html', ...(cookie ? { Cookie: cookie } : {}) },
  });

type Bought = { key: string; keyId: string; sessionId: string };
async function buyKey(plan = 'pro'): Promise<Bought> {
  const sessionId = await test.buy(plan);
  const { key, key_id } = await claim(sessionId);
  return { key, keyId: key_id, sessionId };
}
async function claim(sessionId: string): Promise<{ key: string; key_id: string }> {
  const response = await fetch(`${test.url}/billing/success/claim`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
    body: JSON.stringify({ session_id: sessionId }),
  });
  expect(response.status).toBe(200);
  return (await response.json()) as { key: string; key_id: string };
}
async function signIn(key: string): Promise<string> {
  const response = await form('/billing/manage', { key });
  expect(response.status).toBe(303);
  expect(response.headers.get('location')).toBe('/billing/manage');
  return (response.headers.get('set-cookie') as string).split(';')[0] as string;
}
const subscriptionOf = async (keyId: string) => (await test.keystore.findKeyFacts(keyId))!.subscription!.id;
const stateOf = (text: string) => /id="state" data-status="([a-z_]+)"/.exec(text)?.[1];

describe('signing in on the manage page', () => {
  it('takes the key in a form, and keeps neither it nor its id in the address', async () => {
    const { key, keyId } = await buyKey();
    expect(stateOf(await (await page()).text())).toBe('signed_out');
    const response = await form('/billing/manage', { key: ` ${key}\n` });
    const cookie = response.headers.get('set-cookie') as string;
    expect(cookie).toMatch(
      /^tollgate_manage=\w{12}\.\d{13}\.[\w-]{43}; Max-Age=1800; Path=\/billing; Expires=.*; HttpOnly; SameSite=Strict$/,
    );
    expect(cookie).not.toContain(key.slice(8 + 12));
    const shown = await page(cookie.split(';')[0]);
    expect(shown.status).toBe(200);
    expect(shown.headers.get('cache-control')).toBe('no-store');
    const text = await shown.text();
    expect(stateOf(text)).toBe('active');
    for (const part of ['Pro', '$19 a month', `…${key.slice(-4)}`, keyId, '100,000 requests', 'Renews on'])
      expect(text).toContain(part);
    expect(text).not.toContain(key);
    expect(test.logLines.join('')).not.toContain(key);
  });

  it('says what is wrong with a key that is not taken', async () => {
    const { key } = await buyKey();
    const refused = async (presented: string) => {
      const response = await form('/billing/manage', { key: presented });
      return [response.status, await response.text()] as const;
    };
    for (const [presented, words] of [
      ['', 'There was no key'],
      ['hello', 'not a whole key'],
      [key.replace('_test_', '_live_'), 'not a whole key'],
      [`${key.slice(0, -1)}${key.endsWith('x') ? 'y' : 'x'}`, 'not a whole key'],
    ] as const) {
      const [status, text] = await refused(presented);
      expect(status, presented).toBe(401);
      expect(text).toContain(words);
      expect(stateOf(text)).toBe('signed_out');
      expect(text).not.toContain(key.slice(20));
    }
    expect((await refused(mintKey('tg', 'test').plaintext))[1]).toContain('ever issued here');
    expect((await refused(mintKey('tg', 'live').plaintext))[1]).toContain('live key');
  });

  it('limits wrong keys by address, and never shuts out a good one', async () => {
    const { key } = await buyKey();
    await vi.waitFor(async () => {
      expect((await form('/billing/manage', { key: 'wrong' })).status).toBe(429);
    });
    const late = await form('/billing/manage', { key: 'wrong' });
    expect(Number(late.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await late.text()).toContain('Too many requests');
    await signIn(key);
    expect((await api('/billing/portal', key)).status).toBe(200);
    await test.restart();
  });

  it('a made-up, altered or expired cookie signs nobody in', async () => {
    const { key, keyId } = await buyKey();
    const other = await buyKey();
    const cookie = await signIn(key);
    const [name = '', value = ''] = cookie.split('=');
    const [, until = '', signature = ''] = value.split('.');
    for (const forged of [
      `${other.keyId}.${until}.${signature}`,
      `${keyId}.${Number(until) + 1}.${signature}`,
      `${keyId}.${until}.${'A'.repeat(43)}`,
      `${keyId}.${until}`,
      'x',
      '',
    ])
      expect(stateOf(await (await page(`${name}=${forged}`)).text()), forged).toBe('signed_out');
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 31 * 60_000 });
    try {
      expect(stateOf(await (await page(cookie)).text())).toBe('signed_out');
    } finally {
      vi.useRealTimers();
    }
  });

  it('refuses forms that a page of another site sent', async () => {
    const { key } = await buyKey();
    const cookie = await signIn(key);
    const foreign: Record<string, string>[] = [
      { 'Sec-Fetch-Site': 'cross-site' },
      { 'Sec-Fetch-Site': 'same-site' },
      { Origin: 'https://evil.example' },
      { Origin: 'null' },
    ];
    for (const headers of foreign) {
      for (const path of ['/billing/portal', '/billing/rotate-key', '/billing/manage/sign-out']) {
        const response = await form(path, {}, { Cookie: cookie, ...headers });
        expect(response.status, path).toBe(400);
        expect(await response.text()).toContain('another site');
      }
    }
    const own = { Cookie: cookie, Origin: new URL(test.url).origin };
    expect((await form('/billing/portal', {}, own)).headers.get('location')).toContain('/p/session/');
  });

  it('signs out', async () => {
    const cookie = await signIn((await buyKey()).key);
    const response = await form('/billing/manage/sign-out', {}, { Cookie: cookie });
    expect(response.status).toBe(303);
    expect(response.headers.get('set-cookie')).toMatch(
      /^tollgate_manage=; Path=\/billing; Expires=Thu, 01 Jan 1970/,
    );
  });

  it('a revoked key is told why, also one that was signed in', async () => {
    const { key, keyId } = await buyKey();
    const cookie = await signIn(key);
    await test.keystore.revokeKey({ id: keyId, reason: 'refunded', actor: 'test' });
    const shown = await page(cookie);
    expect(shown.status).toBe(401);
    expect(shown.headers.get('set-cookie')).toContain('tollgate_manage=;');
    const text = await shown.text();
    expect(stateOf(text)).toBe('signed_out');
    expect(text).toContain('refunded');
    expect((await form('/billing/manage', { key })).status).toBe(401);
    const answer = await api('/billing/portal', key);
    expect(answer.headers.get('www-authenticate')).toContain('Bearer');
    expect(await answer.json()).toMatchObject({ status: 401, code: 'revoked_key' });
  });
});

describe('what the manage page says', () => {
  it.each([
    ['a trial', { trial_end: Math.floor(Date.now() / 1000) + 5 * 86_400 }, 'active', 'Free until'],
    ['a cancellation to come', { cancel_at_period_end: true }, 'active', 'Ends on'],
  ])('of %s', async (_name, change, state, words) => {
    const { key, keyId } = await buyKey();
    const id = await subscriptionOf(keyId);
    await test.stripe.subscriptions.update(id, change);
    await vi.waitFor(async () => {
      const text = await (await page(await signIn(key))).text();
      expect(stateOf(text)).toBe(state);
      expect(text).toContain(words);
    });
  });

  it('of a failed payment: until when access lasts; of an ended subscription: what to do', async () => {
    const { key, keyId } = await buyKey();
    const subscription = (await test.keystore.findSubscription(await subscriptionOf(keyId)))!;
    const write = (more: Partial<typeof subscription>) =>
      test.keystore.syncSubscription({
        mode: 'test',
        buyer: { stripeCustomerId: null, email: null },
        subscription: { ...subscription, ...more, fetchedAt: Date.now() },
        actor: 'test',
      });
    const { customerId } = (await test.keystore.findKeyFacts(keyId))!;
    const { stripeCustomerId } = (await test.keystore.findCustomer(customerId as string))!;
    expect(stripeCustomerId).toMatch(/^cus_/);
    await write({ status: 'past_due', pastDueSince: Date.UTC(2026, 10, 20, 12) });
    const shown = async () => (await page(await signIn(key))).text();
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2026, 10, 21) });
    try {
      const text = await shown();
      expect(stateOf(text)).toBe('active');
      expect(text).toContain('Access ends on 4 December 2026, 12:00 UTC');
      vi.setSystemTime(Date.UTC(2026, 11, 5));
      expect(await shown()).toContain('Suspended');
    } finally {
      vi.useRealTimers();
    }
    await write({ status: 'paused' });
    expect(await shown()).toContain('paused');
    await write({ status: 'canceled' });
    const text = await shown();
    expect(stateOf(text)).toBe('expired');
    expect(text).toContain('has ended');
    expect(text).not.toContain('id="rotate"');
    expect(text).toContain('id="portal"');
  });

  it('of a key that the seller suspended, without their note; a replacement is no way round; and of limits of its own', async () => {
    const { key, keyId } = await buyKey();
    await test.keystore.suspendKey({ id: keyId, note: 'looks like resale', actor: 'test' });
    const override = { limits: [{ name: 'minute', requests: 77, seconds: 60 }], quota: 123_456 };
    await test.keystore.overrideLimits({ id: keyId, override, actor: 'test' });
    const text = await (await page(await signIn(key))).text();
    expect(stateOf(text)).toBe('suspended');
    expect(text).toContain('We have suspended this key. Write to us');
    expect(text).not.toContain('looks like resale');
    expect(text).toContain('<li>77 requests a minute</li>');
    expect(text).toContain('of 123,456 requests');
    const { key: fresh } = (await (await api('/billing/rotate-key', key)).json()) as { key: string };
    expect(await test.keystore.authenticateKey(fresh)).toMatchObject({
      suspendedAt: expect.any(Number),
      override,
    });
  });

  it('of a key that no purchase stands behind: nothing to manage at Stripe', async () => {
    const { plaintext } = await test.keystore.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'internal',
      name: null,
      expiresAt: null,
      actor: 'test',
    });
    const cookie = await signIn(plaintext);
    const text = await (await page(cookie)).text();
    expect(text).not.toContain('id="portal"');
    expect(text).toContain('no monthly quota');
    expect(await (await api('/billing/portal', plaintext)).json()).toMatchObject({
      status: 409,
      code: 'no_portal',
    });
    const refused = await form('/billing/portal', {}, { Cookie: cookie });
    expect(refused.status).toBe(409);
    expect(stateOf(await refused.text())).toBe('active');
  });
});

describe("Stripe's portal", () => {
  const configurations = async () =>
    (await test.stripe.billingPortal.configurations.list({ limit: 100 })).data;

  it('opens for a key, with one configuration however often it is opened', async () => {
    const { key } = await buyKey();
    const answers = await Promise.all(Array.from({ length: 5 }, () => api('/billing/portal', key)));
    for (const answer of answers) {
      expect(answer.status).toBe(200);
      const { url } = (await answer.json()) as { url: string };
      expect(url).toMatch(/\/p\/session\//);
      expect(await (await fetch(url)).text()).toContain('/billing/portal/return');
    }
    await test.restart();
    expect((await api('/billing/portal', key)).status).toBe(200);
    const [configuration, ...others] = await configurations();
    expect(others).toEqual([]);
    expect(configuration).toMatchObject({
      features: {
        payment_method_update: { enabled: true },
        invoice_history: { enabled: true },
        customer_update: { enabled: true },
        subscription_cancel: { enabled: true, mode: 'at_period_end' },
        subscription_update: { enabled: true, default_allowed_updates: ['price'] },
      },
    });
    const prices = configuration!.features.subscription_update.products!.flatMap((each) => each.prices);
    expect(prices.sort()).toEqual([test.prices.free, test.prices.pro, test.prices.team].sort());
  });

  it('brings its configuration up to date with the catalogue, and replaces one that was switched off', async () => {
    const { key } = await buyKey();
    await api('/billing/portal', key);
    const before = (await configurations())[0]!;
    await test.restart({ STRIPE_PRICE_MAP: `${test.prices.pro}:pro` });
    expect((await api('/billing/portal', key)).status).toBe(200);
    const after = await configurations();
    expect(after.map(({ id }) => id)).toEqual([before.id]);
    await test.restart();
    expect((await api('/billing/portal', key)).status).toBe(200);
    await test.stripe.billingPortal.configurations.update(before.id, { active: false });
    await test.restart();
    expect((await api('/billing/portal', key)).status).toBe(200);
    expect((await configurations()).filter(({ active }) => active)).toHaveLength(1);
  });

  it('is out of reach while Stripe is: the page says so, and the manage page works on', async () => {
    const { key } = await buyKey();
    const cookie = await signIn(key);
    await test.control('/faults', { status: 503, count: 1000 });
    try {
      const refused = await form('/billing/portal', {}, { Cookie: cookie });
      expect(refused.status).toBe(503);
      expect(refused.headers.get('retry-after')).toBe('5');
      const text = await refused.text();
      expect(stateOf(text)).toBe('active');
      expect(text).toContain('Stripe cannot be reached');
      expect(await (await api('/billing/portal', key)).json()).toMatchObject({ code: 'stripe_unavailable' });
      expect((await page(cookie)).status).toBe(200);
      expect((await page(cookie, '/billing/portal/return')).headers.get('location')).toBe('/billing/manage');
    } finally {
      await test.control('/faults/clear');
    }
    expect((await form('/billing/portal', {}, { Cookie: cookie })).status).toBe(303);
  });

  it('the way back shows at once what was changed there, also where the browser kept its cookie back', async () => {
    const { key, keyId } = await buyKey();
    const cookie = await signIn(key);
    await test.control('/delivery', { mode: 'paused' });
    try {
      await test.stripe.subscriptions.update(await subscriptionOf(keyId), { cancel_at_period_end: true });
      const hop = await page(undefined, '/billing/portal/return');
      expect(hop.status).toBe(200);
      expect(hop.headers.get('refresh')).toBe('0; url=/billing/portal/return?again=1');
      const back = await page(cookie, '/billing/portal/return?again=1');
      expect(back.headers.get('location')).toBe('/billing/manage');
      expect(await (await page(cookie)).text()).toContain('It was canceled');
      const stranger = await page(undefined, '/billing/portal/return?again=1');
      expect(stranger.headers.get('location')).toBe('/billing/manage');
    } finally {
      await test.control('/delivery', { mode: 'concurrent' });
    }
  });

  it('without a key it opens for nobody', async () => {
    const response = await fetch(`${test.url}/billing/portal`, {
      method: 'POST',
      headers: { Accept: 'application/json' },
    });
    expect(response.status).toBe(401);
    expect(await response.json()).toMatchObject({ code: 'missing_key' });
    expect((await form('/billing/portal')).headers.get('location')).toBe('/billing/manage');
    const both = await fetch(`${test.url}/billing/portal`, {
      method: 'POST',
      headers: { 'X-API-Key': 'a', Authorization: 'Bearer b' },
    });
    expect(await both.json()).toMatchObject({ status: 400, code: 'conflicting_credentials' });
    expect((await page(undefined, '/billing/portal')).status).toBe(405);
  });
});

describe('replacing a key that is known', () => {
  it('answers with a new one, and says until when the old one works', async () => {
    const { key, keyId } = await buyKey();
    const response = await api('/billing/rotate-key', key, { overlap_hours: 2 });
    expect(response.status).toBe(200);
    expect(response.headers.get('cache-control')).toBe('no-store');
    const answer = (await response.json()) as {
      key: string;
      key_id: string;
      replaces: { works_until: string };
    };
    expect(answer).toMatchObject({ plan: 'pro', mode: 'test', quota: 100_000, replaces: { key_id: keyId } });
    const left = Date.parse(answer.replaces.works_until) - Date.now();
    expect(Math.abs(left - 2 * 3_600_000)).toBeLessThan(60_000);
    const [old, young] = [
      (await test.keystore.findKeyFacts(keyId))!,
      (await test.keystore.findKeyFacts(answer.key_id))!,
    ];
    expect(old.replacedBy).toBe(young.id);
    expect(young).toMatchObject({ rootId: old.rootId, planId: 'pro', subscription: old.subscription });

    expect(await (await api('/billing/rotate-key', key)).json()).toMatchObject({
      status: 409,
      code: 'already_replaced',
    });
    const text = await (await page(await signIn(key))).text();
    expect(text).toContain(`replaced by the key with the id <code>${young.id}</code>`);
    expect(text).not.toContain('id="rotate"');
    expect((await api('/billing/rotate-key', answer.key, { overlap_hours: 0 })).status).toBe(200);
    expect(await (await api('/billing/portal', answer.key)).json()).toMatchObject({ code: 'revoked_key' });
  });

  it('on the page: 24 hours unless another choice was made, and the sign-in goes over to the new key', async () => {
    const { key, keyId } = await buyKey();
    const cookie = await signIn(key);
    const response = await form('/billing/rotate-key', { overlap_hours: '24' }, { Cookie: cookie });
    expect(response.status).toBe(200);
    expect(response.headers.get('referrer-policy')).toBe('no-referrer');
    const text = await response.text();
    expect(stateOf(text)).toBe('revealed');
    expect(text).toContain('data-address="/billing/manage"');
    const [newKey = ''] = /tg_test_\w{50}/.exec(text) ?? [];
    const next = (response.headers.get('set-cookie') as string).split(';')[0];
    expect(await (await page(next)).text()).toContain(`…${newKey.slice(-4)}`);
    const old = (await test.keystore.findKeyFacts(keyId))!;
    expect(Math.abs((old.expiresAt as number) - Date.now() - 86_400_000)).toBeLessThan(60_000);
    const again = await form('/billing/rotate-key', {}, { Cookie: cookie });
    expect(again.status).toBe(409);
    expect(await again.text()).toContain('replaced before');
  });

  it.each([
    [{ overlap_hours: 721 }],
    [{ overlap_hours: -1 }],
    [{ overlap_hours: 1.5 }],
    [{ overlap_hours: 'soon' }],
  ])('names what is wrong with %j', async (body) => {
    const { key } = await buyKey();
    expect(await (await api('/billing/rotate-key', key, body)).json()).toMatchObject({
      status: 400,
      errors: [{ field: 'overlap_hours' }],
    });
  });

  it('of twenty at once one is made', async () => {
    const { key } = await buyKey();
    const answers = await Promise.all(Array.from({ length: 20 }, () => api('/billing/rotate-key', key)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409 || status === 429)).toHaveLength(19);
    await test.restart();
  });
});

describe('a key that was shown and never arrived', () => {
  const replace = (sessionId: string, keyId: string, headers: Record<string, string> = {}) =>
    fetch(`${test.url}/billing/success/replace`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...headers },
      body: JSON.stringify({ session_id: sessionId, key_id: keyId }),
    });
  const success = async (sessionId: string) =>
    (await (
      await fetch(`${test.url}/billing/success?session_id=${sessionId}`, {
        headers: { Accept: 'application/json' },
      })
    ).json()) as Record<string, string | null>;

  it('is replaced once, from the same link, while it is unused', async () => {
    const { key, keyId, sessionId } = await buyKey();
    const before = await success(sessionId);
    const left = Date.parse(before.replaceable_until as string) - Date.now();
    expect(Math.abs(left - 86_400_000)).toBeLessThan(60_000);
    const shown = await (await page(undefined, `/billing/success?session_id=${sessionId}`)).text();
    expect(shown).toContain('id="replace"');
    const answer = (await (await replace(sessionId, keyId)).json()) as { key: string; key_id: string };
    expect(answer).toMatchObject({ plan: 'pro', replaces: { key_id: keyId, works_until: null } });
    expect(await (await api('/billing/portal', key)).json()).toMatchObject({ code: 'revoked_key' });
    expect((await api('/billing/portal', answer.key)).status).toBe(200);
    expect(await (await replace(sessionId, keyId)).json()).toMatchObject({
      status: 409,
      code: 'already_replaced',
    });
    const again = await form('/billing/success/replace', { session_id: sessionId, key_id: answer.key_id });
    expect(again.status).toBe(200);
    expect(stateOf(await again.text())).toBe('revealed');
  });

  it('is never replaced once it was used', async () => {
    const { keyId, sessionId } = await buyKey();
    await test.keystore.markKeysUsed([keyId]);
    expect(await success(sessionId)).toMatchObject({ status: 'claimed', replaceable_until: null });
    expect(await (await replace(sessionId, keyId)).json()).toMatchObject({ status: 409, code: 'key_in_use' });
    const refused = await form('/billing/success/replace', { session_id: sessionId, key_id: keyId });
    expect(refused.status).toBe(409);
    const text = await refused.text();
    expect(stateOf(text)).toBe('claimed');
    expect(text).toContain('so it did arrive');
    expect(text).not.toContain('id="replace"');
  });

  it('nor after 24 hours, nor before it was shown, nor with another id', async () => {
    const { keyId, sessionId } = await buyKey();
    const raw = besideKeystore(test.keystoreUrl);
    await whenUnlocked(() =>
      raw.exec(`update reveals set claimed_at = claimed_at - 24 * 3600000 where key_id = '${keyId}'`),
    );
    raw.close();
    expect(await (await replace(sessionId, keyId)).json()).toMatchObject({
      status: 410,
      code: 'replace_too_late',
    });
    const unclaimed = await test.buy('pro');
    expect(await (await replace(unclaimed, keyId)).json()).toMatchObject({ status: 400 });
    expect(await (await replace(sessionId, 'x')).json()).toMatchObject({ errors: [{ field: 'key_id' }] });
    expect(await (await replace(sessionId, 'x'.repeat(12))).json()).toMatchObject({
      code: 'purchase_not_found',
    });
    const other = await buyKey();
    expect(await (await replace(sessionId, other.keyId)).json()).toMatchObject({ code: 'already_replaced' });
    expect((await api('/billing/portal', other.key)).status).toBe(200);
  });
});
