import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { expect, it } from 'vitest';
import { ShapeError } from './shape.ts';
import { isSignedBy, readToken } from './token.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const HEADER = { alg: 'Ed25519', typ: 'entitlement+jwt', kid: 'k1' };
const CLAIMS = {
  iss: 'https://buy.example.com',
  aud: 'acme',
  sub: '8fK2mPq0ZrXw',
  jti: 'j1',
  iat: 1000,
  exp: 2000,
  grace_until: 3000,
  mode: 'live',
  plan: 'pro',
  plan_name: 'Pro',
  features: { export: true, projects: 10, region: 'eu' },
  device: { id: 'd1', name: null },
};

function token(header: object = HEADER, claims: object = CLAIMS): string {
  const signed = [header, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString('base64url')}`;
}

it.each(['Ed25519', 'EdDSA'])('reads a token signed with %s', (alg) => {
  const read = readToken(token({ ...HEADER, alg }));
  expect(isSignedBy(read, publicKey)).toBe(true);
  expect(read.keyId).toBe('k1');
  expect(read.claims).toMatchObject({ product: 'acme', plan: 'pro', expiresAt: 2000, graceUntil: 3000 });
  expect({ ...read.claims.features }).toEqual({ export: true, projects: 10, region: 'eu' });
});

it.each<[string, object]>([
  ['alg none', { ...HEADER, alg: 'none' }],
  ['alg HS256', { ...HEADER, alg: 'HS256' }],
  ['alg in another case', { ...HEADER, alg: 'ed25519' }],
  ['alg ES256', { ...HEADER, alg: 'ES256' }],
  ['no typ', { alg: 'Ed25519', kid: 'k1' }],
  ['the typ of another kind of token', { ...HEADER, typ: 'at+jwt' }],
  ['no kid', { alg: 'Ed25519', typ: 'entitlement+jwt' }],
  ['crit', { ...HEADER, crit: ['b64'], b64: false }],
])('refuses a header with %s', (_what, header) => {
  expect(() => readToken(token(header))).toThrow(ShapeError);
});

it.each<[string, object]>([
  ['aud as a list', { aud: ['acme'] }],
  ['no aud', { aud: undefined }],
  ['exp as a text', { exp: '2000' }],
  ['exp as a fraction', { exp: 2000.5 }],
  ['exp before iat', { exp: 999 }],
  ['grace_until before exp', { grace_until: 1999 }],
  ['a negative time', { iat: -1 }],
  ['a time that no date has', { grace_until: 8_640_000_000_001 }],
  ['another mode', { mode: 'staging' }],
  ['features as a list', { features: ['export'] }],
  ['a feature that is an object', { features: { export: {} } }],
  ['no device', { device: undefined }],
  ['a device without an id', { device: { name: 'x' } }],
])('refuses claims with %s', (_what, change) => {
  expect(() => readToken(token(HEADER, { ...CLAIMS, ...change }))).toThrow(ShapeError);
});

it('no character of a token can be changed', () => {
  const good = token();
  for (let i = 0; i < good.length; i++) {
    const changed = good.slice(0, i) + (good[i] === 'A' ? 'B' : 'A') + good.slice(i + 1);
    expect(accepts(changed), `at ${i}`).toBe(false);
  }
});

it.each<[string, (good: string) => string]>([
  ['padding', (good) => `${good}==`],
  ['another alphabet', (good) => good.replaceAll('_', '/').replaceAll('-', '+').concat('+')],
  ['a fourth part', (good) => `${good}.e30`],
  ['a part left out', (good) => good.split('.').slice(0, 2).join('.')],
  ['an empty signature', (good) => `${good.split('.').slice(0, 2).join('.')}.`],
  ['spaces', (good) => ` ${good}`],
  ['a hundred kilobytes', (good) => good + 'A'.repeat(100_000)],
])('refuses a token with %s', (_what, change) => {
  expect(accepts(change(token()))).toBe(false);
});

it("a feature may have any name, and an object's own are none", () => {
  const { features } = readToken(
    token(HEADER, { ...CLAIMS, features: JSON.parse('{"__proto__": true}') }),
  ).claims;
  expect(Object.keys(features)).toEqual(['__proto__']);
  expect(features.toString).toBeUndefined();
});

it('another key signed nothing of it', () => {
  expect(isSignedBy(readToken(token()), createPublicKey(generateKeyPairSync('ed25519').privateKey))).toBe(
    false,
  );
});

function accepts(text: string): boolean {
  try {
    return isSignedBy(readToken(text), publicKey);
  } catch (error) {
    if (error instanceof ShapeError) return false;
    throw error;
  }
}
