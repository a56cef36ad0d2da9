import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';
import { type ReceivedMail, startSmtp, type TestSmtp } from '../test/smtp.ts';
import { AddressRefused, Mailer } from './mailer.ts';

let smtp: TestSmtp;
let test: BillingUnderTest;
beforeAll(async () => {
  smtp = await startSmtp();
  test = await startBillingUnderTest({
    SMTP_URL: smtp.url,
    MAIL_FROM: 'Demo API <api@example.com>',
    PRODUCT_NAME: 'Demo & API',
  });
});
afterAll(async () => {
  await test.close();
  await smtp.close();
});
beforeEach(() => {
  smtp.mails.length = 0;
});

const json = { 'Content-Type': 'application/json', Accept: 'application/json' };
const post = (path: string, body: object, headers: Record<string, string> = {}) =>
  fetch(`${test.url}${path}`, {
    method: 'POST',
    headers: { ...json, ...headers },
    body: JSON.stringify(body),
  });
const get = (path: string, accept = 'text/html') =>
  fetch(`${test.url}${path}`, { headers: { Accept: accept } });
const stateOf = (text: string) => /id="state" data-status="([a-z_]+)"/.exec(text)?.[1];

async function buyAs(email: string, plan = 'pro'): Promise<string> {
  const { sessionId } = await test.openCheckout(plan);
  await test.control(`/checkout/sessions/${sessionId}/pay`, { email });
  return sessionId;
}
async function claim(sessionId: string): Promise<{ key: string; key_id: string }> {
  const response = await post('/billing/success/claim', { session_id: sessionId });
  expect(response.status).toBe(200);
  return (await response.json()) as { key: string; key_id: string };
}
/** The mail with these words in its subject. */
const mailed = (to: string, words: string, count = 1): Promise<ReceivedMail> =>
  vi.waitFor(() => {
    const found = smtp.mails.filter((mail) => mail.to.includes(to) && mail.subject.includes(words));
    expect(found).toHaveLength(count);
    return found.at(-1)!;
  });
const outcomeOf = (id: string): Promise<string> =>
  vi.waitFor(async () => {
    const event = await test.keystore.findEvent(id);
    expect(event?.status).not.toBe('pending');
    return event?.outcome ?? '';
  });
const linkIn = (mail: ReceivedMail, path: string) => {
  const url = mail.text
    .split(/\s+/)
    .find((word) => word.startsWith(`${test.config.publicBillingUrl}${path}`));
  expect(url, mail.text).toBeDefined();
  return (url as string).slice(test.config.publicBillingUrl.length);
};

describe('a receipt', () => {
  it('links to the claim, and has no key in it', async () => {
    const sessionId = await buyAs('receipt@example.com');
    const mail = await mailed('receipt@example.com', 'Your API key for Demo & API');
    expect(mail.raw).toContain('From: Demo API <api@example.com>');
    expect(mail.raw).toContain('Reply-To: help@example.com');
    expect(mail.raw).toContain('Auto-Submitted: auto-generated');
    expect(mail.html).toContain('Demo &amp; API');
    for (const body of [mail.text, mail.html]) {
      expect(body).toContain(`/billing/success?session_id=${sessionId}`);
      expect(body).toContain('keeps it until');
    }
    const link = linkIn(mail, '/billing/success');
    expect(stateOf(await (await get(link)).text())).toBe('ready');
    const { key } = await claim(sessionId);
    expect(mail.raw).not.toContain(key);
    const logs = test.logLines.join('');
    for (const secret of [key, sessionId]) expect(logs).not.toContain(secret);
  });

  it('of a key that was claimed already says so, and where to go if it did not arrive', async () => {
    await smtp.stop();
    try {
      const sessionId = await buyAs('claimed@example.com');
      // The first try has read the purchase as it was before the claim: it has to be over.
      await vi.waitFor(async () => {
        const purchase = await test.keystore.findPurchase(sessionId);
        const event = await test.keystore.findEvent(`mail_receipt_${purchase?.id}`);
        expect(event?.error).toMatch(/not sent|out of reach/);
      });
      const { key } = await claim(sessionId);
      await smtp.start();
      const mail = await mailed('claimed@example.com', 'Your API key');
      expect(mail.text).toContain(`…${key.slice(-4)}`);
      expect(mail.text).toContain('was shown on');
    } finally {
      await smtp.start();
    }
  });

  it('of a purchase that a program began says that the program picks the key up, or has it', async () => {
    const email = 'program@example.com';
    const begun = await post('/billing/purchases', { plan: 'pro', email });
    const { purchase_id, claim_token, checkout_url } = (await begun.json()) as Record<string, string>;
    const [sessionId = ''] = /cs_test_[0-9A-Za-z]+/.exec(checkout_url!) ?? [];
    await test.control(`/checkout/sessions/${sessionId}/pay`, { email });
    const waiting = await mailed(email, 'Your API key');
    for (const body of [waiting.text, waiting.html]) {
      expect(body).toContain('picks it up by itself');
      expect(body).toContain(`/billing/success?session_id=${sessionId}`);
    }
    const claimed = await post(
      `/billing/purchases/${purchase_id}/claim`,
      {},
      { Authorization: `Bearer ${claim_token}` },
    );
    expect(claimed.status).toBe(200);
    await test.keystore.replayEvent({ id: `mail_receipt_${purchase_id}`, actor: 'test' });
    const after = await mailed(email, 'Your API key', 2);
    for (const body of [after.text, after.html])
      expect(body).toContain('was handed to the program that you bought from on');
  });

  it('waits while the mail server is away, then is sent once, with one Message-ID for any try', async () => {
    await smtp.stop();
    const sessionId = await buyAs('waits@example.com');
    const purchase = await vi.waitFor(async () => {
      const found = await test.keystore.findPurchase(sessionId);
      expect(found?.status).toBe('provisioned');
      return found!;
    });
    const id = `mail_receipt_${purchase.id}`;
    await vi.waitFor(async () => {
      expect((await test.keystore.findEvent(id))?.error).toMatch(/not sent|out of reach/);
    });
    await smtp.start();
    const first = await mailed('waits@example.com', 'Your API key');
    expect(await outcomeOf(id)).toBe('sent');
    expect(await test.keystore.replayEvent({ id, actor: 'test' })).toBe('replayed');
    const second = await mailed('waits@example.com', 'Your API key', 2);
    expect(second.messageId).toBe(first.messageId);
    expect(first.messageId).toMatch(/^<[0-9a-f]{40}@example\.com>$/);
  });

  it('to an address that is refused for good is kept as failed; one refused for now waits', async () => {
    smtp.refuseWith = { code: 550, text: '5.1.1 <gone@example.com> no such mailbox' };
    try {
      const sessionId = await buyAs('gone@example.com');
      const id = await vi.waitFor(async () => {
        const found = await test.keystore.findPurchase(sessionId);
        expect(found?.status).toBe('provisioned');
        return `mail_receipt_${found!.id}`;
      });
      expect(await outcomeOf(id)).toBe('address_refused');
      const event = (await test.keystore.findEvent(id))!;
      expect(event.status).toBe('failed');
      expect(event.error).toContain('no such mailbox');
      expect(event.error).not.toContain('gone@');
      expect(test.logLines.join('')).not.toContain('gone@example.com');
      smtp.refuseWith = { code: 451, text: 'try again later' };
      await test.keystore.replayEvent({ id, actor: 'test' });
      await vi.waitFor(async () => expect((await test.keystore.findEvent(id))?.error).toContain('451'));
      smtp.refuseWith = null;
      await mailed('gone@example.com', 'Your API key');
    } finally {
      smtp.refuseWith = null;
    }
  });
});

describe('a mail about a key or a payment', () => {
  it('says that a key was replaced, and until when the old one works', async () => {
    const sessionId = await buyAs('rotates@example.com');
    const { key } = await claim(sessionId);
    const answer = await post('/billing/rotate-key', { overlap_hours: 24 }, { 'X-API-Key': key });
    const rotated = (await answer.json()) as { key: string };
    const mail = await mailed('rotates@example.com', 'was replaced');
    expect(mail.text).toContain(`new one ends in …${rotated.key.slice(-4)}`);
    expect(mail.text).toContain(`…${key.slice(-4)}, works until`);
    expect(mail.text).toContain('If it was not you');
    expect(mail.raw).not.toContain(rotated.key);
    await post('/billing/rotate-key', { overlap_hours: 0 }, { 'X-API-Key': rotated.key });
    expect((await mailed('rotates@example.com', 'was replaced', 2)).text).toContain('no longer works');
  });

  it('waits in the inbox while Stripe is away', async () => {
    const { key } = await claim(await buyAs('stripe-away@example.com'));
    await mailed('stripe-away@example.com', 'Your API key for');
    await test.control('/faults', { status: 503, count: 1000 });
    try {
      const answer = await post('/billing/rotate-key', {}, { 'X-API-Key': key });
      expect(answer.status).toBe(200);
      const { key_id } = (await answer.json()) as { key_id: string };
      await vi.waitFor(async () =>
        expect(await test.keystore.findEvent(`mail_key_rotated_${key_id}`)).toMatchObject({
          status: 'pending',
          outcome: 'stripe_unavailable',
        }),
      );
    } finally {
      await test.control('/faults/clear');
    }
    await mailed('stripe-away@example.com', 'was replaced');
  });

  it('goes to the address that Stripe has now', async () => {
    const sessionId = await buyAs('before@example.com');
    const { key, key_id } = await claim(sessionId);
    const { customerId } = (await test.keystore.findKeyFacts(key_id))!;
    const { stripeCustomerId } = (await test.keystore.findCustomer(customerId as string))!;
    await test.stripe.customers.update(stripeCustomerId as string, { email: 'after@example.com' });
    await post('/billing/rotate-key', {}, { 'X-API-Key': key });
    await mailed('after@example.com', 'was replaced');
    await test.stripe.customers.del(stripeCustomerId as string);
    const young = (await test.keystore.findKeyFacts(key_id))!.replacedBy as string;
    await test.keystore.replayEvent({ id: `mail_key_rotated_${young}`, actor: 'test' });
    expect(await outcomeOf(`mail_key_rotated_${young}`)).toBe('no_address');
  });

  it('says until when access lasts after a failed payment, and nothing if it was paid meanwhile', async () => {
    const sessionId = await buyAs('owes@example.com');
    const { key_id } = await claim(sessionId);
    const { subscription, customerId } = (await test.keystore.findKeyFacts(key_id))!;
    const { stripeCustomerId } = (await test.keystore.findCustomer(customerId as string))!;
    await test.control('/charges/fail_next', { count: 1, customer: stripeCustomerId });
    await test.control('/clock', { advance_seconds: 32 * 86_400 });
    const mail = await mailed('owes@example.com', 'payment');
    const { pastDueSince } = (await test.keystore.findSubscription(subscription!.id))!;
    expect(mail.text).toMatch(/Access ends on \d+ \w+ \d{4}, \d\d:\d\d UTC/);
    expect(mail.text).toContain(`${test.config.publicBillingUrl}/billing/manage`);

    const id = `mail_payment_failed_${subscription!.id}_${pastDueSince}`;
    await test.control('/clock', { advance_seconds: 8 * 86_400 });
    await vi.waitFor(async () =>
      expect((await test.stripe.subscriptions.retrieve(subscription!.id)).status).toBe('active'),
    );
    await test.keystore.replayEvent({ id, actor: 'test' });
    expect(await outcomeOf(id)).toBe('paid_meanwhile');
  });

  it('is nothing for a key that no customer has', async () => {
    const { plaintext } = await test.keystore.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'internal',
      name: null,
      expiresAt: null,
      actor: 'test',
    });
    const answer = await post('/billing/rotate-key', {}, { 'X-API-Key': plaintext });
    const { key_id } = (await answer.json()) as { key_id: string };
    expect(await outcomeOf(`mail_key_rotated_${key_id}`)).toBe('no_address');
  });
});

describe('a lost key', () => {
  const ask = (email: unknown) => post('/billing/recover', { email });

  it('is replaced through a link that is good once, and only when the button is pressed', async () => {
    const { key, key_id } = await claim(await buyAs('loses@example.com'));
    const asked = await ask('Loses@Example.com');
    expect([asked.status, await asked.json()]).toEqual([202, { status: 'accepted' }]);
    const mail = await mailed('loses@example.com', 'A new API key');
    expect(mail.text).toContain(`…${key.slice(-4)}`);
    const link = linkIn(mail, '/billing/recover/key');
    // Mail scanners open links, several times.
    for (let i = 0; i < 3; i++) {
      const response = await get(link);
      expect(response.headers.get('referrer-policy')).toBe('no-referrer');
      const text = await response.text();
      expect(stateOf(text)).toBe('confirming');
      expect(text).toContain(`…${key.slice(-4)}`);
    }
    expect((await test.keystore.findKeyFacts(key_id))!.revokedAt).toBeNull();
    const token = new URL(link, test.url).searchParams.get('token') as string;
    const recovered = await post('/billing/recover/key', { token });
    expect(recovered.status).toBe(200);
    const answer = (await recovered.json()) as { key: string; key_id: string };
    expect(answer).toMatchObject({ plan: 'pro', replaces: { key_id, works_until: null } });
    expect(await test.keystore.findKeyFacts(key_id)).toMatchObject({ revokedReason: 'rotated' });
    await mailed('loses@example.com', 'was replaced');

    expect(await (await post('/billing/recover/key', { token })).json()).toMatchObject({
      status: 410,
      code: 'link_not_valid',
    });
    const used = await get(link);
    expect(used.status).toBe(410);
    const text = await used.text();
    expect(stateOf(text)).toBe('link_not_valid');
    expect(text).toContain('action="/billing/recover"');
    const logs = test.logLines.join('');
    for (const secret of [token, token.split('.')[1]!, answer.key]) expect(logs).not.toContain(secret);
    expect(mail.raw).not.toContain(answer.key);
  });

  it('whoever asks is answered alike, for an address that is known and one that is not', async () => {
    await claim(await buyAs('known@example.com'));
    const answers = await Promise.all(
      ['known@example.com', 'unknown@example.com'].map(async (email) => {
        const response = await fetch(`${test.url}/billing/recover`, {
          method: 'POST',
          headers: { Accept: 'text/html' },
          body: new URLSearchParams({ email }),
        });
        return [response.status, (await response.text()).replaceAll(email, '')];
      }),
    );
    expect(answers[0]![0]).toBe(202);
    expect(answers[1]).toEqual(answers[0]);
    await mailed('known@example.com', 'A new API key');
    expect(smtp.mails.some(({ to }) => to.includes('unknown@example.com'))).toBe(false);
  });

  it('asking again soon sends no second mail', async () => {
    await claim(await buyAs('often@example.com'));
    await ask('often@example.com');
    await mailed('often@example.com', 'A new API key');
    await ask('often@example.com');
    await ask('often@example.com');
    await test.keystore.sweep();
    await new Promise((resolve) => setTimeout(resolve, 300));
    // The window of ten minutes may have ended in between.
    expect(smtp.mails.filter(({ subject }) => subject.includes('A new')).length).toBeLessThanOrEqual(2);
  });

  it('a made-up link, another method and a wrong address are told apart', async () => {
    for (const token of ['', 'x', `${'a'.repeat(20)}.${'b'.repeat(43)}`]) {
      const response = await get(`/billing/recover/key?token=${token}`, 'application/json');
      expect(await response.json()).toMatchObject({ status: 410, code: 'link_not_valid' });
    }
    expect((await fetch(`${test.url}/billing/recover`, { method: 'DELETE' })).status).toBe(405);
    for (const email of ['nobody', '', null, 'a@example.com, b@example.com'])
      expect(await (await ask(email)).json()).toMatchObject({ status: 400, errors: [{ field: 'email' }] });
  });

  it('one address may ask a few times a minute', async () => {
    const statuses: number[] = [];
    for (let i = 0; i < 12; i++) statuses.push((await ask(`flood${i}@example.com`)).status);
    expect(statuses).toContain(429);
    await test.restart();
  });

  it('has pages that lead to recovery, where mail is set up', async () => {
    const sessionId = await buyAs('pages@example.com');
    await claim(sessionId);
    const text = await (await get(`/billing/success?session_id=${sessionId}`)).text();
    expect(text).toContain('href="/billing/recover"');
    expect(text).not.toContain('Write to us');
  });
});

it('without a mail server there is no recovery, and no page leads there', async () => {
  const without = await startBillingUnderTest();
  try {
    for (const path of ['/billing/recover', '/billing/recover/key?token=x']) {
      const response = await fetch(`${without.url}${path}`, { headers: { Accept: 'application/json' } });
      expect(await response.json()).toMatchObject({ status: 404, code: 'mail_not_configured' });
    }
    for (const path of ['/', '/billing/manage'])
      expect(
        await (await fetch(`${without.url}${path}`, { headers: { Accept: 'text/html' } })).text(),
      ).not.toContain('/billing/recover');
    await without.buy('pro');
    await vi.waitFor(async () => {
      expect(await without.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 });
      expect((await without.keystore.listEvents({ limit: 50 })).length).toBeGreaterThan(0);
    });
    const types = (await without.keystore.listEvents({ limit: 50 })).map(({ type }) => type);
    expect(types.filter((type) => type.startsWith('tollgate.mail'))).toEqual([]);
  } finally {
    await without.close();
  }
});

describe('the mailer', () => {
  const mail = { eventId: 'mail_1', to: 'to@example.com', subject: 's', text: 't', html: 'h' };

  it('sends nothing to a server without TLS where that is asked for', async () => {
    const mailer = new Mailer({ smtpUrl: smtp.url, from: 'a@example.com', requireTls: true }, null);
    await expect(mailer.send(mail)).rejects.toThrow(/not sent/);
    expect(smtp.mails.filter(({ to }) => to.includes(mail.to))).toEqual([]);
  });

  it('logs in as the address says, and never repeats the password', async () => {
    const seen: (string | null)[] = [];
    const strict = await startSmtp({
      authOptional: false,
      allowInsecureAuth: true,
      onAuth({ username = '', password = '' }, _session, done) {
        seen.push(username, password);
        if (password === 'pa:ss@word') done(null, { user: username });
        else done(new Error(`${password} is wrong`));
      },
    });
    const at = (login: string) =>
      new Mailer(
        { smtpUrl: strict.url.replace('//', `//${login}@`), from: 'a@example.com', requireTls: false },
        null,
      );
    await at('us%40er:pa%3Ass%40word').send(mail);
    expect(strict.mails).toHaveLength(1);
    expect(seen).toEqual(['us@er', 'pa:ss@word']);
    await expect(at('user:other').send(mail)).rejects.toThrow(/EAUTH/);
    await strict.close();
  });

  it('while the server is out of reach one mail at a time tries it', async () => {
    const away = await startSmtp();
    const mailer = new Mailer({ smtpUrl: away.url, from: 'a@example.com', requireTls: false }, null);
    await away.stop();
    await expect(mailer.send(mail)).rejects.toThrow(/not sent/);
    const tries = await Promise.allSettled([mailer.send(mail), mailer.send(mail), mailer.send(mail)]);
    expect(tries.map((each) => /out of reach/.test(String((each as { reason: unknown }).reason)))).toEqual([
      false,
      true,
      true,
    ]);
    await away.start();
    await mailer.send(mail);
    await Promise.all([mailer.send(mail), mailer.send(mail)]);
    expect(away.mails).toHaveLength(3);
    await away.close();
  });

  it('refuses an address that no mail can go to', async () => {
    const mailer = new Mailer({ smtpUrl: smtp.url, from: 'a@example.com', requireTls: false }, null);
    smtp.refuseWith = { code: 553, text: 'not here' };
    await expect(mailer.send(mail)).rejects.toThrow(AddressRefused);
    smtp.refuseWith = null;
  });
});
