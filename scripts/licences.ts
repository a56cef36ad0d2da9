import { Command } from 'commander';
import type { Device, Keystore, Places } from '../keystore/keystore.ts';
import type { Config } from '../shared/config.ts';
import { planFor } from '../shared/plans.ts';
import { newSigningKey } from '../shared/signing-keys.ts';
import { actor, fail, print, run, table, withKeystore } from './command.ts';

/** Fewer characters would name too many. */
const SHORTEST_PREFIX = 4;
const DEVICE_ID_OR_PREFIX = new RegExp(`^[\\x21-\\x7e]{${SHORTEST_PREFIX},128}$`);
/** How many of the last questions about a key are looked through for a device. */
const ATTEMPTS_SEARCHED = 10_000;
/** How many devices a sentence names. */
const LISTED = 5;

const program = new Command('licences').description(
  'Devices of licences, and the keys that sign entitlement tokens.',
);
program
  .command('devices <key-id>')
  .description('List the devices that a key is active on.')
  .option('--json', 'print JSON')
  .action(devices);
program
  .command('release <key-id> <device-id>')
  .description(
    "Take a device's place away: with fixed places its next refresh is refused, and another device can be activated. The beginning of its id is enough.",
  )
  .option('--json', 'print JSON')
  .action(release);
program
  .command('activate <key-id> <device-id>')
  .description(
    'Give a device a place, as its holder could: for one that was released by mistake. The beginning of its id is enough.',
  )
  .option('--name <text>', 'what its holder calls it')
  .option('--json', 'print JSON')
  .action(activate);
program
  .command('attempts <key-id>')
  .description('List what programs asked about a key, and the answers, newest first.')
  .option('--limit <n>', 'how many', Number, 50)
  .option('--json', 'print JSON')
  .action(attempts);
program
  .command('signing-key')
  .description('Make a key for LICENSING_KEYS and print it. It is kept nowhere.')
  .action(() => void process.stdout.write(newSigningKey()));
await run(program);

type Json = { json?: boolean };

async function devices(keyId: string, options: Json): Promise<void> {
  await withKeystore(async (keystore, config) => {
    const { rootId, places, planId } = await licensed(keystore, config, keyId);
    const active = await keystore.listDevices({ rootId, places });
    if (options.json) {
      print({
        key_id: keyId,
        limit: places.devices,
        devices: active.map(({ id, name, activatedAt, lastSeenAt }) => ({
          id,
          name,
          activated_at: time(activatedAt),
          last_seen_at: time(lastSeenAt),
        })),
      });
      return;
    }
    console.log(`${active.length} of ${places.devices} devices (plan ${planId}).`);
    if (active.length === 0) return;
    table(
      ['DEVICE', 'NAME', 'ACTIVATED', 'LAST SEEN'],
      active.map(({ id, name, activatedAt, lastSeenAt }) => [
        id,
        name ?? '-',
        time(activatedAt),
        time(lastSeenAt),
      ]),
    );
  });
}

async function release(keyId: string, typed: string, options: Json): Promise<void> {
  await withKeystore(async (keystore, config) => {
    const licence = await licensed(keystore, config, keyId);
    const { rootId, places } = licence;
    const active = await keystore.listDevices({ rootId, places });
    const deviceId =
      findDevice(typed, await seenDevices(keystore, keyId, licence), idsOf(active)) ??
      fail(`No active device's id is ${typed} or begins with it. See: npm run licences -- devices ${keyId}`);
    const outcome = await keystore.releaseDevice({ rootId, keyId, deviceId, actor });
    if (options.json) print({ key_id: keyId, device: deviceId, outcome });
    else if (outcome === 'not_active')
      fail(`The device ${deviceId} has no place. See: npm run licences -- devices ${keyId}`);
    else console.log(`The device ${deviceId} is released. A token that it has ends by itself.`);
  });
}

async function activate(keyId: string, typed: string, options: Json & { name?: string }): Promise<void> {
  await withKeystore(async (keystore, config) => {
    const licence = await licensed(keystore, config, keyId);
    const { rootId, places } = licence;
    // One that no program has would hold a place that nobody can give back.
    const deviceId =
      findDevice(typed, await seenDevices(keystore, keyId, licence)) ??
      fail(
        `No device that this key was used on has the id ${typed}, or one that begins with it. See: npm run licences -- attempts ${keyId}`,
      );
    const { outcome, devices } = await keystore.activateDevice({
      rootId,
      keyId,
      device: { id: deviceId, name: options.name ?? null },
      places,
      actor,
    });
    if (outcome === 'device_limit')
      fail(
        `All ${places.devices} places are taken: ${devices.map(({ id }) => id).join(', ')}. Release one first.`,
      );
    if (options.json) print({ key_id: keyId, device: deviceId, outcome });
    else
      console.log(
        outcome === 'activated'
          ? `The device ${deviceId} is active.`
          : `The device ${deviceId} was active before.`,
      );
  });
}

async function attempts(keyId: string, options: Json & { limit: number }): Promise<void> {
  if (!Number.isInteger(options.limit) || options.limit < 1) fail('--limit is a whole number from 1.');
  await withKeystore(async (keystore) => {
    const found = await keystore.listLicenceAttempts({ keyId, limit: options.limit });
    if (options.json) {
      print(
        found.map(({ at, action, deviceId, outcome, address }) => ({
          at: time(at),
          action,
          device: deviceId,
          outcome,
          address,
        })),
      );
    } else if (found.length === 0) console.log('Nothing was asked about this key in the last 90 days.');
    else {
      table(
        ['AT', 'ASKED', 'DEVICE', 'ANSWER', 'FROM'],
        found.map(({ at, action, deviceId, outcome, address }) => [
          time(at),
          action,
          deviceId ?? '-',
          outcome,
          address ?? '-',
        ]),
      );
    }
  });
}

/** Ids of the devices that the keystore knows of a licence, or that asked about its key. */
async function seenDevices(
  keystore: Keystore,
  keyId: string,
  { rootId, places }: { rootId: string; places: Places },
): Promise<string[]> {
  const known = await keystore.listDevices({ rootId, places, gone: true });
  const asked = await keystore.listLicenceAttempts({ keyId, limit: ATTEMPTS_SEARCHED });
  return [...new Set([...idsOf(known), ...asked.flatMap(({ deviceId }) => deviceId ?? [])])];
}

/**
 * A device by its id or the beginning of it; `undefined`: there is none.
 *
 * @param near those that the beginning may stand for
 */
function findDevice(typed: string, seen: string[], near = seen): string | undefined {
  if (!DEVICE_ID_OR_PREFIX.test(typed)) {
    fail(
      `"${typed}" is no device's id: that has 8 to 128 characters without spaces, and ${SHORTEST_PREFIX} or more of its beginning will do.`,
    );
  }
  if (seen.includes(typed)) return typed;
  const found = near.filter((id) => id.startsWith(typed));
  if (found.length > 1)
    fail(
      `${found.length} devices have an id that begins with ${typed}: ${shortList(found)}. Give more of it.`,
    );
  return found[0];
}

/** A program may have another id on each run: nobody reads thousands. */
function shortList(ids: string[]): string {
  const more = ids.length - LISTED;
  return ids.slice(0, LISTED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function idsOf(devices: Device[]): string[] {
  return devices.map(({ id }) => id);
}

async function licensed(keystore: Keystore, config: Config, keyId: string) {
  const key = (await keystore.findKeyFacts(keyId)) ?? fail(`There is no key with the id "${keyId}".`);
  const plan = config.plans.plan(key.planId);
  const places = plan && planFor(plan, key.quantity).licence;
  if (!places) fail(`The plan "${key.planId}" of this key grants no devices (\`devices\` in plans.yaml).`);
  return { rootId: key.rootId, planId: key.planId, places };
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
