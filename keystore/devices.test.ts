import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore, purchase } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';

afterEach(closeKeystores);

const MINUTE = 60_000;
const LOCKED = { devices: 3, freeAfterMs: null };
const FLOATING = { devices: 1, freeAfterMs: 15 * MINUTE };

/** A licence, with a clock that the test moves, in two processes' keystores. */
async function licence() {
  const clock = { now: Date.UTC(2026, 10, 29) };
  const url = newKeystoreUrl();
  const [store, other] = [
    await keystore({ url, now: () => clock.now }),
    await keystore({ url, now: () => clock.now }),
  ];
  const { purchase: bought } = await store.provisionPurchase(purchase());
  const keyId = bought.keyId!;
  const activate = (
    id: string,
    places = LOCKED as { devices: number; freeAfterMs: number | null },
    by = store,
  ) => by.activateDevice({ rootId: keyId, keyId, device: { id, name: null }, places, actor: 'test' });
  const see = (deviceId: string, places = LOCKED as { devices: number; freeAfterMs: number | null }) =>
    store.seeDevice({ rootId: keyId, deviceId, places });
  return { clock, url, store, other, keyId, activate, see };
}

describe('places of devices', () => {
  it('are given out once each, however many ask, in two processes at once', async () => {
    const { store, other, activate, keyId } = await licence();
    const tries = await Promise.all(
      Array.from({ length: 200 }, (_, n) => activate(`device-${n}`, LOCKED, n % 2 ? store : other)),
    );
    expect(tries.filter(({ outcome }) => outcome === 'activated')).toHaveLength(3);
    expect(await store.listDevices({ rootId: keyId, places: LOCKED })).toHaveLength(3);
  });

  it('are kept by who has one, and freed by giving them back', async () => {
    const { store, clock, activate, see, keyId } = await licence();
    const first = await activate('device-a');
    clock.now += MINUTE;
    expect(await activate('device-a')).toMatchObject({
      outcome: 'already_active',
      device: { activatedAt: first.device!.activatedAt, lastSeenAt: clock.now },
    });
    const release = () => store.releaseDevice({ rootId: keyId, keyId, deviceId: 'device-a', actor: 'test' });
    expect([await release(), await release()]).toEqual(['released', 'not_active']);
    expect(await see('device-a')).toMatchObject({ outcome: 'device_not_active', device: null });
    expect(await see('device-never')).toMatchObject({ outcome: 'device_not_active', device: null });
    expect(await activate('device-a')).toMatchObject({
      outcome: 'activated',
      device: { activatedAt: clock.now },
    });
  });

  it('that float are free again after silence: the next one takes them, or whoever fell silent comes back first', async () => {
    const { clock, activate, see } = await licence();
    await activate('device-a', FLOATING);
    clock.now += 14 * MINUTE;
    expect((await activate('device-b', FLOATING)).outcome).toBe('device_limit');
    expect((await see('device-a', FLOATING)).outcome).toBe('active');
    clock.now += 15 * MINUTE;
    expect((await see('device-a', FLOATING)).outcome).toBe('active');
    clock.now += 15 * MINUTE;
    expect((await activate('device-b', FLOATING)).outcome).toBe('activated');
    expect((await see('device-a', FLOATING)).outcome).toBe('device_not_active');
  });

  it('are all that is kept of devices: those that are gone are forgotten, so that a new one on each run fills no disk', async () => {
    const { url, store, clock, activate, keyId } = await licence();
    for (let n = 0; n < 10; n++) {
      const deviceId = `device-${n}`;
      await activate(deviceId);
      await store.releaseDevice({ rootId: keyId, keyId, deviceId, actor: 'test' });
    }
    expect(await rawQuery(url, 'select * from devices')).toHaveLength(1);
    for (let n = 0; n < 10; n++) {
      expect((await activate(`device-${n}`, FLOATING)).outcome).toBe('activated');
      clock.now += 2 * 24 * 60 * MINUTE;
    }
    expect(await rawQuery(url, 'select * from devices')).toHaveLength(4);
  });

  it('can be listed with those that are free again, while these are known', async () => {
    const { store, clock, activate, keyId } = await licence();
    await activate('device-a', FLOATING);
    clock.now += 15 * MINUTE;
    await activate('device-b', FLOATING);
    await store.releaseDevice({ rootId: keyId, keyId, deviceId: 'device-b', actor: 'test' });
    const list = async (gone: boolean) =>
      (await store.listDevices({ rootId: keyId, places: FLOATING, gone })).map(({ id }) => id);
    expect(await list(false)).toEqual([]);
    expect(await list(true)).toEqual(['device-a', 'device-b']);
  });

  it('are those of who was there longest when there are fewer than before', async () => {
    const { clock, activate, see } = await licence();
    for (const id of ['device-a', 'device-b', 'device-c']) {
      await activate(id);
      clock.now += 1;
    }
    const fewer = { devices: 2, freeAfterMs: null };
    expect((await see('device-b', fewer)).outcome).toBe('active');
    expect((await see('device-c', fewer)).outcome).toBe('device_limit');
    expect((await activate('device-c', fewer)).outcome).toBe('device_limit');
  });
});
