import type { DeviceTable } from './schema.ts';
import { type By, inOneStep, type Step, type Store } from './store.ts';

/** A device that a licence was activated on. Times are milliseconds since the epoch. */
export type Device = { id: string; name: string | null; activatedAt: number; lastSeenAt: number };

/** For how long a device that fell silent is known, and gets back a place that floats by a sign of life alone. */
const COMES_BACK_WITHIN_MS = 7 * 86_400_000;

/** How many devices a licence has places for. */
export type Places = {
  devices: number;
  /** After how long without a sign of life a place is free again, milliseconds; `null`: when it is given back. */
  freeAfterMs: number | null;
};

/** `devices`: those that hold a place now, the longest there first. */
export type Activation = {
  outcome: 'activated' | 'already_active' | 'device_limit';
  device: Device | null;
  devices: Device[];
};

export type ActivateDevice = {
  /** The first key of the rotation chain: a new key needs no new activation. */
  rootId: string;
  keyId: string;
  device: { id: string; name: string | null };
  places: Places;
  actor: string;
};

/**
 * Gives a device a place. A device that has one keeps it, however often it asks; of any number that ask at the same
 * moment, in any number of processes, no more get one than there are places.
 */
export async function activateDevice(store: Store, input: ActivateDevice): Promise<Activation> {
  return inOneStep(store, (step) => activateInStep(step, input));
}

/** As {@link activateDevice}, inside a larger step. */
export async function activateInStep(step: Step, input: ActivateDevice): Promise<Activation> {
  const { rootId, keyId, device, places, actor } = input;
  const active = await activeDevices(step.trx, rootId, places, step.now);
  const held = holding(active, device.id, places);
  if (!held && active.length >= places.devices)
    return { outcome: 'device_limit', device: null, devices: active.map(toDevice) };
  if (!held) await forgetDevices(step, rootId, places);
  const row: DeviceTable = {
    root_id: rootId,
    device_id: device.id,
    name: device.name ?? held?.name ?? null,
    activated_at: held?.activated_at ?? step.now,
    last_seen_at: step.now,
    released_at: null,
  };
  await step.trx
    .insertInto('devices')
    .values(row)
    .onConflict((conflict) => conflict.columns(['root_id', 'device_id']).doUpdateSet(row))
    .execute();
  if (!held) {
    const details = { device: row.device_id, name: row.name };
    await step.audit({ actor, action: 'device.activated', keyId, details });
  }
  return {
    outcome: held ? 'already_active' : 'activated',
    device: toDevice(row),
    devices: held
      ? active.map((each) => toDevice(each === held ? row : each))
      : [...active, row].map(toDevice),
  };
}

/** Forgets devices of a licence that have no place any more: a new one on each run would else fill the disk. */
async function forgetDevices({ trx, now }: Step, rootId: string, { freeAfterMs }: Places): Promise<void> {
  await trx
    .deleteFrom('devices')
    .where('root_id', '=', rootId)
    .where((where) =>
      where.or([
        where('released_at', 'is not', null),
        ...(freeAfterMs === null
          ? []
          : [where('last_seen_at', '<=', now - Math.max(freeAfterMs, COMES_BACK_WITHIN_MS))]),
      ]),
    )
    .execute();
}

/**
 * Notes a sign of life of a device. One whose place fell free by silence gets it back while nobody else has it.
 *
 * @returns `active`, or why the device has no place: `device_limit` when the licence has fewer than it had
 */
export async function seeDevice(
  store: Store,
  input: { rootId: string; deviceId: string; places: Places },
): Promise<{
  outcome: 'active' | 'device_not_active' | 'device_limit';
  device: Device | null;
  devices: Device[];
}> {
  return inOneStep(store, async ({ trx, now }) => {
    const { rootId, deviceId, places } = input;
    const known = await trx
      .selectFrom('devices')
      .selectAll()
      .where('root_id', '=', rootId)
      .where('device_id', '=', deviceId)
      .where('released_at', 'is', null)
      .executeTakeFirst();
    const active = await activeDevices(trx, rootId, places, now);
    const devices = active.map(toDevice);
    if (!known) return { outcome: 'device_not_active', device: null, devices };
    const held = active.some((row) => row.device_id === deviceId);
    if (held && !holding(active, deviceId, places))
      return { outcome: 'device_limit', device: toDevice(known), devices };
    if (!held && active.length >= places.devices)
      return { outcome: 'device_not_active', device: null, devices };
    const row = { ...known, last_seen_at: now };
    await trx
      .updateTable('devices')
      .set({ last_seen_at: now })
      .where('root_id', '=', rootId)
      .where('device_id', '=', deviceId)
      .execute();
    const others = active.filter((each) => each.device_id !== deviceId);
    return {
      outcome: 'active',
      device: toDevice(row),
      devices: [...others, row].sort(byActivation).map(toDevice),
    };
  });
}

/** Takes a device's place away, so that another can have it. Does nothing to one that has none. */
export async function releaseDevice(
  store: Store,
  input: By & { rootId: string; keyId: string; deviceId: string },
): Promise<'released' | 'not_active'> {
  return inOneStep(store, async (step) => {
    const { rootId, keyId, deviceId, ...by } = input;
    const { numUpdatedRows } = await step.trx
      .updateTable('devices')
      .set({ released_at: step.now })
      .where('root_id', '=', rootId)
      .where('device_id', '=', deviceId)
      .where('released_at', 'is', null)
      .executeTakeFirstOrThrow();
    if (numUpdatedRows === 0n) return 'not_active';
    await step.audit({ ...by, action: 'device.released', keyId, details: { device: deviceId } });
    return 'released';
  });
}

/**
 * Devices that hold a place now, the longest there first.
 *
 * @param input.gone also those that have none any more and are not forgotten yet
 */
export async function listDevices(
  store: Store,
  input: { rootId: string; places: Places; gone?: boolean },
): Promise<Device[]> {
  const rows = input.gone
    ? await devicesOf(store.db, input.rootId).execute()
    : await activeDevices(store.db, input.rootId, input.places, store.now());
  return rows.map(toDevice);
}

function devicesOf(db: Store['db'] | Step['trx'], rootId: string) {
  return db
    .selectFrom('devices')
    .selectAll()
    .where('root_id', '=', rootId)
    .orderBy('activated_at')
    .orderBy('device_id');
}

function activeDevices(
  db: Store['db'] | Step['trx'],
  rootId: string,
  { freeAfterMs }: Places,
  now: number,
): Promise<DeviceTable[]> {
  let query = devicesOf(db, rootId).where('released_at', 'is', null);
  if (freeAfterMs !== null) query = query.where('last_seen_at', '>', now - freeAfterMs);
  return query.execute();
}

/** The row of a device among those with a place; after a change to fewer places, those there longest keep theirs. */
function holding(
  active: readonly DeviceTable[],
  deviceId: string,
  { devices }: Places,
): DeviceTable | undefined {
  return active.slice(0, devices).find((row) => row.device_id === deviceId);
}

function byActivation(a: DeviceTable, b: DeviceTable): number {
  return a.activated_at - b.activated_at || (a.device_id < b.device_id ? -1 : 1);
}

function toDevice(row: DeviceTable): Device {
  return { id: row.device_id, name: row.name, activatedAt: row.activated_at, lastSeenAt: row.last_seen_at };
}
