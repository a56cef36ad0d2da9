import { afterEach, describe, expect, it, vi } from 'vitest';
import type { PaymentSnapshot, SubscriptionSnapshot } from '../../keystore/keystore.ts';
import type { RevocationReason } from '../../shared/access.ts';
import { boughtKey, closeAll, startTestGateway, type TestGateway } from '../../test/gateways.ts';

afterEach(closeAll);

const MANAGE = 'https://buy.example.com/billing/manage';
const PRICING = 'https://buy.example.com/';
const PAST_DUE = ['payment_past_due', /^Update your payment method/, MANAGE] as const;
const REQUIRED = ['payment_required', /^Complete the open payment/, MANAGE] as const;
const PAUSED = ['subscription_paused', /^Resume your subscription/, MANAGE] as const;
const DISPUTED = ['payment_disputed', /^Access returns when the dispute/, MANAGE] as const;
const ENDED = ['subscription_ended', /^Subscribe again/, PRICING] as const;
const ALL_ALLOWED =
  '{ trialing: allow, past_due: allow, unpaid: allow, incomplete: allow, paused: allow, dispute: allow }';

type Circumstance = { status?: SubscriptionSnapshot['status']; dispute?: PaymentSnapshot['dispute'] };

describe('money and access', () => {
  it.each<[Circumstance, plan: string, 'in' | readonly [code: string, remedy: RegExp, url: string]]>([
    [{ status: 'active' }, '', 'in'],
    [{ status: 'trialing' }, '', 'in'],
    [{ status: 'trialing' }, 'access: { trialing: suspend }', REQUIRED],
    [{ status: 'past_due' }, '', 'in'],
    [{ status: 'past_due' }, 'grace_days: 0', PAST_DUE],
    [{ status: 'past_due' }, 'access: { past_due: suspend }', PAST_DUE],
    [{ status: 'past_due' }, 'grace_days: 0, access: { past_due: allow }', 'in'],
    [{ status: 'unpaid' }, '', PAST_DUE],
    [{ status: 'unpaid' }, 'access: { unpaid: allow }', 'in'],
    [{ status: 'incomplete' }, '', REQUIRED],
    [{ status: 'incomplete' }, 'access: { incomplete: allow }', 'in'],
    [{ status: 'paused' }, '', PAUSED],
    [{ status: 'paused' }, 'access: { paused: allow }', 'in'],
    [{ status: 'paused' }, 'access: { unpaid: allow, incomplete: allow, dispute: allow }', PAUSED],
    [{ status: 'canceled' }, '', ENDED],
    [{ status: 'canceled' }, `access: ${ALL_ALLOWED}`, ENDED],
    [{ status: 'incomplete_expired' }, `access: ${ALL_ALLOWED}`, ENDED],
    [{ dispute: 'open' }, '', DISPUTED],
    [{ dispute: 'open' }, 'access: { dispute: allow }', 'in'],
    [{ dispute: 'won' }, '', 'in'],
    [{ status: 'past_due', dispute: 'open' }, 'access: { past_due: allow }', DISPUTED],
    [{ status: 'unpaid', dispute: 'open' }, 'access: { dispute: allow }', PAST_DUE],
    [{ status: 'canceled', dispute: 'open' }, '', ENDED],
  ])('%o with the plan’s { %s }', async ({ status = 'active', dispute }, plan, expected) => {
    const now = Date.UTC(2026, 10, 21);
    const plans = `plans:\n  p: { name: P, ${plan} }\n`;
    const gateway = await startTestGateway({ plans, now: () => now });
    const { plaintext, sync, syncPayment } = await boughtKey(gateway, { planId: 'p' });
    await sync({ status, fetchedAt: now });
    if (dispute) await syncPayment({ dispute, disputedSince: dispute === 'open' ? now : null });
    for (const path of ['/', '/whoami']) {
      const response = await gateway.get(path, plaintext);
      if (expected === 'in') {
        expect(response.status).toBe(200);
        continue;
      }
      const [code, remedy, manage_url] = expected;
      expect(response.status).toBe(402);
      expect(response.headers.get('retry-after')).toBeNull();
      expect(await response.json()).toMatchObject({
        code,
        status: 402,
        remedy: expect.stringMatching(remedy),
        manage_url,
      });
    }
  });

  it('a dispute suspends a running key within a second, and its end brings it back', async () => {
    const gateway = await startTestGateway();
    const { plaintext, syncPayment } = await boughtKey(gateway, { once: true });
    const soon = (status: number) =>
      vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(status), 1000);
    await soon(200);
    await syncPayment({ dispute: 'open', disputedSince: 1 });
    await soon(402);
    await syncPayment({ dispute: 'won', fetchedAt: 2000 });
    await soon(200);
    await syncPayment({ dispute: 'lost', fetchedAt: 3000 });
    await soon(401);
  });
});

describe('a key that is revoked says why', () => {
  const detailOf = async (gateway: TestGateway, key: string, code: string) => {
    const response = await gateway.get('/', key);
    const body = (await response.json()) as { detail: string; remedy: string };
    expect(body).toMatchObject({ status: 401, code });
    expect(body).not.toHaveProperty('manage_url');
    return body;
  };

  it.each<[RevocationReason, string]>([
    ['refunded', 'The payment for this key was refunded.'],
    ['disputed', 'The payment for this key was taken back in a dispute.'],
    ['rotated', 'This key was replaced by a newer one.'],
    ['replaced', 'This key was replaced by a newer one.'],
    ['leaked', 'This key had become known to others and was switched off.'],
    ['operator', 'The seller switched this key off.'],
  ])('%s', async (reason, detail) => {
    const gateway = await startTestGateway();
    const { plaintext, id } = await gateway.key();
    await gateway.keystore.revokeKey({ id, reason, actor: 't' });
    expect(await detailOf(gateway, plaintext, 'revoked_key')).toMatchObject({ detail });
  });

  it('but only to who has it', async () => {
    const gateway = await startTestGateway();
    const { plaintext, id } = await gateway.key();
    await gateway.keystore.revokeKey({ id, reason: 'leaked', actor: 't' });
    const response = await gateway.get('/', plaintext.slice(0, -1));
    expect(await response.json()).toMatchObject({ code: 'invalid_key' });
  });

  it('and so does one whose overlap after a rotation has ended', async () => {
    let time = Date.UTC(2026, 10, 21);
    const gateway = await startTestGateway({ now: () => time });
    const { plaintext, id } = await gateway.key();
    await gateway.keystore.rotateKey({ id, overlapMs: 1000, actor: 't' });
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    time += 1000;
    expect(await detailOf(gateway, plaintext, 'expired_key')).toMatchObject({
      detail: 'This key was replaced by a newer one, and the time for which both worked is over.',
      remedy: 'Use your newer key, or contact the seller.',
    });
    const other = await gateway.key('open', { expiresAt: time });
    expect(await detailOf(gateway, other.plaintext, 'expired_key')).toMatchObject({
      detail: 'API key expired.',
    });
  });
});
