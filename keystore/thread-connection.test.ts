import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { TEST_KEY, temporaryFolder } from '../test/keystores.ts';
import { ThreadConnection } from './thread-connection.ts';

const connections: ThreadConnection[] = [];
afterEach(async () => {
  for (const connection of connections.splice(0)) await connection.close();
  await closeKeystores();
});

function connectionTo(path: string): ThreadConnection {
  const connection = new ThreadConnection(path);
  connections.push(connection);
  return connection;
}

function file(): { path: string; raw: Database.Database } {
  const path = join(temporaryFolder(), 'thread.sqlite');
  const raw = new Database(path);
  raw.exec('pragma journal_mode = wal; create table t (n integer)');
  return { path, raw };
}

const statement = (sql: string, ...parameters: unknown[]) => ({ sql, parameters });

describe('a connection on a thread of its own', () => {
  it('answers as the other one does, and what it commits is there for everybody', async () => {
    const { path, raw } = file();
    const connection = connectionTo(path);
    expect(await connection.executeQuery(statement('insert into t values (?), (?)', 1, 2))).toEqual({
      numAffectedRows: 2n,
      rows: [],
    });
    expect(await connection.executeQuery(statement('select n from t order by n'))).toEqual({
      rows: [{ n: 1 }, { n: 2 }],
    });
    expect(raw.prepare('select sum(n) as n from t').get()).toEqual({ n: 3 });
    raw.close();
  });

  it('says what SQLite says, and works on', async () => {
    const { path, raw } = file();
    const connection = connectionTo(path);
    await expect(connection.executeQuery(statement('insert into nothing values (1)'))).rejects.toMatchObject({
      name: 'KeystoreError',
      code: 'SQLITE_ERROR',
    });
    raw.exec('begin immediate');
    // It never waits for a lock by blocking.
    await expect(connection.executeQuery(statement('begin immediate'))).rejects.toMatchObject({
      code: 'SQLITE_BUSY',
    });
    raw.exec('commit');
    await connection.executeQuery(statement('begin immediate'));
    await connection.executeQuery(statement('commit'));
    raw.close();
  });

  it('tells all who wait when its thread cannot go on, and starts another for the next one', async () => {
    const path = join(temporaryFolder(), 'late.sqlite');
    const connection = connectionTo(path);
    const asked = [1, 2].map(() => connection.executeQuery(statement('select 1 as n')));
    for (const each of await Promise.allSettled(asked))
      expect(each).toMatchObject({
        status: 'rejected',
        reason: { name: 'KeystoreError', code: 'SQLITE_CANTOPEN' },
      });
    new Database(path).exec('create table t (n integer)').close();
    expect(await connection.executeQuery(statement('select 1 as n'))).toEqual({ rows: [{ n: 1 }] });
  });

  it('is closed with the keystore, also when usage is all that was written, and writes no more', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'keystore.sqlite');
    const store = await keystore({ url: `sqlite:${path}` });
    const rows = [{ keyId: 'k', hour: 1, requests: 1, refused: 0 }];
    await store.recordUsage(rows, () => {});
    await store.close();
    // Whoever closes the file last takes these away.
    expect(readdirSync(folder)).toEqual(['keystore.sqlite']);
    await expect(store.recordUsage(rows, () => {})).rejects.toThrow('destroyed');
    expect(readdirSync(folder)).toEqual(['keystore.sqlite']);
  });

  it('adds usage between transactions, whole, and in none of them', async () => {
    const path = join(temporaryFolder(), 'keystore.sqlite');
    const store = await keystore({ url: `sqlite:${path}` });
    const { id } = await store.createKey(TEST_KEY);
    const totals: number[] = [];
    const again = async (write: (n: number) => Promise<unknown>) => {
      for (let n = 0; n < 30; n++) await write(n);
    };
    await Promise.all([
      again((n) =>
        store.recordUsage([{ keyId: id, hour: 1, requests: 1, refused: n % 2 }], (_row, total) =>
          totals.push(total),
        ),
      ),
      again(() => store.markKeysUsed([id])),
    ]);
    expect(totals).toEqual(Array.from({ length: 30 }, (_, n) => n + 1));
    expect(await store.usageByDay({ rootId: id, sinceDay: 0 })).toEqual([
      { day: 0, requests: 30, refused: 15 },
    ]);
  });

  it('lets the process go on while usage and first uses are written', async () => {
    const store = await keystore({});
    const key = await store.createKey(TEST_KEY);
    for (const write of [
      () => store.recordUsage([{ keyId: key.id, hour: 1, requests: 1, refused: 1 }], () => {}),
      () => store.markKeysUsed([key.id]),
    ]) {
      let wentOn = false;
      setImmediate(() => {
        wentOn = true;
      });
      await write();
      expect(wentOn).toBe(true);
    }
    expect((await store.findKeyFacts(key.id))?.firstUsedAt).not.toBeNull();
  });
});
