import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../test/keystores.ts';
import { thisDevice } from './device.ts';
import { machineId, type SystemSays } from './machine-id.ts';

const MACHINE = 'c0ffee00c0ffee00c0ffee00c0ffee00';

function system(says: Partial<SystemSays>): SystemSays {
  const nothing = () => {
    throw new Error('ENOENT');
  };
  return { platform: 'linux', file: nothing, program: nothing, ...says };
}

it('the id is the same each time, another for another product, and does not tell the machine', async () => {
  const folder = temporaryFolder();
  const { id } = await thisDevice(folder, 'acme', null, MACHINE);
  expect(id).toMatch(/^[0-9a-f]{32}$/);
  expect((await thisDevice(folder, 'acme', 'other name', MACHINE)).id).toBe(id);
  expect((await thisDevice(folder, 'other', null, MACHINE)).id).not.toBe(id);
  expect(id).not.toContain(MACHINE.slice(0, 8));
});

it('a machine without an id gets a random one, which stays', async () => {
  const folder = temporaryFolder();
  const [first, second] = await Promise.all([
    thisDevice(folder, 'acme', null, null),
    thisDevice(folder, 'acme', null, null),
  ]);
  expect(second.id).toBe(first.id);
  expect((await thisDevice(folder, 'acme', null, null)).id).toBe(first.id);
  expect((await thisDevice(temporaryFolder(), 'acme', null, null)).id).not.toBe(first.id);
  expect(statSync(join(folder, 'machine-id')).mode & 0o777).toBe(0o600);
  writeFileSync(join(folder, 'machine-id'), 'x');
  await expect(thisDevice(folder, 'acme', null, null)).rejects.toMatchObject({ code: 'storage_corrupt' });
  expect(readFileSync(join(folder, 'machine-id'), 'utf8')).toBe('x');
});

it.each<[string, Partial<SystemSays>, string | null]>([
  ['linux', { file: (path) => (path === '/etc/machine-id' ? `${MACHINE}\n` : '') }, MACHINE],
  [
    'linux with D-Bus only',
    { file: (path) => (path === '/var/lib/dbus/machine-id' ? MACHINE : 'uninitialized\n') },
    MACHINE,
  ],
  ['linux in an image that was never set up', { file: () => `${'0'.repeat(32)}\n` }, null],
  ['linux without', {}, null],
  [
    'macOS',
    { platform: 'darwin', program: () => '    "IOPlatformUUID" = "4C4C4544-0042-3510-8051-B4C04F333732"\n' },
    '4c4c4544-0042-3510-8051-b4c04f333732',
  ],
  [
    'Windows',
    {
      platform: 'win32',
      program: () => '\r\n    MachineGuid    REG_SZ    1D5E1A0C-9d6d-4b1e-8f3d-0a1b2c3d4e5f\r\n',
    },
    '1d5e1a0c-9d6d-4b1e-8f3d-0a1b2c3d4e5f',
  ],
  ['Windows without', { platform: 'win32' }, null],
])('%s', (_name, says, id) => {
  expect(machineId(system(says))).toBe(id);
});
