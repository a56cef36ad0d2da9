import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { mintKey } from '../shared/keys.ts';
import { sqlitePath } from '../shared/keystore-url.ts';
import { newKeystoreUrl } from './keystores.ts';
import { controlSandbox, startTollgateUnderTest } from './tollgate.ts';

const keystoreUrl = newKeystoreUrl();
let tollgate: Awaited<ReturnType<typeof startTollgateUnderTest>>;
beforeAll(async () => {
  tollgate = await startTollgateUnderTest({ KEYSTORE_URL: keystoreUrl });
});
afterAll(() => tollgate.close());

it('a whole run with everything that can go wrong leaves no secret in logs, at Stripe, upstream or on disk', async () => {
  const { billing, gateway, sandbox, config } = tollgate;
  const secrets = new Set<string>([
    config.serverSecret,
    config.stripe!.secretKey,
    config.stripe!.webhookSecret!,
  ]);
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${billing.url}${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });

  // Three purchases on the pricing page: claimed, left sealed, and one whose debit fails.
  const keys: string[] = [];
  for (const [card, claims] of [
    ['success', true],
    ['success', false],
    ['bank_debit_fails', true],
  ] as const) {
    const opened = (await (await post('/billing/create-checkout-session', { plan: 'pro' })).json()) as {
      url: string;
    };
    const sessionId = /cs_test_[0-9A-Za-z]+/.exec(opened.url)![0];
    secrets.add(sessionId);
    await controlSandbox(sandbox!.url, `/checkout/sessions/${sessionId}/pay`, { card });
    if (card === 'bank_debit_fails')
      await controlSandbox(sandbox!.url, `/checkout/sessions/${sessionId}/fail`);
    await fetch(`${billing.url}/billing/success?session_id=${sessionId}`, {
      headers: { Accept: 'text/html' },
    });
    if (claims) {
      for (let i = 0; i < 2; i++) {
        const { key } = (await (await post('/billing/success/claim', { session_id: sessionId })).json()) as {
          key?: string;
        };
        if (key) keys.push(key);
      }
    }
    await fetch(`${billing.url}/billing/success/${sessionId}`);
    await fetch(`${billing.url}/billing/success%3Fsession_id%3D${sessionId}`);
  }

  // Two that a program began: claimed by it, and left. Its token is presented rightly, wrongly and in the wrong place.
  for (const claims of [true, false]) {
    const { purchase_id, checkout_url, claim_token } = (await (
      await post('/billing/purchases', { plan: 'pro' }, { 'Idempotency-Key': crypto.randomUUID() })
    ).json()) as Record<string, string>;
    const sessionId = /cs_test_[0-9A-Za-z]+/.exec(checkout_url!)![0];
    secrets.add(claim_token!).add(claim_token!.slice(4)).add(sessionId);
    await controlSandbox(sandbox!.url, `/checkout/sessions/${sessionId}/pay`, { card: 'success' });
    const path = `/billing/purchases/${purchase_id}`;
    const headers = { Authorization: `Bearer ${claim_token}` };
    await fetch(`${billing.url}${path}`, { headers });
    for (let i = 0; claims && i < 2; i++) {
      const { key } = (await (await post(`${path}/claim`, {}, headers)).json()) as { key?: string };
      if (key) keys.push(key);
    }
    await fetch(`${billing.url}/billing/purchases/${claim_token}?token=${claim_token}`, {
      headers: { Authorization: claim_token! },
    });
    await post(`${path}/claim/${claim_token}`, { claim_token }, { 'X-API-Key': claim_token! });
    await fetch(`${gateway.url}/v1/${claim_token}`, { headers });
    await post('/billing/purchases', { plan: claim_token }, { 'Idempotency-Key': claim_token! });
  }
  expect(keys).toHaveLength(2);
  const stranger = mintKey('tg', 'test').plaintext;
  for (const key of [...keys, stranger]) secrets.add(key).add(key.slice(8 + 12, 8 + 12 + 32));

  // Good, wrong, misplaced and malformed use of the keys.
  const seenUpstream: string[] = [];
  for (const key of [...keys, stranger]) {
    for (const headers of [
      { 'X-API-Key': key },
      { Authorization: `Bearer ${key}` },
      { 'X-API-Key': `${key}x` },
      { 'X-API-Key': key, Authorization: 'Bearer other' },
    ]) {
      seenUpstream.push(await (await fetch(`${gateway.url}/v1/echo`, { headers })).text());
      await fetch(`${gateway.url}/whoami`, { headers });
    }
    await fetch(`${gateway.url}/${key}`, { method: 'DELETE' });
    await fetch(`${gateway.url}/v1/%2F${key}?token=${key}`, { headers: { 'X-API-Key': keys[0]! } });
  }
  await post('/billing/webhook', '{}', { 'Stripe-Signature': `t=1,v1=${config.stripe!.webhookSecret}` });
  await post('/billing/webhook', JSON.stringify({ key: keys[0] }), { 'Stripe-Signature': 'nonsense' });
  await controlSandbox(sandbox!.url, '/faults', { status: 500, count: 3 });
  await post('/billing/create-checkout-session', { plan: 'pro' });
  await controlSandbox(sandbox!.url, '/faults/clear');
  await vi.waitFor(async () =>
    expect(await tollgate.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }),
  );

  const logs = tollgate.logLines.join('');
  expect(tollgate.logLines.length).toBeGreaterThan(20);
  for (const secret of secrets)
    expect(logs.includes(secret), `${secret.slice(0, 8)}… in the logs`).toBe(false);

  const atStripe = JSON.stringify(
    await Promise.all(
      [
        'events?limit=100',
        'checkout/sessions?limit=100',
        'customers?limit=100',
        'subscriptions?limit=100&status=all',
        'payment_intents?limit=100',
      ].map(async (path) =>
        (
          await fetch(`${sandbox!.url}/v1/${path}`, {
            headers: { Authorization: `Bearer ${config.stripe!.secretKey}` },
          })
        ).json(),
      ),
    ),
  );
  expect(atStripe).toContain('tollgate_plan');
  for (const key of keys) expect(atStripe).not.toContain(key);
  expect(atStripe).not.toContain('tgc_');

  expect(seenUpstream.some((text) => text.includes('x-credential-identifier'))).toBe(true);
  for (const text of seenUpstream) for (const key of keys) expect(text).not.toContain(key);

  const folder = dirname(sqlitePath(keystoreUrl));
  const keystoreFiles = readdirSync(folder).filter((name) => name.startsWith('keystore'));
  const disk = keystoreFiles.map((name) => readFileSync(join(folder, name), 'latin1')).join('');
  for (const key of keys) expect(disk.includes(key.slice(20, 52)), 'a key on disk').toBe(false);
  for (const secret of secrets) expect(disk.includes(secret), `${secret.slice(0, 8)}… on disk`).toBe(false);
});
