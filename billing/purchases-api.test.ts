import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';
import { temporaryFolder } from '../test/keystores.ts';
import { everythingStored, rawQuery } from '../test/raw-sql.ts';

const PLANS = `plans:
  pro: { name: Pro, quota: 100, price: { amount: 19, currency: usd, per: month }, limits: [{ requests: 10, per: minute }] }
  tried: { name: Tried, trial: { days: 14, once: true }, price: { amount: 9, currency: usd, per: month } }
  unpriced: { name: Unpriced }
  secret: { name: Secret, hidden: true, price: { amount: 1, currency: usd, per: month } }
`;

let test: BillingUnderTest;
beforeAll(async () => {
  const PLANS_FILE = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(PLANS_FILE, PLANS);
  test = await startBillingUnderTest({ PLANS_FILE });
});
afterAll(() => test.close());

type Begun = {
  purchase_id: string;
  status: string;
  checkout_url: string;
  claim_token: string;
  poll_after_ms: number;
  /** In the checkout's address; a program has no need of it. */
  sessionId: string;
};
type Answer = { status: number; body: Record<string, unknown> };

async function answerOf(asked: Promise<Response>): Promise<Answer> {
  const response = await asked;
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}
const post = (body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${test.url}/billing/purchases`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
async function begin(more: object = {}, headers: Record<string, string> = {}): Promise<Begun> {
  const { status, body } = await answerOf(post({ plan: 'pro', ...more }, headers));
  expect(status, JSON.stringify(body)).toBe(201);
  const sessionId = /cs_test_[0-9A-Za-z]+/.exec(String(body.checkout_url))![0];
  return { ...(body as Omit<Begun, 'sessionId'>), sessionId };
}
const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });
const look = ({ purchase_id, claim_token }: Begun) =>
  answerOf(fetch(`${test.url}/billing/purchases/${purchase_id}`, bearer(claim_token)));
const claim = ({ purchase_id, claim_token }: Begun) =>
  answerOf(
    fetch(`${test.url}/billing/purchases/${purchase_id}/claim`, { method: 'POST', ...bearer(claim_token) }),
  );
const onPage = (path: string, body: object) =>
  answerOf(
    fetch(`${test.url}/billing/success/${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    }),
  );
const claimOnPage = ({ sessionId }: Begun) => onPage('claim', { session_id: sessionId });
const page = async ({ sessionId }: Begun) => {
  const response = await fetch(`${test.url}/billing/success?session_id=${sessionId}`, {
    headers: { Accept: 'text/html' },
  });
  return { refresh: response.headers.get('refresh'), text: await response.text() };
};
const sealed = async ({ purchase_id }: Begun) => {
  const [row] = await rawQuery(
    test.keystoreUrl,
    `select session_sealed from purchases where id = '${purchase_id}'`,
  );
  return row!.session_sealed !== null;
};
/** A purchase that is paid and has its key. */
async function bought(): Promise<Begun> {
  const begun = await begin();
  await test.pay(begun.sessionId);
  expect((await look(begun)).body).toMatchObject({ status: 'provisioned', claimed: false });
  return begun;
}

describe('beginning a purchase', () => {
  it('answers with a checkout that leads to the success page, and with a claim token', async () => {
    const begun = await begin({ email: 'buyer@example.com', mode: 'test' });
    expect(begun).toEqual({
      purchase_id: expect.stringMatching(/^pur_[0-9A-Za-z]{20}$/),
      status: 'pending',
      checkout_url: expect.stringContaining(test.sandbox.url),
      claim_token: expect.stringMatching(/^tgc_[0-9A-Za-z_-]{43}$/),
      poll_after_ms: 3000,
      sessionId: expect.any(String),
    });
    const session = await test.stripe.checkout.sessions.retrieve(begun.sessionId);
    expect(session).toMatchObject({ mode: 'subscription', customer_email: 'buyer@example.com' });
    expect(session.success_url).toBe(`${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`);
    expect(JSON.stringify(session)).not.toContain(begun.claim_token);
  });

  it.each([
    ['no plan', {}, 400, 'invalid_request', 'plan'],
    ['an unknown plan', { plan: 'gold' }, 400, 'unknown_plan', 'plan'],
    ['a hidden plan', { plan: 'secret' }, 400, 'unknown_plan', 'plan'],
    ['a bad e-mail', { plan: 'pro', email: 'nobody' }, 400, 'invalid_request', 'email'],
    ['a mode that there is not', { plan: 'pro', mode: 'both' }, 400, 'invalid_request', 'mode'],
    [
      'a page of its own',
      { plan: 'pro', success_url: 'https://evil.example' },
      400,
      'invalid_request',
      'success_url',
    ],
  ])('names the field: %s', async (_name, body, status, code, field) => {
    expect(await answerOf(post(body))).toMatchObject({ status, body: { code, errors: [{ field }] } });
  });

  it('refuses the other mode by name, and what is no request', async () => {
    expect(await answerOf(post({ plan: 'pro', mode: 'live' }))).toMatchObject({
      status: 400,
      body: {
        code: 'wrong_mode_purchase',
        detail: 'A live purchase was asked for, and this server is in test mode.',
      },
    });
    expect(await answerOf(post({ plan: 'unpriced' }))).toMatchObject({
      status: 409,
      body: { code: 'plan_not_for_sale' },
    });
    expect((await post('{"plan":')).status).toBe(400);
    expect((await post('[]')).status).toBe(400);
    expect((await post({ plan: 'x'.repeat(20_000) })).status).toBe(413);
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' };
    expect((await post('plan=pro', form)).status).toBe(415);
    for (const [method, path, allow] of [
      ['GET', '', 'POST'],
      ['POST', '/pur_x', 'GET, HEAD'],
      ['GET', '/pur_x/claim', 'POST'],
    ] as const) {
      const response = await fetch(`${test.url}/billing/purchases${path}`, { method });
      expect([response.status, response.headers.get('allow')], `${method} ${path}`).toEqual([405, allow]);
    }
  });

  it('is begun once for one Idempotency-Key, whose repetition gives the same token; another key gives another', async () => {
    const key = { 'Idempotency-Key': crypto.randomUUID() };
    const first = await begin({}, key);
    expect(await begin({}, key)).toEqual(first);
    expect((await answerOf(post({ plan: 'tried' }, key))).body.code).toBe('idempotency_conflict');
    expect((await begin({}, { 'Idempotency-Key': crypto.randomUUID() })).claim_token).not.toBe(
      first.claim_token,
    );
    const guessable = await answerOf(post({ plan: 'pro' }, { 'Idempotency-Key': 'order-1' }));
    expect(guessable).toMatchObject({ status: 400, body: { errors: [{ field: 'Idempotency-Key' }] } });
    // The same key, sent for a checkout of the pricing page, is another thing.
    const elsewhere = await fetch(`${test.url}/billing/create-checkout-session`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...key },
      body: JSON.stringify({ plan: 'pro' }),
    });
    expect(((await elsewhere.json()) as Begun).purchase_id).not.toBe(first.purchase_id);

    await test.pay(first.sessionId);
    expect((await claim(first)).status).toBe(200);
    const after = await answerOf(post({ plan: 'pro' }, key));
    expect(after.body).toMatchObject({ status: 'provisioned', claim_token: first.claim_token });
    expect((await claim(first)).body.code).toBe('already_claimed');
  });

  it('whose row was written by a look at the session meanwhile: the repeated request makes it the program’s', async () => {
    const key = { 'Idempotency-Key': crypto.randomUUID() };
    const first = await begin({}, key);
    // As after a crash between the checkout and the row, when a reconcile saw the checkout before the repetition.
    await rawQuery(
      test.keystoreUrl,
      `update purchases set claim_hash = null, session_sealed = null where id = '${first.purchase_id}'`,
    );
    expect((await look(first)).status).toBe(404);
    expect(await begin({}, key)).toEqual(first);
    await test.pay(first.sessionId);
    expect((await claim(first)).status).toBe(200);
  });
});

describe('a purchase that a program began', () => {
  it('is pending, then provisioned without any webhook; its key is claimed once, and works', async () => {
    await test.control('/delivery', { mode: 'paused' });
    try {
      const begun = await begin();
      const { purchase_id } = begun;
      expect(await look(begun)).toEqual({
        status: 200,
        body: {
          purchase_id,
          status: 'pending',
          plan: 'pro',
          failure: null,
          claimed: false,
          poll_after_ms: 3000,
        },
      });
      expect(await claim(begun)).toMatchObject({ status: 409, body: { code: 'payment_pending' } });
      await test.pay(begun.sessionId);
      const ready = {
        status: 200,
        body: {
          purchase_id,
          status: 'provisioned',
          plan: 'pro',
          failure: null,
          claimed: false,
          poll_after_ms: null,
        },
      };
      for (let i = 0; i < 3; i++) expect(await look(begun)).toEqual(ready);

      const claimed = await claim(begun);
      expect(claimed).toMatchObject({
        status: 200,
        body: {
          key: expect.stringMatching(/^tg_test_[0-9A-Za-z]{50}$/),
          plan: 'pro',
          mode: 'test',
          quota: 100,
          limits: [{ name: 'minute', requests: 10, window_seconds: 60 }],
        },
      });
      const { key, key_id, last_four } = claimed.body as Record<string, string>;
      expect((await test.keystore.authenticateKey(key!))?.id).toBe(key_id);
      expect(await look(begun)).toEqual({ ...ready, body: { ...ready.body, claimed: true } });
      expect(await claim(begun)).toMatchObject({
        status: 410,
        body: {
          code: 'already_claimed',
          detail: expect.stringMatching(/^This key was handed over on /),
          key_id,
          last_four,
          claimed_at: expect.any(String),
          remedy: expect.stringContaining('makes a new one'),
        },
      });
      expect((await test.keystore.keyHistory(key_id!)).map(({ actor, action }) => [actor, action])).toEqual([
        ['purchases_api', 'key.provisioned'],
        ['purchase_claim', 'key.claimed'],
      ]);
      expect(await sealed(begun)).toBe(false);
    } finally {
      await test.control('/delivery', { mode: 'concurrent' });
    }
  });

  it('answers JSON that no cache keeps, whatever the program says that it accepts', async () => {
    const begun = await bought();
    const response = await fetch(`${test.url}/billing/purchases/${begun.purchase_id}/claim`, {
      method: 'POST',
      headers: { Authorization: `bearer  ${begun.claim_token}`, Accept: 'text/html' },
    });
    expect(response.headers.get('content-type')).toContain('application/json');
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(await response.json()).toMatchObject({ plan: 'pro' });
  });

  it('that is claimed on the success page instead: the program is told so, and the sealed session id is gone', async () => {
    const begun = await bought();
    expect(await sealed(begun)).toBe(true);
    const { key_id, last_four } = (await claimOnPage(begun)).body as Record<string, string>;
    expect(await sealed(begun)).toBe(false);
    expect((await look(begun)).body).toMatchObject({ status: 'provisioned', claimed: true, failure: null });
    expect(await claim(begun)).toMatchObject({
      status: 410,
      body: {
        code: 'already_claimed',
        key_id,
        last_four,
        detail: expect.stringMatching(/^This key was shown on /),
      },
    });
    expect((await page(begun)).text).toContain('This key was already shown');
  });

  it('the success page waits for the program, says when it has the key, and replaces one that got lost', async () => {
    const begun = await bought();
    const waiting = await page(begun);
    expect(waiting.refresh).toBe('3');
    for (const words of ['picks your API key up by itself', 'Show the key here instead'])
      expect(waiting.text).toContain(words);
    await rawQuery(
      test.keystoreUrl,
      `update purchases set provisioned_at = provisioned_at - 600000 where id = '${begun.purchase_id}'`,
    );
    expect((await page(begun)).refresh).toBe('60');
    const { key_id } = (await claim(begun)).body;
    const taken = await page(begun);
    expect(taken.refresh).toBe(null);
    for (const words of [
      'Your key was handed to the program that you bought from.',
      'The program has no key',
    ])
      expect(taken.text).toContain(words);

    const replaced = await onPage('replace', { session_id: begun.sessionId, key_id });
    expect(replaced).toMatchObject({ status: 200, body: { replaces: { key_id } } });
    expect((await page(begun)).text).toContain('This key was already shown');
    expect((await claim(begun)).body).toMatchObject({
      code: 'already_claimed',
      key_id: replaced.body.key_id,
    });
  });

  it('is looked at ever more rarely, and not without end', async () => {
    const begun = await begin();
    const age = (minutes: number) =>
      rawQuery(
        test.keystoreUrl,
        `update purchases set created_at = created_at - ${minutes * 60_000} where id = '${begun.purchase_id}'`,
      );
    const waits = async () => (await look(begun)).body.poll_after_ms;
    await age(10);
    expect(await waits()).toBe(10_000);
    await test.pay(begun.sessionId, 'bank_debit');
    expect((await look(begun)).body).toMatchObject({ status: 'pending', poll_after_ms: 60_000 });
    await age(24 * 60);
    expect(await waits()).toBe(300_000);
    for (let i = 3; i < 60; i++) await look(begun);
    const refused = await fetch(
      `${test.url}/billing/purchases/${begun.purchase_id}`,
      bearer(begun.claim_token),
    );
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  it('whose debit fails says so; paid in another way later, it still has its key', async () => {
    const begun = await begin();
    await test.pay(begun.sessionId, 'bank_debit');
    await test.control(`/checkout/sessions/${begun.sessionId}/fail`);
    expect((await look(begun)).body).toMatchObject({
      status: 'failed',
      failure: 'payment_failed',
      claimed: false,
      poll_after_ms: null,
    });
    expect(await claim(begun)).toMatchObject({ status: 402, body: { code: 'payment_failed' } });
    const session = await test.stripe.checkout.sessions.retrieve(begun.sessionId);
    const { hosted_invoice_url } = await test.stripe.invoices.retrieve(session.invoice as string);
    await fetch(hosted_invoice_url!, { method: 'POST', body: new URLSearchParams({ card: 'success' }) });
    expect((await look(begun)).body).toMatchObject({ status: 'provisioned', failure: null });
    expect((await claim(begun)).status).toBe(200);
  });

  it('whose checkout expired is canceled, and nothing of its session is kept', async () => {
    const begun = await begin();
    await test.stripe.checkout.sessions.expire(begun.sessionId);
    const canceled = { status: 'canceled', plan: 'pro', failure: 'purchase_canceled', poll_after_ms: null };
    for (let i = 0; i < 2; i++) expect((await look(begun)).body).toMatchObject(canceled);
    expect(await claim(begun)).toMatchObject({ status: 410, body: { code: 'purchase_canceled' } });
    expect(await sealed(begun)).toBe(false);
  });

  it('paid for a price that stands for no plan any more is paid, until somebody maps it', async () => {
    const begun = await begin();
    await test.restart({ STRIPE_PRICE_MAP: 'price_other:pro' });
    try {
      await test.pay(begun.sessionId);
      expect((await look(begun)).body).toMatchObject({
        status: 'paid',
        failure: 'unknown_price',
        claimed: false,
        poll_after_ms: 300_000,
      });
      expect(await claim(begun)).toMatchObject({ status: 409, body: { code: 'unknown_price' } });
    } finally {
      await test.restart();
    }
    expect((await look(begun)).body).toMatchObject({ status: 'provisioned', failure: null });
    expect((await claim(begun)).status).toBe(200);
  });

  it('with a trial that its buyer had before waits for the money', async () => {
    const first = await begin({ plan: 'tried' });
    await test.control(`/checkout/sessions/${first.sessionId}/pay`, { email: 'tried@example.com' });
    expect((await claim(first)).status).toBe(200);
    const again = await begin({ plan: 'tried' });
    await test.control('/clock', { advance_seconds: 60 });
    await test.control(`/checkout/sessions/${again.sessionId}/pay`, { email: 'tried@example.com' });
    expect((await look(again)).body).toMatchObject({
      status: 'pending',
      failure: 'trial_used',
      poll_after_ms: 300_000,
    });
    expect(await claim(again)).toMatchObject({ status: 402, body: { code: 'trial_used' } });
    // Who is known to have had one is not offered another.
    const known = await begin({ plan: 'tried', email: 'tried@example.com' });
    await test.pay(known.sessionId);
    expect((await claim(known)).status).toBe(200);
  });

  it('whose key was switched off, or not claimed in time, says so, and keeps nothing sealed', async () => {
    const [revoked, expired] = [await bought(), await bought()];
    const { keyId } = (await test.keystore.findPurchase(revoked.sessionId))!;
    await test.keystore.revokeKey({ id: keyId!, reason: 'operator', actor: 'test' });
    await rawQuery(
      test.keystoreUrl,
      `update reveals set expires_at = 1 where purchase_id = '${expired.purchase_id}'`,
    );
    for (const [begun, code] of [
      [revoked, 'reveal_revoked'],
      [expired, 'reveal_expired'],
    ] as const) {
      expect((await look(begun)).body).toMatchObject({
        status: 'provisioned',
        failure: code,
        claimed: false,
      });
      expect(await claim(begun)).toMatchObject({ status: 410, body: { code } });
    }
    await test.keystore.sweep();
    for (const begun of [revoked, expired]) expect(await sealed(begun)).toBe(false);
    expect((await look(expired)).body).toMatchObject({ failure: 'reveal_expired' });
  });

  it('a failure of ours or of Stripe is no answer about the purchase', async () => {
    const begun = await begin();
    await test.control('/faults', { status: 500, count: 20 });
    expect(await look(begun)).toMatchObject({ status: 503, body: { code: 'stripe_unavailable' } });
    expect(await claim(begun)).toMatchObject({ status: 503, body: { code: 'stripe_unavailable' } });
    expect(await answerOf(post({ plan: 'pro' }))).toMatchObject({ status: 503 });
    await test.control('/faults/clear');
    await rawQuery(test.keystoreUrl, 'alter table purchases rename to purchases_away');
    const answers = [await look(begun), await claim(begun)];
    await rawQuery(test.keystoreUrl, 'alter table purchases_away rename to purchases');
    for (const answer of answers)
      expect(answer).toMatchObject({ status: 503, body: { code: 'keystore_unavailable' } });
    expect((await look(begun)).body).toMatchObject({ status: 'pending' });
  });

  it('of any claims at once, by the program and on the success page, exactly one gets the key', async () => {
    const claimants = fc.array(fc.constantFrom('program', 'page'), { minLength: 2, maxLength: 24 });
    await fc.assert(
      fc.asyncProperty(claimants, async (each) => {
        const begun = await bought();
        const answers = await Promise.all(
          each.map((who) => (who === 'program' ? claim(begun) : claimOnPage(begun))),
        );
        const keys = answers.flatMap(({ body }) => (body.key === undefined ? [] : [body.key]));
        expect(keys).toHaveLength(1);
        expect(answers.map(({ status }) => status).sort()).toEqual([200, ...each.slice(1).map(() => 410)]);
        const winner = each[answers.findIndex(({ status }) => status === 200)];
        const { key_id } = answers.find(({ status }) => status === 200)!.body;
        const claims = (await test.keystore.keyHistory(String(key_id))).filter(
          ({ action }) => action === 'key.claimed',
        );
        expect(claims.map(({ actor }) => actor)).toEqual([
          winner === 'program' ? 'purchase_claim' : 'success_page',
        ]);
        expect(await sealed(begun)).toBe(false);
      }),
      { numRuns: 12 },
    );
  });

  it('leaves neither token, session id nor key in the keystore, the logs or at Stripe', async () => {
    const [claimed, waiting] = [await bought(), await bought()];
    const { key } = (await claim(claimed)).body as Record<string, string>;
    await fetch(`${test.url}/billing/purchases/${waiting.claim_token}`, bearer(waiting.claim_token));
    await fetch(`${test.url}/billing/${waiting.claim_token}`);
    await vi.waitFor(async () => expect((await test.keystore.inboxDepth()).pending).toBe(0));
    const stored = await everythingStored(test.keystoreUrl);
    const logs = test.logLines.join('');
    expect(stored).toContain(waiting.purchase_id);
    expect(logs).toContain('tgc_[redacted]');
    const atStripe = JSON.stringify(await test.stripe.events.list({ limit: 100 }));
    for (const { claim_token, sessionId } of [claimed, waiting]) {
      for (const text of [stored, logs]) {
        expect(text).not.toContain(claim_token);
        expect(text).not.toContain(claim_token.slice(4));
        expect(text).not.toContain(sessionId);
      }
      expect(atStripe).toContain(sessionId);
      expect(atStripe).not.toContain(claim_token);
    }
    expect(logs).not.toContain(key);
  });
});

describe('somebody else', () => {
  it('gets one answer for a wrong token, a wrong id, no token and another purchase’s; and then none', async () => {
    const [begun, other] = [await bought(), await bought()];
    const id = begun.purchase_id;
    const shop = (await test.openCheckout('pro')).purchaseId;
    const ask = (path: string, headers: Record<string, string>, method = 'GET') =>
      fetch(`${test.url}/billing/purchases/${path}`, { method, headers });
    const guesses: [string, string, Record<string, string>][] = [
      ['a made-up token', id, { Authorization: `Bearer tgc_${'x'.repeat(43)}` }],
      ['another purchase’s token', id, { Authorization: `Bearer ${other.claim_token}` }],
      ['a made-up id', `pur_${'0'.repeat(20)}`, { Authorization: `Bearer ${begun.claim_token}` }],
      ['a purchase without a program', shop, { Authorization: `Bearer ${begun.claim_token}` }],
      ['no token', id, {}],
      ['another scheme', id, { Authorization: `Basic ${begun.claim_token}` }],
      ['a token in another header', id, { 'X-API-Key': begun.claim_token }],
      ['a token that goes on', id, { Authorization: `Bearer ${begun.claim_token}x` }],
      ['an id that is none', '%00', { Authorization: `Bearer ${begun.claim_token}` }],
    ];
    const answers = await Promise.all(
      guesses.flatMap(([, path, headers]) => [ask(path, headers), ask(`${path}/claim`, headers, 'POST')]),
    );
    const bodies = await Promise.all(
      answers.map(async (answer) => {
        expect(answer.headers.get('content-type')).toContain('application/problem+json');
        const { request_id, ...body } = (await answer.json()) as Record<string, unknown>;
        return JSON.stringify(body);
      }),
    );
    expect(new Set(bodies).size).toBe(1);
    expect(JSON.parse(bodies[0]!)).toMatchObject({ status: 404, code: 'purchase_not_found' });
    expect((await look(begun)).body).toMatchObject({ claimed: false });

    const statuses: number[] = [];
    for (let i = 0; i < 60; i++) statuses.push((await ask(id, guesses[0]![2])).status);
    expect(statuses.at(-1)).toBe(429);
    // Who has the token is not shut out by those who guess, even from the same address.
    expect((await claim(begun)).status).toBe(200);
  });
});
