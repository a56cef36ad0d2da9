import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Access,
  type AccessRules,
  accessOf,
  GOOD_STANDING,
  type KeyStanding,
  type PaymentStanding,
  paymentVerdict,
  SUBSCRIPTION_STATUSES,
  type SubscriptionStatus,
} from './access.ts';

const NOW = Date.UTC(2026, 10, 21);
const DAY = 86_400_000;
const key: KeyStanding = GOOD_STANDING;
const short = (access: Access) => (access.state === 'active' ? 'active' : `${access.state} ${access.code}`);
const withStatus = (status: SubscriptionStatus, pastDueSince: number | null = null) => ({
  status,
  pastDueSince,
});

/** Each status by the plan's rules: by default, and where the plan allows or suspends. */
// biome-ignore format: a table
const TABLE: Record<SubscriptionStatus, { usually: string; allowed: string; suspended: string }> = {
  trialing:           { usually: 'active',                        allowed: 'active',                     suspended: 'suspended payment_required' },
  active:             { usually: 'active',                        allowed: 'active',                     suspended: 'active' },
  past_due:           { usually: 'active',                        allowed: 'active',                     suspended: 'suspended payment_past_due' },
  unpaid:             { usually: 'suspended payment_past_due',    allowed: 'active',                     suspended: 'suspended payment_past_due' },
  incomplete:         { usually: 'suspended payment_required',    allowed: 'active',                     suspended: 'suspended payment_required' },
  paused:             { usually: 'suspended subscription_paused', allowed: 'active',                     suspended: 'suspended subscription_paused' },
  canceled:           { usually: 'expired subscription_ended',    allowed: 'expired subscription_ended', suspended: 'expired subscription_ended' },
  incomplete_expired: { usually: 'expired subscription_ended',    allowed: 'expired subscription_ended', suspended: 'expired subscription_ended' },
};
const every = (rule: 'allow' | 'suspend'): AccessRules => ({
  trialing: rule,
  past_due: rule,
  unpaid: rule,
  incomplete: rule,
  paused: rule,
});

describe('accessOf', () => {
  describe.each(SUBSCRIPTION_STATUSES)('a subscription that is %s', (status) => {
    const access = (rules: AccessRules, standing = key) =>
      short(accessOf(standing, withStatus(status, NOW), { access: rules }, NOW));

    it('by default', () => expect(access({})).toBe(TABLE[status].usually));
    it('where the plan allows it', () => expect(access(every('allow'))).toBe(TABLE[status].allowed));
    it('where the plan suspends it', () => expect(access(every('suspend'))).toBe(TABLE[status].suspended));

    it('with a revoked key, an expired one, a disputed payment', () => {
      for (const rules of [{}, every('allow')]) {
        expect(access(rules, { ...key, revokedAt: 1 })).toBe('revoked revoked_key');
        expect(access(rules, { ...key, expiresAt: NOW })).toBe('expired expired_key');
        const undisputed = access(rules);
        const disputed = { ...key, disputedSince: 1 };
        expect(access(rules, disputed)).toBe(
          undisputed === 'active' ? 'suspended payment_disputed' : undisputed,
        );
        expect(access({ ...rules, dispute: 'allow' }, disputed)).toBe(undisputed);
      }
    });
  });

  describe('a key that the seller suspended', () => {
    const suspended = { ...key, suspendedAt: 1 };

    it('is suspended whatever is paid or allowed, until what is final', () => {
      for (const status of SUBSCRIPTION_STATUSES)
        for (const rules of [{}, every('allow'), every('suspend'), { dispute: 'allow' as const }])
          for (const disputedSince of [null, 1]) {
            const paid = TABLE[status].usually;
            const access = accessOf(
              { ...suspended, disputedSince },
              withStatus(status, NOW),
              { access: rules },
              NOW,
            );
            expect(short(access)).toBe(paid.startsWith('expired') ? paid : 'suspended suspended_by_seller');
          }
      expect(short(accessOf(suspended, null, {}, NOW))).toBe('suspended suspended_by_seller');
      expect(short(accessOf({ ...suspended, revokedAt: 1 }, null, {}, NOW))).toBe('revoked revoked_key');
      expect(short(accessOf({ ...suspended, expiresAt: NOW }, null, {}, NOW))).toBe('expired expired_key');
    });

    it('may do nothing that it may not without that, and comes back as it would be', () => {
      const time = fc.integer({ min: NOW - 60 * DAY, max: NOW + 60 * DAY });
      const maybe = fc.option(time, { nil: null });
      fc.assert(
        fc.property(
          fc.record({ revokedAt: maybe, expiresAt: maybe, suspendedAt: time, disputedSince: maybe }),
          fc.constantFrom(null, ...SUBSCRIPTION_STATUSES),
          time,
          (standing, status, pastDueSince) => {
            const subscription = status && withStatus(status, pastDueSince);
            const held = accessOf(standing, subscription, {}, NOW);
            const resumed = accessOf({ ...standing, suspendedAt: null }, subscription, {}, NOW);
            expect(held.state).not.toBe('active');
            if (resumed.state === 'revoked' || resumed.state === 'expired') expect(held).toEqual(resumed);
            else expect(short(held)).toBe('suspended suspended_by_seller');
          },
        ),
      );
    });
  });

  it('past due keeps access to the end of the grace and not a moment longer', () => {
    const since = withStatus('past_due', NOW - 14 * DAY);
    expect(accessOf(key, since, {}, NOW - 1)).toEqual({ state: 'active', until: NOW });
    expect(short(accessOf(key, since, {}, NOW))).toBe('suspended payment_past_due');
    expect(short(accessOf(key, since, { graceDays: 0 }, since.pastDueSince as number))).toBe(
      'suspended payment_past_due',
    );
    expect(short(accessOf(key, since, { graceDays: 30 }, NOW))).toBe('active');
  });

  it('a key without a subscription lives until it expires', () => {
    expect(accessOf(key, null, {}, NOW)).toEqual({ state: 'active', until: null });
    expect(accessOf({ ...key, expiresAt: NOW + 1 }, null, {}, NOW)).toEqual({
      state: 'active',
      until: NOW + 1,
    });
    expect(short(accessOf({ ...key, expiresAt: NOW }, null, {}, NOW))).toBe('expired expired_key');
    expect(short(accessOf({ ...key, disputedSince: 1 }, null, {}, NOW))).toBe('suspended payment_disputed');
  });

  it('the answer holds until the moment it names, and changes there', () => {
    const time = fc.integer({ min: NOW - 60 * DAY, max: NOW + 60 * DAY });
    const maybe = fc.option(time, { nil: null });
    fc.assert(
      fc.property(
        maybe.map((expiresAt) => ({ ...key, expiresAt })),
        fc.constantFrom(...SUBSCRIPTION_STATUSES),
        time,
        fc.nat(40),
        (standing, status, pastDueSince, graceDays) => {
          const at = (now: number) =>
            accessOf(standing, withStatus(status, pastDueSince), { graceDays }, now);
          const access = at(NOW);
          if (access.state !== 'active') return;
          if (access.until === null) expect(at(NOW + 1000 * DAY).state).toBe('active');
          else {
            expect(access.until).toBeGreaterThan(NOW);
            expect(at(access.until - 1).state).toBe('active');
            expect(at(access.until).state).not.toBe('active');
          }
        },
      ),
    );
  });
});

describe('paymentVerdict', () => {
  const kept: PaymentStanding = { refundedAt: null, paidUntil: null, dispute: null };
  // biome-ignore format: a table
  it.each<[string, Partial<PaymentStanding>, AccessRules, string]>([
    ['nothing happened',                        {},                                             {},                       'kept'],
    ['a one-time purchase given back',          { refundedAt: NOW },                            {},                       'refunded'],
    ['a period given back while it runs',       { refundedAt: NOW, paidUntil: NOW + 1 },        {},                       'refunded'],
    ['a period given back when it was over',    { refundedAt: NOW, paidUntil: NOW },            {},                       'kept'],
    ['given back, and the plan keeps access',   { refundedAt: NOW },                            { refund: 'keep' },       'kept'],
    ['an inquiry',                              { dispute: 'inquiry' },                         {},                       'kept'],
    ['in dispute',                              { dispute: 'open' },                            {},                       'in_dispute'],
    ['a dispute won',                           { dispute: 'won' },                             {},                       'kept'],
    ['a dispute lost',                          { dispute: 'lost' },                            {},                       'disputed'],
    ['lost after the period was over',          { dispute: 'lost', paidUntil: 0 },              {},                       'disputed'],
    ['lost, and the plan keeps access',         { dispute: 'lost' },                            { lost_dispute: 'keep' }, 'kept'],
    ['lost and kept, but given back too',       { dispute: 'lost', refundedAt: NOW },           { lost_dispute: 'keep' }, 'refunded'],
    ['in dispute and given back',               { dispute: 'open', refundedAt: NOW },           {},                       'refunded'],
  ])('%s', (_what, payment, rules, verdict) => {
    expect(paymentVerdict({ ...kept, ...payment }, rules)).toBe(verdict);
  });
});
