import { describe, expect, it } from 'vitest';
import {
  type Access,
  accessOf,
  type KeyStanding,
  SUBSCRIPTION_STATUSES,
  type SubscriptionStatus,
} from './access.ts';

const NOW = Date.UTC(2026, 10, 21);
const DAY = 86_400_000;
const key: KeyStanding = { revokedAt: null, expiresAt: null };
const short = (access: Access) => (access.state === 'active' ? 'active' : `${access.state} ${access.code}`);
const withStatus = (status: SubscriptionStatus, pastDueSince: number | null = null) => ({
  status,
  pastDueSince,
});

describe('accessOf', () => {
  const expected: Record<SubscriptionStatus, string> = {
    active: 'active',
    trialing: 'active',
    past_due: 'active',
    unpaid: 'suspended payment_past_due',
    incomplete: 'suspended payment_required',
    paused: 'suspended subscription_paused',
    canceled: 'expired subscription_ended',
    incomplete_expired: 'expired subscription_ended',
  };
  it.each(SUBSCRIPTION_STATUSES)('a subscription that is %s', (status) => {
    expect(short(accessOf(key, withStatus(status, NOW), {}, NOW))).toBe(expected[status]);
  });

  it('a revoked key stays revoked, whatever the subscription says', () => {
    for (const status of SUBSCRIPTION_STATUSES) {
      expect(short(accessOf({ ...key, revokedAt: 1 }, withStatus(status), {}, NOW))).toBe(
        'revoked revoked_key',
      );
    }
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
  });
});
