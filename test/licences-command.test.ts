import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore, purchase } from './keystore-fixtures.ts';
import { newKeystoreUrl, SERVER_SECRET } from './keystores.ts';
import { licencePlansFile } from './licences.ts';
import { runProgram } from './processes.ts';

afterEach(closeKeystores);

const PLACES = { devices: 3, freeAfterMs: null };
const LAPTOP = 'b3f1c0de-laptop';
const DESKTOP = 'b3f1ffff-desktop';

/** A licence for three devices, with two active, and the command. */
async function licence() {
  const url = newKeystoreUrl();
  const store = await keystore({ url });
  const { purchase: bought } = await store.provisionPurchase(purchase());
  const keyId = bought.keyId!;
  for (const id of [LAPTOP, DESKTOP]) {
    const device = { id, name: null };
    await store.activateDevice({ rootId: keyId, keyId, device, places: PLACES, actor: 'test' });
  }
  const env = { KEYSTORE_URL: url, TOLLGATE_SECRET: SERVER_SECRET, PLANS_FILE: licencePlansFile() };
  return {
    store,
    keyId,
    licences: (name: string, ...args: string[]) =>
      runProgram('scripts/licences.ts', env, [name, keyId, ...args]),
    active: async () => (await store.listDevices({ rootId: keyId, places: PLACES })).map(({ id }) => id),
  };
}

describe('npm run licences', () => {
  it('takes the beginning of an id for a device, to release it and to activate it again', async () => {
    const { licences, active } = await licence();
    expect(await licences('release', 'b3f1c0de')).toEqual({
      code: 0,
      output: `The device ${LAPTOP} is released. A token that it has ends by itself.\n`,
    });
    expect(await active()).toEqual([DESKTOP]);
    expect(await licences('activate', 'b3f1c0de')).toEqual({
      code: 0,
      output: `The device ${LAPTOP} is active.\n`,
    });
    expect((await active()).sort()).toEqual([LAPTOP, DESKTOP]);
  });

  it('asks for more of an id that several begin with', async () => {
    const { licences, active } = await licence();
    for (const name of ['release', 'activate'])
      expect(await licences(name, 'b3f1')).toEqual({
        code: 1,
        output: `2 devices have an id that begins with b3f1: ${LAPTOP}, ${DESKTOP}. Give more of it.\n`,
      });
    await licences('release', LAPTOP);
    expect((await licences('release', 'b3f1')).output).toContain(`${DESKTOP} is released`);
    expect(await active()).toEqual([]);
  });

  it('gives no place to a device that the key was never used on, and says how to find one that was', async () => {
    const { store, keyId, licences, active } = await licence();
    expect(await licences('activate', 'another-device')).toEqual({
      code: 1,
      output: `No device that this key was used on has the id another-device, or one that begins with it. See: npm run licences -- attempts ${keyId}\n`,
    });
    expect(await licences('release', 'another-device')).toEqual({
      code: 1,
      output: `No active device's id is another-device or begins with it. See: npm run licences -- devices ${keyId}\n`,
    });
    for (const typed of ['b3f', 'b3f1 c0de', 'b3f1'.repeat(33)])
      expect((await licences('activate', typed)).output).toContain('8 to 128 characters without spaces');
    expect(await active()).toHaveLength(2);
    // Whose place was given to others since is no more among the devices.
    await store.noteLicenceAttempt({
      keyId,
      action: 'refresh',
      deviceId: 'another-device',
      outcome: 'device_not_active',
      address: null,
    });
    expect((await licences('activate', 'anot')).output).toBe('The device another-device is active.\n');
  });
});

it('a signing key is written to a file that nobody else may read, wherever it is said how', () => {
  const said = ['README.md', 'docs/licences.md'].flatMap((file) => [
    ...readFileSync(file, 'utf8').matchAll(/(.*)npm run licences -- signing-key >/g),
  ]);
  expect(said).toHaveLength(2);
  for (const [, before] of said) expect(before).toMatch(/\(umask 077; $/);
});
