import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, it } from 'vitest';
import { sqlitePath } from '../shared/config.ts';
import { closeKeystores, keystore, purchase, SESSION } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET, temporaryFolder } from '../test/keystores.ts';

afterEach(closeKeystores);

/** What a script prints in a process of its own. */
async function run(script: string): Promise<string> {
  const child = spawn(process.execPath, ['-e', script], { env: {} });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output += chunk;
  });
  await new Promise((resolve) => child.on('close', resolve));
  return output;
}

describe('opening', () => {
  it('makes the file, its folder and its schema, and opens it again with what was in it', async () => {
    const url = `sqlite:${join(temporaryFolder(), 'a', 'b', 'k.sqlite')}`;
    const first = await openTestKeystore({ url });
    const { purchase: made } = await first.provisionPurchase(purchase());
    await first.close();
    const second = await keystore({ url });
    expect(await second.findPurchase(SESSION)).toEqual(made);
  });

  it('ten processes at the same moment on a new file', async () => {
    const path = sqlitePath(newKeystoreUrl());
    const script = `import('${join(process.cwd(), 'keystore/sqlite.ts')}').then(m => m.openSqlite('${path}')).then(() => console.log('open'))`;
    const outputs = await Promise.all(Array.from({ length: 10 }, () => run(script)));
    expect(outputs).toEqual(Array(10).fill('open\n'));
  });

  it.each([
    [
      'text',
      (path: string) => writeFileSync(path, 'just some text, long enough to be no header'.repeat(50)),
      'SQLITE_NOTADB',
      /not a database/,
    ],
    [
      'database of something else',
      (path: string) => new Database(path).exec('create table t (a)').close(),
      'NOT_A_KEYSTORE',
      /something else/,
    ],
    ['folder', (path: string) => mkdirSync(path), 'EISDIR', /cannot be written/],
  ])('refuses a %s and leaves it as it was', async (_name, make, code, message) => {
    const path = join(temporaryFolder(), 'k.sqlite');
    make(path);
    const before = code === 'EISDIR' ? '' : readFileSync(path, 'latin1');
    const error = await openTestKeystore({ url: `sqlite:${path}` }).catch((thrown) => thrown);
    expect(error).toMatchObject({ name: 'KeystoreOpenError', code });
    expect(error.message).toMatch(message);
    expect(error.message).toContain(path);
    if (before) expect(readFileSync(path, 'latin1')).toBe(before);
  });

  it('refuses a file that a newer version wrote', async () => {
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    const raw = new Database(sqlitePath(url));
    raw.prepare('insert into kysely_migration values (?, ?)').run('9999_from_the_future', 'now');
    raw.close();
    await expect(openTestKeystore({ url })).rejects.toMatchObject({ code: 'NEWER_THAN_CODE' });
  });

  it('refuses another server secret, under which every good key would look wrong', async () => {
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    await expect(openTestKeystore({ url, serverSecret: `${SERVER_SECRET}x` })).rejects.toMatchObject({
      code: 'WRONG_SECRET',
    });
  });

  it('refuses a file it may not write, as an ordinary user', async () => {
    const url = newKeystoreUrl();
    await (await openTestKeystore({ url })).close();
    const path = sqlitePath(url);
    chmodSync(path, 0o444);
    // Root may write anything; it becomes nobody once the code is loaded, which nobody may not be able to read.
    const script = `import('${join(process.cwd(), 'keystore/sqlite.ts')}').then((m) => {
      if (process.getuid?.() === 0) { process.setgid(65534); process.setuid(65534); }
      return m.openSqlite('${path}');
    }).catch((e) => console.log(e.name, e.code, e.message))`;
    expect(await run(script)).toMatch(
      /^KeystoreOpenError (SQLITE_(READONLY|CANTOPEN)\w*|EACCES) .*cannot be written by this user/,
    );
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
