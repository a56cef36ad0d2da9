import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Answer, type LicensingUnderTest, startLicensingUnderTest } from '../test/licences.ts';
import { eventually } from '../test/servers.ts';

let test: LicensingUnderTest;
beforeAll(async () => {
  test = await startLicensingUnderTest();
});
afterAll(() => test.close());

const LAPTOP = { id: 'device-laptop', name: 'Laptop' };
const device = (n: number) => ({ id: `device-${n}-of-many`, name: `Device ${n}` });
const token = (answer: Answer) => answer.body.token as string;
const problem = (answer: Answer) => [answer.status, answer.body.code];
const hours = (n: number) => n * 3_600_000;

describe('activation', () => {
  it('answers a token that says what was bought, for this device', async () => {
    const { key, keyId } = await test.buyKey('pro');
    const begun = Math.floor(Date.now() / 1000) * 1000;
    const answer = await test.ask('activate', { key, device: LAPTOP });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.body).toMatchObject({
      licence: {
        key_id: keyId,
        plan: 'pro',
        plan_name: 'Pro',
        mode: 'test',
        state: 'active',
        features: { draw: true, export: true, projects: 10 },
      },
      device: LAPTOP,
      devices: { used: 1, limit: 3 },
      refresh_after_s: 12 * 3600,
      heartbeat_s: null,
    });
    expect(decodeProtectedHeader(token(answer))).toMatchObject({ alg: 'Ed25519', typ: 'entitlement+jwt' });
    const jwks = await test.get('/.well-known/jwks.json');
    expect(jwks.headers.get('cache-control')).toBe('public, max-age=300');
    const { payload } = await jwtVerify(token(answer), createLocalJWKSet(jwks.body as never), {
      issuer: test.config.publicLicensingUrl,
      audience: 'tg',
      typ: 'entitlement+jwt',
    });
    expect(payload).toMatchObject({
      sub: keyId,
      mode: 'test',
      plan: 'pro',
      features: { draw: true, export: true, projects: 10 },
      device: LAPTOP,
    });
    expect(payload.features).not.toHaveProperty('secret');
    expect(payload.jti).toMatch(/^[0-9a-f-]{36}$/);
    expect(payload.exp! * 1000 - begun).toBeGreaterThanOrEqual(hours(24));
    expect(payload.exp! * 1000 - Date.now()).toBeLessThanOrEqual(hours(24));
    expect((payload.grace_until as number) - payload.exp!).toBe(72 * 3600);
    expect(answer.body.expires_at).toBe(new Date(payload.exp! * 1000).toISOString());
  });

  it('gives a device one place, however often it asks, and no device more than there are', async () => {
    const { key } = await test.buyKey('pro');
    for (const n of [1, 1, 2, 3, 3])
      expect((await test.ask('activate', { key, device: device(n) })).status).toBe(200);
    const refused = await test.ask('activate', { key, device: device(4) });
    expect(problem(refused)).toEqual([409, 'device_limit']);
    expect(refused.headers.get('content-type')).toContain('application/problem+json');
    expect(refused.body).toMatchObject({
      limit: 3,
      detail: 'The plan Pro works on 3 devices at a time, and 3 are active.',
    });
    expect((refused.body.devices as { id: string }[]).map(({ id }) => id)).toEqual(
      [1, 2, 3].map((n) => device(n).id),
    );
    expect((await test.ask('deactivate', { key, device_id: device(2).id })).body).toEqual({
      deactivated: true,
      devices: { used: 2, limit: 3 },
    });
    expect(problem(await test.ask('refresh', { key, device_id: device(2).id }))).toEqual([
      409,
      'device_not_active',
    ]);
    expect((await test.ask('activate', { key, device: device(4) })).status).toBe(200);
    expect((await test.ask('deactivate', { key, device_id: device(2).id })).body).toMatchObject({
      deactivated: true,
    });
  });

  it('of a thousand at the same moment, on a licence for three, three succeed', async () => {
    const { keyId } = await test.buyKey('pro');
    const tries = await Promise.all(
      Array.from({ length: 1000 }, (_, n) =>
        test.keystore.activateDevice({
          rootId: keyId,
          keyId,
          device: device(n),
          places: { devices: 3, freeAfterMs: null },
          actor: 'test',
        }),
      ),
    );
    expect(tries.filter(({ outcome }) => outcome === 'activated')).toHaveLength(3);
    expect(tries.filter(({ outcome }) => outcome === 'device_limit')).toHaveLength(997);
  });

  it('the same over HTTP, where what is too much is told to come again', async () => {
    const { key } = await test.buyKey('pro');
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, n) => test.ask('activate', { key, device: device(n) })),
    );
    const count = (status: number) => answers.filter((answer) => answer.status === status).length;
    expect(count(200)).toBe(3);
    expect(count(409) + count(429)).toBe(997);
    expect(count(429)).toBeGreaterThan(0);
    const late = answers.find((answer) => answer.status === 429)!;
    expect(Number(late.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await test.get('/licences/devices', { 'x-api-key': key })).body.devices).toHaveLength(3);
  });

  it('is a use of the key: the success page makes no other one in its place any more', async () => {
    const { key, keyId, sessionId } = await test.buyKey('pro');
    await test.ask('activate', { key, device: LAPTOP });
    const replaced = await fetch(`${test.url}/billing/success/replace`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
      body: JSON.stringify({ session_id: sessionId, key_id: keyId }),
    });
    expect([replaced.status, ((await replaced.json()) as { code: string }).code]).toEqual([
      409,
      'key_in_use',
    ]);
    expect((await test.ask('refresh', { key, device_id: LAPTOP.id })).status).toBe(200);
  });

  it('needs a plan with devices, and a key that is good', async () => {
    const { key } = await test.buyKey('api');
    const refused = await test.ask('activate', { key, device: LAPTOP });
    expect(problem(refused)).toEqual([403, 'no_licence']);
    const other = `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`;
    expect(problem(await test.ask('activate', { key: other, device: LAPTOP }))).toEqual([401, 'invalid_key']);
    expect(problem(await test.ask('activate', { device: LAPTOP }))).toEqual([401, 'missing_key']);
    expect(problem(await test.ask('activate', { key, device: LAPTOP }, { 'x-api-key': other }))).toEqual([
      400,
      'conflicting_credentials',
    ]);
    const live = await test.ask('activate', { key: 'tg_live_1', device: LAPTOP });
    expect(problem(live)).toEqual([401, 'invalid_key']);
  });

  it.each([
    [{ device: { id: 'short' } }, 'device.id', 'is 8 to 128 characters without spaces'],
    [{ device: { id: 'device-laptop', name: 'a\u0000b' } }, 'device.name', 'has control characters'],
    [{}, 'device', 'is required: {"id": "...", "name": "..."}'],
    [{ device: LAPTOP, plan: 'pro' }, 'plan', 'is not known here'],
    [{ device: { ...LAPTOP, os: 'x' } }, 'os', 'is not known here'],
  ])('names what is wrong with %j', async (body, field, message) => {
    const answer = await test.ask('activate', body);
    expect(problem(answer)).toEqual([400, 'invalid_request']);
    expect(answer.body.errors).toContainEqual({ field, message });
  });

  it('takes the key in a header as well, and JSON alone', async () => {
    const { key } = await test.buyKey('solo');
    const answer = await test.ask('activate', { device: LAPTOP }, { authorization: `Bearer ${key}` });
    expect(answer.body).toMatchObject({
      licence: { plan: 'solo', until: null },
      devices: { used: 1, limit: 1 },
    });
    const form = await fetch(`${test.url}/licences/activate`, {
      method: 'POST',
      body: new URLSearchParams({ key }),
    });
    expect(form.status).toBe(415);
    const read = await fetch(`${test.url}/licences/activate`);
    expect([read.status, read.headers.get('allow')]).toEqual([405, 'POST']);
  });
});

describe('a licence goes on', () => {
  it('with a renewal, without anybody doing anything; and with a new key, on the same devices', async () => {
    const test = await startLicensingUnderTest();
    onTestFinished(() => test.close());
    const { key, keyId } = await test.buyKey('pro');
    const first = await test.ask('activate', { key, device: LAPTOP });
    const before = (first.body.licence as { until: string }).until;
    await test.control('/clock', { advance_seconds: 32 * 86_400 });
    await eventually(async () => {
      const answer = await test.ask('refresh', { key, device_id: LAPTOP.id });
      expect(answer.status).toBe(200);
      expect(Date.parse((answer.body.licence as { until: string }).until)).toBeGreaterThan(
        Date.parse(before),
      );
    });
    const rotated = await test.keystore.rotateKey({ id: keyId, overlapMs: 0, actor: 'test' });
    if (typeof rotated === 'string') throw new Error(rotated);
    expect(problem(await test.ask('refresh', { key, device_id: LAPTOP.id }))).toEqual([401, 'revoked_key']);
    const renewed = await test.ask('refresh', { key: rotated.plaintext, device_id: LAPTOP.id });
    expect(renewed.body).toMatchObject({ licence: { key_id: rotated.id }, devices: { used: 1, limit: 3 } });
  });

  it('with a change of plan: what it includes, and how many devices', async () => {
    const { key, keyId } = await test.buyKey('pro');
    for (const n of [1, 2, 3]) await test.ask('activate', { key, device: device(n) });
    const facts = (await test.keystore.findKeyFacts(keyId))!;
    const { items } = await test.stripe.subscriptions.retrieve(facts.subscription!.id);
    await test.stripe.subscriptions.update(facts.subscription!.id, {
      items: [{ id: items.data[0]!.id, price: test.prices.team! }],
    });
    await eventually(async () => {
      const answer = await test.ask('refresh', { key, device_id: device(1).id });
      expect(answer.body).toMatchObject({
        licence: { plan: 'team', features: { sso: true } },
        heartbeat_s: 300,
      });
    });
    // The third one has no place any more; those that were there before it keep theirs.
    expect(problem(await test.ask('refresh', { key, device_id: device(3).id }))).toEqual([
      409,
      'device_limit',
    ]);
    expect((await test.ask('refresh', { key, device_id: device(2).id })).status).toBe(200);
    await test.ask('deactivate', { key, device_id: device(1).id });
    expect((await test.ask('refresh', { key, device_id: device(3).id })).status).toBe(200);
  });
});

describe('a licence ends', () => {
  const bought = async (plan = 'pro') => {
    const licence = await test.buyKey(plan);
    expect((await test.ask('activate', { key: licence.key, device: LAPTOP })).status).toBe(200);
    return { ...licence, facts: (await test.keystore.findKeyFacts(licence.keyId))! };
  };
  const refusedWith = (key: string, status: number, code: string) =>
    eventually(async () => {
      expect(problem(await test.ask('refresh', { key, device_id: LAPTOP.id }))).toEqual([status, code]);
      const valid = await test.ask('validate', { key, device_id: LAPTOP.id });
      expect(valid).toMatchObject({ status: 200, body: { valid: false, code } });
      expect(valid.body.detail).toEqual(expect.any(String));
      expect(valid.body.remedy).toEqual(expect.any(String));
      expect(problem(await test.ask('activate', { key, device: device(9) }))).toEqual([status, code]);
    });

  it('when it is canceled: refused at once, and told why', async () => {
    const { key, facts } = await bought();
    expect((await test.ask('validate', { key, device_id: LAPTOP.id })).body).toMatchObject({
      valid: true,
      code: 'valid',
      device: LAPTOP,
      devices: { used: 1, limit: 3 },
    });
    await test.stripe.subscriptions.cancel(facts.subscription!.id);
    await refusedWith(key, 402, 'subscription_ended');
    // Giving a place back needs no right to it.
    expect((await test.ask('deactivate', { key, device_id: LAPTOP.id })).body.devices).toEqual({
      used: 0,
      limit: 3,
    });
  });

  it('when it is refunded, and when it is disputed', async () => {
    const { key, sessionId } = await bought('solo');
    const { payment_intent } = await test.stripe.checkout.sessions.retrieve(sessionId);
    await test.stripe.refunds.create({ payment_intent: payment_intent as string });
    await refusedWith(key, 401, 'revoked_key');
    const other = await bought('solo');
    const session = await test.stripe.checkout.sessions.retrieve(other.sessionId, {
      expand: ['payment_intent'],
    });
    const intent = session.payment_intent as { latest_charge: string };
    await test.control('/disputes', { charge: intent.latest_charge });
    await refusedWith(other.key, 402, 'payment_disputed');
  });

  it('while the seller suspends it, and is good again after', async () => {
    const { key, keyId } = await bought();
    await test.keystore.suspendKey({ id: keyId, note: null, actor: 'operator:test' });
    await refusedWith(key, 403, 'suspended_by_seller');
    await test.keystore.resumeKey({ id: keyId, actor: 'operator:test' });
    expect((await test.ask('refresh', { key, device_id: LAPTOP.id })).status).toBe(200);
  });

  it('when its device is released by the operator', async () => {
    const { key, keyId } = await bought();
    await test.keystore.releaseDevice({ rootId: keyId, keyId, deviceId: LAPTOP.id, actor: 'operator:test' });
    expect(problem(await test.ask('refresh', { key, device_id: LAPTOP.id }))).toEqual([
      409,
      'device_not_active',
    ]);
    expect((await test.ask('validate', { key, device_id: LAPTOP.id })).body).toMatchObject({
      valid: false,
      code: 'device_not_active',
    });
    expect((await test.ask('validate', { key })).body).toMatchObject({ valid: true, device: null });
  });

  it('a token is never good for longer than what is paid for, and its grace never past that by more than the plan says', async () => {
    const { key, facts } = await bought();
    const soon = Math.floor(Date.now() / 1000) + 7200;
    await test.stripe.subscriptions.update(facts.subscription!.id, { cancel_at: soon });
    await eventually(async () => {
      const claims = decodeJwt(token(await test.ask('refresh', { key, device_id: LAPTOP.id })));
      expect(claims.exp).toBe(soon);
      expect(claims.grace_until).toBe(soon + 72 * 3600);
    });
  });
});

describe('every question is written down', () => {
  it('with its outcome, for 90 days', async () => {
    const { key, keyId } = await test.buyKey('pro');
    await test.ask('activate', { key, device: LAPTOP });
    await test.ask('refresh', { key, device_id: 'device-unknown' });
    await test.ask('validate', { key, device_id: LAPTOP.id });
    const attempts = await test.keystore.listLicenceAttempts({ keyId, limit: 10 });
    expect(attempts.map(({ action, deviceId, outcome }) => [action, deviceId, outcome])).toEqual([
      ['validate', LAPTOP.id, 'ok'],
      ['refresh', 'device-unknown', 'device_not_active'],
      ['activate', LAPTOP.id, 'ok'],
    ]);
    expect(attempts[0]!.address).toBe('127.0.0.1');
    const history = await test.keystore.keyHistory(keyId);
    expect(history.at(-1)).toMatchObject({ action: 'device.activated', actor: 'licence_holder' });
    expect(test.logLines.join('')).not.toContain(key);
  });
});

describe('features', () => {
  it('without a key are those of the free plan, with the plans that have what is locked', async () => {
    const { body } = await test.get('/licences/features');
    expect(body).toMatchObject({
      product: 'tg',
      plan: { id: 'free', name: 'Free' },
      demo: true,
      features: { draw: true },
    });
    expect(body.locked).toEqual([
      {
        feature: 'export',
        plans: [
          { id: 'pro', name: 'Pro', value: true, price: '$19 a month' },
          { id: 'team', name: 'Team', value: true, price: '$99 a month' },
          { id: 'solo', name: 'Solo', value: true, price: '$49 once' },
        ],
      },
      expect.objectContaining({ feature: 'projects' }),
      expect.objectContaining({ feature: 'sso', plans: [expect.objectContaining({ id: 'team' })] }),
    ]);
  });

  it('with a key are those of its plan; locked is what there is more of', async () => {
    const { key } = await test.buyKey('pro');
    const { body } = await test.get('/licences/features', { 'x-api-key': key });
    expect(body).toMatchObject({
      plan: { id: 'pro' },
      demo: false,
      features: { draw: true, export: true, projects: 10 },
    });
    expect(body.locked).toEqual([
      expect.objectContaining({
        feature: 'projects',
        plans: [expect.objectContaining({ id: 'team', value: 100 })],
      }),
      expect.objectContaining({ feature: 'sso' }),
    ]);
  });
});
