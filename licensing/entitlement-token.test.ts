import { ed25519 } from '@noble/curves/ed25519.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LicenceTerms, PLAN_DEFAULTS } from '../shared/plan.ts';
import { newSigningKey, readSigningKeys } from '../shared/signing-keys.ts';
import { EntitlementTokens, tokenTimes } from './entitlement-token.ts';
import type { Licence } from './licence.ts';

const NOW = Date.UTC(2026, 10, 29, 12);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const terms = (more: Partial<LicenceTerms> = {}): LicenceTerms => ({
  devices: 1,
  freeAfterMs: null,
  trialDays: null,
  tokenTtlMs: 24 * HOUR,
  offlineGraceMs: 72 * HOUR,
  ...more,
});

describe('how long a token is good for', () => {
  it.each([
    ['nothing ends', null, 24 * HOUR, 96 * HOUR],
    ['the period ends long after', 700 * HOUR, 24 * HOUR, 96 * HOUR],
    ['the period ends before', 5 * HOUR, 5 * HOUR, 77 * HOUR],
    ['the period is about to end', 10 * MINUTE, HOUR, 72 * HOUR + 10 * MINUTE],
    [
      'the period has just ended, and the next one is not known yet',
      -10 * MINUTE,
      HOUR,
      72 * HOUR - 10 * MINUTE,
    ],
    ['the period ended longer ago than the grace', -80 * HOUR, 5 * MINUTE, 5 * MINUTE],
  ])('%s', (_when, until, good, grace) => {
    const end = until === null ? null : NOW + until;
    const times = tokenTimes({ terms: terms(), until: end, renews: true }, NOW);
    expect([times.expiresAt - NOW, times.graceUntil - NOW]).toEqual([good, grace]);
  });

  it.each([
    ['ends in five hours', 5 * HOUR, 72 * HOUR, 5 * HOUR, 77 * HOUR],
    ['is about to end', 10 * MINUTE, 72 * HOUR, 10 * MINUTE, 72 * HOUR + 10 * MINUTE],
    ['is about to end, without a grace', MINUTE, 0, MINUTE, MINUTE],
    ['ends within this second', 500, 0, 1000, 1000],
  ])('where nothing follows what is paid for and that %s', (_when, until, offlineGraceMs, good, grace) => {
    const times = tokenTimes({ terms: terms({ offlineGraceMs }), until: NOW + until, renews: false }, NOW);
    expect([times.expiresAt - NOW, times.graceUntil - NOW]).toEqual([good, grace]);
  });

  it('is never more than the plan says, nor than what is paid for and the grace', () => {
    fc.assert(
      fc.property(
        fc.record({
          tokenTtlMs: fc.integer({ min: 5 * MINUTE, max: 400 * HOUR }),
          offlineGraceMs: fc.integer({ min: 0, max: 400 * HOUR }),
        }),
        fc.option(fc.integer({ min: -1000 * HOUR, max: 1000 * HOUR })),
        fc.boolean(),
        (given, paidFor, renews) => {
          const until = paidFor === null ? null : NOW + paidFor;
          const { issuedAt, expiresAt, graceUntil } = tokenTimes({ terms: terms(given), until, renews }, NOW);
          expect(expiresAt).toBeGreaterThan(issuedAt);
          expect(expiresAt - issuedAt).toBeLessThanOrEqual(given.tokenTtlMs);
          expect(graceUntil).toBeGreaterThanOrEqual(expiresAt);
          expect(graceUntil - expiresAt).toBeLessThanOrEqual(given.offlineGraceMs);
          if (until !== null) {
            const last = Math.max(until + given.offlineGraceMs, issuedAt + (renews ? 5 * MINUTE : 1000));
            expect(graceUntil).toBeLessThanOrEqual(last);
          }
        },
      ),
    );
  });
});

describe('a token', () => {
  it('verifies with code that shares nothing with what signed it', async () => {
    const tokens = await EntitlementTokens.with(
      readSigningKeys(newSigningKey() + newSigningKey()),
      'https://buy.example.com',
      'acme',
    );
    const key = { id: 'key', mode: 'test' } as Licence['key'];
    const plan = { ...PLAN_DEFAULTS, id: 'pro', name: 'Pro' };
    const device = { id: 'device-laptop', name: 'Laptop', activatedAt: NOW, lastSeenAt: NOW };
    const licence = { key, plan, terms: terms(), features: {}, until: null, renews: false };
    const { token } = await tokens.issue(licence, device, NOW);
    const [head = '', body = '', signature = ''] = token.split('.');
    const { kid } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { kid: string };
    const [signs, other] = tokens.jwks.keys;
    expect(kid).toBe(signs?.kid);
    const verifies = (x: string | undefined, text: string) =>
      ed25519.verify(
        Buffer.from(signature, 'base64url'),
        Buffer.from(text),
        Buffer.from(x as string, 'base64url'),
      );
    expect(verifies(signs?.x, `${head}.${body}`)).toBe(true);
    expect(verifies(other?.x, `${head}.${body}`)).toBe(false);
    expect(verifies(signs?.x, `${head}.${body.slice(0, -1)}A`)).toBe(false);
  });
});
