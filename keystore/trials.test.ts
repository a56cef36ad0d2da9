import { afterEach, describe, expect, it } from 'vitest';
import { parseKey } from '../shared/keys.ts';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';

afterEach(closeKeystores);

const DAY = 86_400_000;

async function open() {
  const clock = { now: Date.UTC(2026, 10, 29) };
  const url = newKeystoreUrl();
  const store = await keystore({ url, now: () => clock.now, mails: true });
  const common = (device: string) => ({
    mode: 'test' as const,
    keyPrefix: 'tg',
    device: { id: device, name: null },
    places: { devices: 1, freeAfterMs: null },
    trialMs: 14 * DAY,
    actor: 'trial',
  });
  const ask = (email: string, deviceId: string, planId = 'pro') =>
    store.requestTrial({ mode: 'test', planId, deviceId, email });
  const confirm = (trialId: string, code: string, device: string) =>
    store.confirmTrial({ ...common(device), trialId, code });
  const begin = (device: string, planId = 'pro') => store.beginTrial({ ...common(device), planId });
  return { clock, url, store, ask, confirm, begin };
}

async function asked(world: Awaited<ReturnType<typeof open>>, email: string, device: string) {
  const trial = await world.ask(email, device);
  if (typeof trial === 'string') throw new Error(trial);
  return { trial, code: await world.store.createTrialCode(trial.id) };
}

describe('a trial by e-mail', () => {
  it('begins with the code, once for an address however it is written, and once for a device', async () => {
    const world = await open();
    const { trial, code } = await asked(world, 'You@Example.com', 'device-a');
    const typed = `${code.slice(0, 4).toLowerCase()}-${code.slice(4)}`;
    const begun = await world.confirm(trial.id, typed, 'device-a');
    if (typeof begun === 'string') throw new Error(begun);
    expect(parseKey(begun.plaintext)).toBeDefined();
    expect(begun.endsAt).toBe(world.clock.now + 14 * DAY);
    const key = (await world.store.findKey(begun.keyId))!;
    expect(key).toMatchObject({
      planId: 'pro',
      expiresAt: begun.endsAt,
      email: 'You@Example.com',
      name: 'Trial',
    });
    const again = await asked(world, 'you+again@example.com', 'device-b');
    expect(await world.confirm(again.trial.id, again.code, 'device-b')).toBe('already_used');
    expect(await world.ask('other@example.com', 'device-a')).toBe('already_used');
    expect(await world.ask('other@example.com', 'device-b')).toMatchObject({ planId: 'pro' });
  });

  it('whose answer was lost is answered again with a new key, which ends when the first would have', async () => {
    const world = await open();
    const { trial, code } = await asked(world, 'you@example.com', 'device-a');
    const first = await world.confirm(trial.id, code, 'device-a');
    world.clock.now += 60_000;
    const again = await world.confirm(trial.id, code, 'device-a');
    if (typeof first === 'string' || typeof again === 'string') throw new Error('No trial');
    expect(again.keyId).not.toBe(first.keyId);
    expect(again.endsAt).toBe(first.endsAt);
    expect(await world.store.findKeyFacts(first.keyId)).toMatchObject({ revokedReason: 'replaced' });
    world.clock.now += DAY;
    const later = await asked(world, 'you@example.com', 'device-a');
    expect(await world.confirm(later.trial.id, later.code, 'device-a')).toMatchObject({
      endsAt: first.endsAt,
    });
    world.clock.now += 14 * DAY;
    const over = await asked(world, 'you@example.com', 'device-a');
    expect(await world.confirm(over.trial.id, over.code, 'device-a')).toBe('already_used');
  });

  it('cannot be begun by guessing, from elsewhere, too late, or from what the database holds', async () => {
    const world = await open();
    const { trial, code } = await asked(world, 'you@example.com', 'device-a');
    expect(JSON.stringify(await rawQuery(world.url, 'select * from trials'))).not.toContain(code);
    expect(await world.confirm(trial.id, code, 'device-b')).toBe('code_not_valid');
    for (let n = 0; n < 4; n++)
      expect(await world.confirm(trial.id, 'WRONG000', 'device-a')).toBe('code_not_valid');
    expect(await world.confirm(trial.id, code, 'device-a')).toBe('not_found');
    const late = await asked(world, 'you@example.com', 'device-a');
    world.clock.now += 30 * 60_000;
    expect(await world.store.findTrial(late.trial.id)).toBeUndefined();
    expect(await world.confirm(late.trial.id, late.code, 'device-a')).toBe('not_found');
    await world.store.sweep();
    expect(await rawQuery(world.url, 'select * from trials')).toHaveLength(0);
  });

  it('of many confirmations at once makes one key that works', async () => {
    const world = await open();
    const { trial, code } = await asked(world, 'you@example.com', 'device-a');
    const begun = await Promise.all(
      Array.from({ length: 10 }, () => world.confirm(trial.id, code, 'device-a')),
    );
    const keys = await Promise.all(
      begun.map((each) => world.store.findKeyFacts(typeof each === 'string' ? each : each.keyId)),
    );
    expect(keys.filter((key) => key?.revokedAt === null)).toHaveLength(1);
    expect(new Set(keys.map((key) => key?.rootId)).size).toBe(1);
  });
});

describe('a trial by device alone', () => {
  it('that is asked for again, with its places taken by others, leaves the key as it is', async () => {
    const { begin, store } = await open();
    const first = await begin('device-a');
    if (typeof first === 'string') throw new Error('No trial');
    const { keyId } = first;
    await store.releaseDevice({ rootId: keyId, keyId, deviceId: 'device-a', actor: 'test' });
    await store.activateDevice({
      rootId: keyId,
      keyId,
      device: { id: 'device-b', name: null },
      places: { devices: 1, freeAfterMs: null },
      actor: 'test',
    });
    expect(await begin('device-a')).toBe('already_used');
    expect(await store.findKeyFacts(keyId)).toMatchObject({ revokedAt: null, replacedBy: null });
  });

  it('begins once for a device, whatever the plan; asked for again, it goes on', async () => {
    const { begin, clock } = await open();
    const first = await begin('device-a');
    const again = await begin('device-a');
    if (typeof first === 'string' || typeof again === 'string') throw new Error('No trial');
    expect(again.endsAt).toBe(first.endsAt);
    expect(await begin('device-a', 'team')).toBe('already_used');
    expect(await begin('device-b')).toMatchObject({ device: { id: 'device-b' } });
    // Later it could be anybody who has seen the device's id.
    clock.now += 600_000;
    expect(await begin('device-a')).toBe('already_used');
  });
});
