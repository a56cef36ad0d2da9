import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET, temporaryFolder } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
import { backupKeystore, tryRestore } from './keystore.ts';

it('a keystore knows of its last backup, and that can be tried without touching anything', async () => {
  const url = newKeystoreUrl();
  const keystore = await openTestKeystore({ url });
  await keystore.createKey({
    prefix: 'tg',
    mode: 'test',
    planId: 'internal',
    name: null,
    expiresAt: null,
    actor: 'test',
  });
  expect(await keystore.lastBackup()).toBeNull();
  const before = Date.now();
  const file = join(temporaryFolder(), 'first.sqlite');
  await backupKeystore(url, file);
  const second = join(temporaryFolder(), 'second.sqlite');
  await backupKeystore(url, second);
  const last = await keystore.lastBackup();
  await keystore.close();
  expect(last).toEqual({ at: expect.any(Number), file: second });
  expect(last?.at).toBeGreaterThanOrEqual(before);
  expect(await tryRestore(second, SERVER_SECRET)).toEqual({ keys: 1, madeAt: last?.at });
  // One of an older version does not say when it was made, but what was done last before it.
  const old = join(temporaryFolder(), 'old.sqlite');
  copyFileSync(second, old);
  await rawQuery(`sqlite:${old}`, "delete from meta where name = 'last_backup'");
  await rawQuery(`sqlite:${old}`, 'update audit set at = 5000');
  expect(await tryRestore(old, SERVER_SECRET)).toEqual({ keys: 1, madeAt: 5000 });
  await expect(tryRestore(second, `${SERVER_SECRET}=`)).rejects.toMatchObject({ code: 'WRONG_SECRET' });
  writeFileSync(file, 'Buy milk. '.repeat(500));
  await expect(tryRestore(file, SERVER_SECRET)).rejects.toMatchObject({ code: 'DAMAGED' });
});
