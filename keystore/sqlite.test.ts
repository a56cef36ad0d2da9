import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, it } from 'vitest';
import { sqlitePath } from '../shared/keystore-url.ts';
import { closeKeystores, keystore, purchase, SESSION } from '../test/keystore-fixtures.ts';
import { newSqliteUrl, openTestKeystore, temporaryFolder } from '../test/keystores.ts';
import { printedBy } from '../test/processes.ts';
import { openAgain } from './sqlite-connection.ts';

afterEach(closeKeystores);

const HAS_IT_TO_HIMSELF = `
  const { parentPort, workerData } = require('node:worker_threads');
  import(workerData.module).then(({ default: Database }) => {
    const raw = new Database(workerData.path);
    raw.pragma('locking_mode = exclusive');
    raw.exec('begin exclusive');
    parentPort.postMessage('has it');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    raw.exec('commit');
    raw.close();
  });
`;

describe('opening a file', () => {
  it('makes the file, its folder and its schema, and opens it again with what was in it', async () => {
    const url = `sqlite:${join(temporaryFolder(), 'a', 'b', 'k.sqlite')}`;
    const first = await openTestKeystore({ url });
    const { purchase: made } = await first.provisionPurchase(purchase());
    await first.close();
    const second = await keystore({ url });
    expect(await second.findPurchase(SESSION)).toEqual(made);
  });

  it('again waits for whoever has it to himself at the moment, as the last one has who closes it', async () => {
    const url = newSqliteUrl();
    await (await openTestKeystore({ url })).close();
    const workerData = { path: sqlitePath(url), module: import.meta.resolve('better-sqlite3') };
    const other = new Worker(HAS_IT_TO_HIMSELF, { eval: true, workerData });
    await once(other, 'message');
    const again = openAgain(sqlitePath(url));
    expect(again.pragma('busy_timeout', { simple: true })).toBe(0);
    again.close();
    await once(other, 'exit');
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

  it('refuses a file it may not write, as an ordinary user', async () => {
    const url = newSqliteUrl();
    await (await openTestKeystore({ url })).close();
    const path = sqlitePath(url);
    chmodSync(path, 0o444);
    // Root may write anything; it becomes nobody once the code is loaded, which nobody may not be able to read.
    const script = `import('${join(process.cwd(), 'keystore/sqlite.ts')}').then((m) => {
      if (process.getuid?.() === 0) { process.setgid(65534); process.setuid(65534); }
      return m.openSqlite('${path}');
    }).catch((e) => console.log(e.name, e.code, e.message))`;
    expect(await printedBy(script)).toMatch(
      /^KeystoreOpenError (SQLITE_(READONLY|CANTOPEN)\w*|EACCES) .*cannot be written by this user/,
    );
  });

  it('keeps its files from other users', async () => {
    const url = newSqliteUrl();
    const store = await keystore({ url });
    await store.provisionPurchase(purchase());
    for (const suffix of ['', '-wal', '-shm'])
      expect(statSync(sqlitePath(url) + suffix).mode & 0o077, suffix).toBe(0);
  });
});
