import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Tollgate } from '../client/src/index.ts';
import { temporaryFolder } from './keystores.ts';
import { type LicensingUnderTest, startLicensingUnderTest } from './licences.ts';
import { eventually } from './servers.ts';

let seller: LicensingUnderTest;
beforeAll(async () => {
  seller = await startLicensingUnderTest();
});
afterAll(() => seller.close());

/** The client as a program has it, with files of its own. */
function program(): Tollgate {
  return new Tollgate({ server: seller.url, product: 'tg', folder: temporaryFolder(), deviceName: 'Desk' });
}

describe('the client and the licence server understand each other', () => {
  it('activates, and what it got verifies against the keys that the server publishes', async () => {
    const { key, keyId } = await seller.buyKey('pro');
    const tollgate = program();
    const now = await tollgate.activate(key);
    expect(now).toMatchObject({
      entitled: true,
      code: 'active',
      plan: 'pro',
      licence: { keyId, planName: 'Pro', mode: 'test', floating: false },
      ended: null,
    });
    expect(await tollgate.feature('projects')).toBe(10);
    expect(await tollgate.hasFeature('secret')).toBe(false);
    expect((await tollgate.refresh()).code).toBe('active');
    const { devices, limit } = await tollgate.devices();
    expect([devices, limit]).toMatchObject([[{ name: 'Desk', isThis: true }], 3]);
    expect(await tollgate.validate()).toMatchObject({ valid: true, code: 'valid', licence: { plan: 'pro' } });
    expect(await tollgate.heartbeat()).toBe(null);
    expect(await tollgate.deactivate()).toEqual({ used: 0, limit: 3 });
    expect((await tollgate.entitlements()).code).toBe('not_activated');
  });

  it('holds a floating seat', async () => {
    const { key } = await seller.buyKey('team');
    const tollgate = program();
    expect((await tollgate.activate(key)).licence?.floating).toBe(true);
    expect(await tollgate.heartbeat()).toBe(300);
    const seat = await tollgate.holdSeat(() => {});
    expect(seat).not.toBe(null);
    seat?.stop();
  });

  it('a plan without devices and a device too many are refused by name', async () => {
    const { key } = await seller.buyKey('api');
    const tollgate = program();
    expect(await tollgate.activateIfGranted(key)).toMatchObject({
      code: 'not_activated',
      ended: { code: 'no_licence' },
    });
    const solo = await seller.buyKey('solo');
    await seller.ask('activate', { key: solo.key, device: { id: 'somebody-elses', name: 'Laptop' } });
    await expect(program().activate(solo.key)).rejects.toMatchObject({
      code: 'device_limit',
      extensions: { limit: 1, devices: [{ id: 'somebody-elses', name: 'Laptop' }] },
    });
  });

  it('a canceled subscription is not renewed, and says why', async () => {
    const { key, sessionId } = await seller.buyKey('pro');
    const tollgate = program();
    await tollgate.activate(key);
    const { subscription } = await seller.stripe.checkout.sessions.retrieve(sessionId);
    await seller.stripe.subscriptions.cancel(subscription as string);
    await eventually(async () => expect((await tollgate.validate()).code).toBe('subscription_ended'));
    const now = await tollgate.refresh();
    expect(now).toMatchObject({ entitled: true, code: 'active', ended: { code: 'subscription_ended' } });
    expect(now.remedy).toContain('Subscribe again');
    await tollgate.clear();
    expect((await tollgate.refresh().catch((error) => error)).code).toBe('subscription_ended');
    expect((await tollgate.entitlements()).entitled).toBe(false);
  });

  it('a released device is told, and can be activated again', async () => {
    const { key } = await seller.buyKey('pro');
    const tollgate = program();
    await tollgate.activate(key);
    await seller.ask('deactivate', { key, device_id: (await tollgate.device()).id });
    expect((await tollgate.refresh()).ended?.code).toBe('device_not_active');
    expect(await tollgate.activate()).toMatchObject({ code: 'active', ended: null });
  });

  it('shows what is free, and which plan has the rest', async () => {
    const tollgate = program();
    expect(await tollgate.entitlements()).toMatchObject({
      code: 'demo',
      plan: 'free',
      features: { draw: true },
    });
    const { demo, locked } = await tollgate.catalogue();
    expect(demo).toBe(true);
    expect(locked.find(({ feature }) => feature === 'export')?.plans[0]).toMatchObject({
      id: 'pro',
      name: 'Pro',
    });
    const { key } = await seller.buyKey('pro');
    await tollgate.activate(key);
    const own = await tollgate.catalogue();
    expect(own.demo).toBe(false);
    expect(own.locked.map(({ feature }) => feature).sort()).toEqual(['projects', 'sso']);
  });

  it('begins a trial once for a device', async () => {
    const tollgate = program();
    const begun = await tollgate.trial({ plan: 'pro' });
    expect(begun).toMatchObject({ status: 'begun', endsAt: expect.any(Date) });
    expect(await tollgate.entitlements()).toMatchObject({ entitled: true, plan: 'pro' });
    expect(await program().trial({ plan: 'pro' }), 'the same one, where its key was lost').toEqual(begun);
    await expect(program().trial({ plan: 'solo' })).rejects.toMatchObject({ code: 'no_trial' });
  });

  it('a key that was never sold is refused', async () => {
    const { key } = await seller.buyKey('pro');
    const other = await startOther();
    await expect(other.activate(key)).rejects.toMatchObject({ code: 'invalid_key' });
  });
});

/** A client of another seller. */
async function startOther(): Promise<Tollgate> {
  const other = await startLicensingUnderTest();
  others.push(other);
  return new Tollgate({ server: other.url, product: 'tg', folder: temporaryFolder() });
}
const others: LicensingUnderTest[] = [];
afterAll(async () => {
  for (const other of others) await other.close();
});
