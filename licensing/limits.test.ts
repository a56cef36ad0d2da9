import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type LicensingUnderTest, startLicensingUnderTest } from '../test/licences.ts';
import { eventually } from '../test/servers.ts';

let test: LicensingUnderTest;
beforeAll(async () => {
  test = await startLicensingUnderTest();
});
afterAll(() => test.close());

const LAPTOP = { id: 'device-laptop', name: 'Laptop' };

/** A licence whose key was replaced at once, as after a leak, with the device of its holder. */
async function replaced() {
  const old = await test.buyKey('pro');
  expect((await test.ask('activate', { key: old.key, device: LAPTOP })).status).toBe(200);
  const rotated = await test.keystore.rotateKey({ id: old.keyId, overlapMs: 0, actor: 'test' });
  if (typeof rotated === 'string') throw new Error(rotated);
  return { old, key: rotated.plaintext };
}

describe('what may be asked', () => {
  it('of a key as a whole is not limited as one device is', async () => {
    const { key } = await test.buyKey('pro');
    for (let n = 0; n < 31; n++) expect((await test.ask('validate', { key })).status).toBe(200);
  });

  it('of the devices and features of a key is limited, too', async () => {
    const { key } = await test.buyKey('pro');
    const statuses = [];
    for (let n = 0; n < 605; n++)
      statuses.push((await test.get('/licences/devices', { 'x-api-key': key })).status);
    expect(statuses.filter((status) => status === 429)).toHaveLength(5);
    expect((await test.get('/licences/features', { 'x-api-key': key })).status).toBe(429);
  });

  it('with a key is not used up by who has the one before it', async () => {
    const { old, key } = await replaced();
    for (let n = 0; n < 31; n++) await test.ask('refresh', { key: old.key, device_id: LAPTOP.id });
    expect((await test.ask('refresh', { key, device_id: LAPTOP.id })).status).toBe(200);
  });
});

describe('a place', () => {
  it('cannot be passed round: in a day so many devices have had one', async () => {
    const { key } = await test.buyKey('solo');
    const cycle = async (n: number) => {
      const device = { id: `device-number-${n}` };
      const { status } = await test.ask('activate', { key, device });
      await test.ask('deactivate', { key, device_id: device.id });
      return status;
    };
    for (let n = 0; n < 30; n++) expect(await cycle(n)).toBe(200);
    expect(await cycle(30)).toBe(429);
    const other = await test.buyKey('solo');
    // A device that has its place already gets none.
    for (let n = 0; n < 30; n++)
      expect((await test.ask('activate', { key: other.key, device: LAPTOP })).status).toBe(200);
  });

  it('is kept by the device that has it, when no more are given that day', async () => {
    const { key } = await test.buyKey('solo');
    for (let n = 0; n < 29; n++) {
      const device = { id: `device-number-${n}` };
      expect((await test.ask('activate', { key, device })).status).toBe(200);
      await test.ask('deactivate', { key, device_id: device.id });
    }
    for (let n = 0; n < 3; n++)
      expect((await test.ask('activate', { key, device: LAPTOP })).status).toBe(200);
    await test.ask('deactivate', { key, device_id: LAPTOP.id });
    expect((await test.ask('activate', { key, device: LAPTOP })).status).toBe(429);
  });

  it('is not used up by what goes wrong at the server', async () => {
    const { key } = await test.buyKey('solo');
    const broken = vi.spyOn(test.keystore, 'activateDevice').mockRejectedValue(new Error('disk full'));
    try {
      for (let n = 0; n < 31; n++)
        expect((await test.ask('activate', { key, device: { id: `device-number-${n}` } })).status).toBe(500);
    } finally {
      broken.mockRestore();
    }
    expect((await test.ask('activate', { key, device: LAPTOP })).status).toBe(200);
  });
});

describe('a key that is limited to addresses', () => {
  it('is a licence there and nowhere else', async () => {
    const { key, keyId } = await test.buyKey('solo');
    await test.keystore.allowAddresses({ id: keyId, addresses: ['192.0.2.0/24'], actor: 'test' });
    const refused = await test.ask('activate', { key, device: LAPTOP });
    expect([refused.status, refused.body.code]).toEqual([403, 'address_not_allowed']);
    expect((await test.ask('validate', { key })).body).toMatchObject({
      valid: false,
      code: 'address_not_allowed',
    });
    await test.keystore.allowAddresses({ id: keyId, addresses: ['127.0.0.0/8'], actor: 'test' });
    expect((await test.ask('activate', { key, device: LAPTOP })).status).toBe(200);
  });
});

describe('a program in a web view', () => {
  it('may ask from an origin of its own', async () => {
    const preflight = await fetch(`${test.url}/licences/activate`, {
      method: 'OPTIONS',
      headers: {
        Origin: 'tauri://localhost',
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'content-type',
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('*');
    expect(preflight.headers.get('access-control-allow-headers')).toContain('Content-Type');
    const refused = await test.ask('activate', { device: LAPTOP });
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, '*']);
    const pages = await fetch(`${test.url}/billing/plans`, { headers: { Origin: 'tauri://localhost' } });
    expect(pages.headers.get('access-control-allow-origin')).toBeNull();
  });
});

describe('what is refused as too much', () => {
  it('is written down once a minute, and not each time', async () => {
    const { key, keyId } = await test.buyKey('pro');
    const answers = [];
    for (let n = 0; n < 40; n++) answers.push(await test.ask('validate', { key, device_id: LAPTOP.id }));
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(10);
    const attempts = await test.keystore.listLicenceAttempts({ keyId, limit: 100 });
    expect(attempts.filter(({ outcome }) => outcome === 'too_many_requests')).toHaveLength(1);
  });
});

describe('places are given back', () => {
  it('not by who found a key that was replaced', async () => {
    const { old, key } = await replaced();
    const refused = await test.ask('deactivate', { key: old.key, device_id: LAPTOP.id });
    expect([refused.status, refused.body.code]).toEqual([401, 'revoked_key']);
    expect((await test.ask('refresh', { key, device_id: LAPTOP.id })).status).toBe(200);
    expect((await test.ask('deactivate', { key, device_id: LAPTOP.id })).status).toBe(200);
  });

  it('and what is left counts the quantity that was bought', async () => {
    const { key, keyId } = await test.buyKey('team');
    const facts = (await test.keystore.findKeyFacts(keyId))!;
    const { items } = await test.stripe.subscriptions.retrieve(facts.subscription!.id);
    await test.stripe.subscriptions.update(facts.subscription!.id, {
      items: [{ id: items.data[0]!.id, quantity: 3 }],
    });
    await eventually(async () =>
      expect((await test.ask('activate', { key, device: LAPTOP })).body.devices).toEqual({
        used: 1,
        limit: 6,
      }),
    );
    expect((await test.ask('deactivate', { key, device_id: LAPTOP.id })).body.devices).toEqual({
      used: 0,
      limit: 6,
    });
  });
});
