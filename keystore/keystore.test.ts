import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET } from '../test/keystores.ts';
import { printedBy } from '../test/processes.ts';
import { rawQuery } from '../test/raw-sql.ts';

afterEach(closeKeystores);

describe('opening', () => {
  it('ten processes at the same moment on a new keystore', async () => {
    const url = newKeystoreUrl();
    const script = `import('${join(process.cwd(), 'keystore/database.ts')}').then(m => m.openDatabase('${url}')).then(() => { console.log('open'); process.exit(); })`;
    const outputs = await Promise.all(Array.from({ length: 10 }, () => printedBy(script)));
    expect(outputs).toEqual(Array(10).fill('open\n'));
  });

  it('refuses one that a newer version wrote', async () => {
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    await rawQuery(url, "insert into kysely_migration values ('9999_from_the_future', 'now')");
    await expect(openTestKeystore({ url })).rejects.toMatchObject({ code: 'NEWER_THAN_CODE' });
  });

  it('refuses another server secret, under which every good key would look wrong', async () => {
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    await expect(openTestKeystore({ url, serverSecret: `${SERVER_SECRET}x` })).rejects.toMatchObject({
      code: 'WRONG_SECRET',
    });
  });

  it('belongs to one mode from its first use', async () => {
    const store = await keystore();
    expect(await store.mode()).toBeNull();
    await store.bindMode('test');
    await store.bindMode('test');
    expect(await store.mode()).toBe('test');
    await expect(store.bindMode('live')).rejects.toMatchObject({ code: 'WRONG_MODE' });
    expect(await store.mode()).toBe('test');
  });
});
